/* From a message of statistics to a sum, and from a sum to the next version. */
#include "server/prototype/core_step.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include "common/log.h"
#include "server/prototype/core_publish.h"
#include "server/prototype/core_reply.h"

/* Sums of slots stay finite, and so can be published, whatever was sent. */
static const double loglik_max = 1e30;

void prototype_core_drop_rows(void *value, void *context)
{
    (void)context;
    stats_rows_fini(value);
    free(value);
}

double prototype_core_beta(const struct prototype_core *c, uint64_t version)
{
    const struct run_config *config = &c->config;
    if (config->run.mode != MODE_STREAM)
        return mixture_beta(config, version, c->total_steps);
    return config->run.steps > 0 ? mixture_beta(config, version, (uint64_t)config->run.steps)
                                 : config->mixture.beta_end;
}

static bool is_checkpoint_due(const struct prototype_core *c)
{
    int64_t every = c->config.run.checkpoint_every;
    return prototype_core_version(c) == c->total_steps ||
           (every > 0 && prototype_core_version(c) % (uint64_t)every == 0);
}

int prototype_core_finish_step(struct prototype_core *c, const struct stats_rows *sum, struct outbox *out)
{
    prototype_core_keep_previous(c);
    int rc = mixture_em_step(c->mixture, sum, prototype_core_beta(c, prototype_core_version(c) + 1));
    if (c->mixture->seeded > 0)
        log_info("event=seeded step=%" PRIu64 " components=%u of=%u embeddings=%u", prototype_core_version(c),
                 c->mixture->seeded, c->mixture->options.K, c->mixture->options.seeding.N);
    c->stepped = true;
    c->checkpoint_due = c->checkpoint_due || is_checkpoint_due(c);
    c->step = (struct prototype_step){sum->loglik / sum->count, sum->dropped / sum->count, sum->count};
    if (rc == 0)
        rc = prototype_core_publish_version(c, out);
    if (rc == 0 && prototype_core_version(c) % (uint64_t)c->config.run.log_every == 0)
        rc = prototype_core_publish_step(c, out);
    return rc;
}

static int decode(const struct prototype_core *c, const struct msg *m, struct stats_rows **out, enum reason *why,
                  struct error *detail)
{
    const struct mixture_options *o = &c->mixture->options;
    uint32_t rows_max = (c->stream ? 1 : m->slots) * prototype_core_slot_rows(c);
    struct stats_rows *s = malloc(sizeof *s);
    if (s == NULL)
        return ERR_MEMORY;
    stats_rows_init(s);
    int rc = stats_decode(m, o->K, o->D, o->covariance, rows_max, s, why, detail);
    if (rc == 0 && !(s->count > 0 && s->count <= rows_max && fabs(s->loglik) < loglik_max)) {
        *why = REASON_BAD_VALUE;
        rc = error_set(detail, ERR_FORMAT, "loglik = %.6g", s->loglik);
    }
    uint64_t sample = c->stream ? 0 : run_config_init_rows(&c->config, m->step, m->slot, m->slots);
    if (rc == 0 && s->S != sample) {
        *why = REASON_BAD_SHAPE;
        rc = error_set(detail, ERR_FORMAT, "sample has %u rows, in this step these slots have %" PRIu64, s->S, sample);
    }
    if (rc != 0)
        prototype_core_drop_rows(s, NULL);
    else
        *out = s;
    return rc;
}

int prototype_core_take_rows(struct prototype_core *c, const struct peer *from, const struct msg *m,
                             struct stats_rows **rows, struct outbox *out)
{
    enum reason why = REASON_BAD_VALUE;
    struct error detail = {0};
    *rows = NULL;
    int rc = decode(c, m, rows, &why, &detail);
    return rc == ERR_FORMAT ? prototype_core_refuse(c, from, m, why, detail.text, out) : rc;
}
