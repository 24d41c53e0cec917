/* Reading of figures; those of a checkpoint are computed from its tensors. */
#include "cli/run_figures.h"

#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include "cli/prototype_scores.h"
#include "cli/prototype_set.h"
#include "common/cosine.h"

static struct run_figure *find_figure(const struct run_figures *f, const char *name)
{
    for (size_t i = 0; i < f->count; i++)
        if (strcmp(f->items[i].name, name) == 0)
            return (struct run_figure *)&f->items[i];
    return NULL;
}

void run_figures_set(struct run_figures *f, const char *name, const char *format, ...)
{
    struct run_figure *item = find_figure(f, name);
    if (!item && f->count == FIGURES_MAX)
        return;
    if (!item)
        item = &f->items[f->count++];
    va_list args;
    va_start(args, format);
    snprintf(item->name, sizeof item->name, "%s", name);
    vsnprintf(item->value, sizeof item->value, format, args);
    va_end(args);
}

static int read_redis(struct run_source *s, struct run_figures *out, struct error *e)
{
    redisReply *reply;
    int rc = run_source_command(s, REDIS_REPLY_ARRAY, &reply, e, "HGETALL decant:%s", s->run);
    if (rc != 0)
        return rc;
    for (size_t i = 0; i + 1 < reply->elements; i += 2)
        if (reply->element[i]->type == REDIS_REPLY_STRING && reply->element[i + 1]->type == REDIS_REPLY_STRING)
            run_figures_set(out, reply->element[i]->str, "%s", reply->element[i + 1]->str);
    freeReplyObject(reply);
    return 0;
}

static double usage_perplexity(const double *usage, uint32_t K)
{
    double total = 0, entropy = 0;
    for (uint32_t k = 0; k < K; k++)
        total += usage[k];
    for (uint32_t k = 0; k < K; k++)
        if (usage[k] > 0)
            entropy -= usage[k] / total * log(usage[k] / total);
    return exp(entropy);
}

static int add_prototypes(const struct checkpoint *c, struct run_figures *out, struct error *e)
{
    static const char *const names[SCORE_EPS] = {"unique_0025", "unique_01", "unique_025", "unique_05"};
    struct prototype_set set;
    uint32_t counts[SCORE_EPS];
    int rc = prototype_set_load(c, &set, e);
    if (rc != 0)
        return rc;
    rc = cosine_cover(set.unit, set.K, set.D, score_eps, SCORE_EPS, counts);
    for (int i = 0; rc == 0 && i < SCORE_EPS; i++)
        run_figures_set(out, names[i], "%.9g", 100.0 * counts[i] / set.K);
    if (set.usage)
        run_figures_set(out, "perplexity", "%.9g", usage_perplexity(set.usage, set.K));
    prototype_set_fini(&set);
    return rc == 0 ? 0 : error_set(e, rc, "out of memory for the prototypes' cover");
}

static int read_checkpoint(const struct checkpoint *c, struct run_figures *out, struct error *e)
{
    const char *total = safetensors_meta(&c->encoder, "total_steps");
    run_figures_set(out, "step", "%" PRIu64, c->step);
    if (total)
        run_figures_set(out, "total_steps", "%s", total);
    run_figures_set(out, "prototypes", "%s", word_of_loss_prototypes(c->config.loss.prototypes));
    run_figures_set(out, "K", "%" PRId64, c->config.mixture.components);
    run_figures_set(out, "D", "%" PRId64, c->config.mixture.dimensions);
    const char *const of_mixture[] = {"covariance", "beta", "reseeded"};
    for (size_t i = 0; c->has_mixture && i < sizeof of_mixture / sizeof of_mixture[0]; i++)
        if (safetensors_meta(&c->mixture, of_mixture[i]))
            run_figures_set(out, of_mixture[i], "%s", safetensors_meta(&c->mixture, of_mixture[i]));
    return add_prototypes(c, out, e);
}

int run_figures_read(struct run_source *s, struct run_figures *out, struct error *e)
{
    out->count = 0;
    return s->redis ? read_redis(s, out, e) : read_checkpoint(&s->checkpoint, out, e);
}

const char *run_figures_find(const struct run_figures *f, const char *name)
{
    const struct run_figure *item = find_figure(f, name);
    return item ? item->value : NULL;
}

double run_figures_number(const struct run_figures *f, const char *name)
{
    const char *text = run_figures_find(f, name);
    char *end = NULL;
    double number = text ? strtod(text, &end) : NAN;
    return text && end != text && *end == '\0' ? number : NAN;
}
