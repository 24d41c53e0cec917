#include "tests/sim/explain.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include "worker/session_internal.h"

struct text {
    char *at;
    size_t left, used;
};

static void __attribute__((format(printf, 2, 3))) add(struct text *t, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    int n = vsnprintf(t->at, t->left, format, args);
    va_end(args);
    size_t used = n < 0 || t->left == 0 ? 0 : (size_t)n < t->left ? (size_t)n : t->left - 1;
    t->at += used;
    t->left -= used;
    t->used += used;
}

static void add_link(struct text *t, const struct link *l)
{
    add(t, " %s(up=%d generation=%" PRIu64 " step=%" PRIu64 ")", l->name, l->up, l->generation, l->step);
}

static void add_slot(struct text *t, const struct slot_in_hand *e)
{
    static const char *const phases[] = {"", "queued", "running", "waiting", "done"};
    if (e->phase != SLOT_FREE)
        add(t, " [%" PRIu64 ":%u %s%s%s%s%s]", e->job.step, e->job.slot, phases[e->phase],
            e->stats.held ? " stats" : "", e->gradient.held ? " gradient" : "", e->abandoned ? " abandoned" : "",
            e->again ? " again" : "");
}

size_t session_explain(const struct session *s, char *text, size_t size)
{
    struct text t = {text, size, 0};
    uint64_t newest = 0;
    add_link(&t, &s->parameter);
    add_link(&t, &s->prototype);
    if (s->weights_held)
        add(&t, " weights@%" PRIu64, s->weights_step);
    if (mixture_cache_newest(&s->mixtures, &newest))
        add(&t, " mixture@%" PRIu64, newest);
    add(&t, " requested=%u%s", s->requested, s->init.held ? " init" : "");
    for (uint32_t i = 0; i < s->slots_max; i++)
        add_slot(&t, &s->slots[i]);
    return t.used;
}
