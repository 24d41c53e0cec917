/* A view is filled once and then only read. The next version is built in a spare view: a delta on a copy of its base,
 * a snapshot from nothing. The spare one held a version not long ago, so that the copy is of the rows that moved
 * since. */
#include "worker/mixture_cache.h"

#include <stdlib.h>
#include <string.h>

void mixture_cache_init(struct mixture_cache *c, uint32_t K, uint32_t D, enum covariance covariance)
{
    memset(c, 0, sizeof *c);
    c->K = K;
    c->D = D;
    c->covariance = covariance;
    c->line = 1;
}

void mixture_cache_clear(struct mixture_cache *c)
{
    mixture_cache_unref(c, &c->newest);
    mixture_cache_unref(c, &c->previous);
    c->line++;
}

void mixture_cache_fini(struct mixture_cache *c)
{
    mixture_cache_clear(c);
    while (c->spare) {
        struct mixture_held *held = c->spare;
        c->spare = held->next;
        mixture_view_free(&held->view);
        free(held);
    }
}

/* A view that nobody reads, with one reference. */
static struct mixture_held *take_spare(struct mixture_cache *c)
{
    struct mixture_held *held = c->spare;
    if (held) {
        c->spare = held->next;
    } else {
        held = calloc(1, sizeof *held);
        if (held && (mixture_view_new(c->K, c->D, c->covariance, &held->view) != 0 ||
                     mixture_view_keep_moved(held->view) != 0)) {
            mixture_view_free(&held->view);
            free(held);
            held = NULL;
        }
    }
    if (held) {
        held->refs = 1;
        held->next = NULL;
    }
    return held;
}

void mixture_cache_unref(struct mixture_cache *c, struct mixture_held **held)
{
    struct mixture_held *h = *held;
    *held = NULL;
    if (h == NULL || --h->refs > 0)
        return;
    h->next = c->spare;
    c->spare = h;
}

static struct mixture_held **find(struct mixture_cache *c, uint64_t version)
{
    if (c->newest && c->newest->view->version == version)
        return &c->newest;
    if (c->previous && c->previous->view->version == version)
        return &c->previous;
    return NULL;
}

bool mixture_cache_newest(const struct mixture_cache *c, uint64_t *version)
{
    if (c->newest)
        *version = c->newest->view->version;
    return c->newest != NULL;
}

bool mixture_cache_has(const struct mixture_cache *c, uint64_t version)
{
    return find((struct mixture_cache *)c, version) != NULL;
}

struct mixture_held *mixture_cache_ref(struct mixture_cache *c, uint64_t version)
{
    struct mixture_held **held = find(c, version);
    if (held == NULL)
        return NULL;
    (*held)->refs++;
    return *held;
}

/* Where a version belongs; NULL when it is held already or too old to be of use. */
static struct mixture_held **place_for(struct mixture_cache *c, uint64_t version)
{
    if (c->newest == NULL || version > c->newest->view->version)
        return &c->newest;
    if (version + 1 == c->newest->view->version && !mixture_cache_has(c, version))
        return &c->previous;
    return NULL;
}

static void install(struct mixture_cache *c, struct mixture_held **place, struct mixture_held *held)
{
    if (place == &c->newest) {
        mixture_cache_unref(c, &c->previous);
        c->previous = c->newest;
    } else {
        mixture_cache_unref(c, place);
    }
    *place = held;
}

/* Makes `held` what `base` is. */
static int fill(const struct mixture_cache *c, struct mixture_held *held, const struct mixture_held *base)
{
    bool follows = held->line == c->line && held->view->version <= base->view->version;
    if (!follows)
        return mixture_view_copy(held->view, base->view);
    mixture_view_follow(held->view, base->view);
    return 0;
}

int mixture_cache_apply(struct mixture_cache *c, const struct msg *m, enum reason *why)
{
    struct mixture_held **place = place_for(c, m->step), **base = NULL, *held;
    if (place == NULL)
        return 0;
    if (m->encoding == MIXTURE_DELTA && (base = find(c, m->seq)) == NULL)
        return ERR_STATE;
    if ((held = take_spare(c)) == NULL)
        return ERR_MEMORY;
    int rc = base ? fill(c, held, *base) : 0;
    held->line = base ? c->line : 0; /* unless the message fills it */
    if (rc == 0)
        rc = mixture_apply(held->view, m, why);
    if (rc == 0)
        held->line = c->line;
    if (rc == 0)
        install(c, place, held);
    else
        mixture_cache_unref(c, &held);
    return rc;
}
