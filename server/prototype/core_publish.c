/* Versions and figures on their way out. A full message is encoded once, when first wanted, and its buffers are
 * shared by all who get it. */
#include "server/prototype/core_publish.h"

#include <string.h>
#include "proto/covariance.h"
#include "server/prototype/core_reply.h"
#include "server/prototype/prices.h"

uint32_t prototype_core_active_window(const struct prototype_core *c)
{
    uint64_t step = (uint64_t)c->config.run.slots * run_config_slot_rows(&c->config);
    if (c->stream != NULL)
        step = (uint64_t)stream_embeddings(c->stream) + 1;
    return (uint32_t)((ACTIVE_EMBEDDINGS + step - 1) / step);
}

static int publish_metrics(struct prototype_core *c, struct msg *m, struct outbox *out)
{
    c->metrics = *m;
    c->metrics_due = true;
    return outbox_publish(out, "metrics", m);
}

bool prototype_core_take_metrics(struct prototype_core *c, struct msg *out)
{
    if (!c->metrics_due)
        return false;
    c->metrics_due = false;
    *out = c->metrics;
    return true;
}

/* In every line of metrics, so that one without says none. */
static void add_rewinds(const struct prototype_core *c, struct msg *m)
{
    if (c->counters.rewinds > 0)
        msg_add_scalar(m, "rewinds", (double)c->counters.rewinds);
}

int prototype_core_publish_step(struct prototype_core *c, struct outbox *out)
{
    const struct mixture *x = c->mixture;
    const struct msg_scalar figures[] = {
        {"version", (double)prototype_core_version(c)},
        {"loglik", c->step.loglik},
        {"beta", x->view->beta},
        {"usage_perplexity", mixture_usage_perplexity(x->usage, x->options.K)},
        {"reseeded", (double)x->reseeded},
        {"dropped", c->step.dropped},
        {"active", mixture_active_percent(x, prototype_core_active_window(c))},
        {"workers", (double)c->workers.count},
        {"stats_per_s", c->stats_per_s},
    };
    struct msg m;
    prototype_core_reply(c, &m, MSG_METRICS);
    for (size_t i = 0; i < sizeof figures / sizeof figures[0]; i++)
        msg_add_scalar(&m, figures[i].name, figures[i].value);
    if (x->options.merge_distance > 0)
        msg_add_scalar(&m, "splits", (double)x->splits);
    if (x->options.seeding.N > 0)
        msg_add_scalar(&m, "seeding", x->seeding ? 100.0 * x->seeding->chosen / x->options.K : 100);
    if (x->options.balance > 0)
        msg_add_scalar(&m, "price_spread", prices_spread(x->price, x->options.K));
    add_rewinds(c, &m);
    return publish_metrics(c, &m, out);
}

int prototype_core_on_diagnostics(struct prototype_core *c, const struct diagnostics *d, struct outbox *out)
{
    struct msg m;
    prototype_core_reply(c, &m, MSG_METRICS);
    m.step = d->version;
    msg_add_scalar(&m, "version", (double)d->version);
    for (size_t i = 0; i < DIAGNOSTICS_EPS; i++)
        msg_add_scalar(&m, diagnostics_eps_name[i], d->unique[i]);
    msg_add_scalar(&m, "active", d->active);
    msg_add_scalar(&m, "usage_perplexity", d->perplexity);
    msg_add_scalar(&m, "effective_rank", d->effective_rank);
    add_rewinds(c, &m);
    return publish_metrics(c, &m, out);
}

/* ---- versions ---- */

/* Another message with the same tensors (buffers are shared, not copied). */
static void message_share(const struct msg *from, struct msg *to)
{
    *to = *from;
    for (uint32_t i = 0; i < to->tensor_count; i++)
        buf_ref(to->tensors[i].data);
}

static int encode_view(struct prototype_core *c, const struct mixture_view *v, const uint32_t *rows, uint32_t R,
                       struct msg *m)
{
    prototype_core_reply(c, m, MSG_MIXTURE);
    int rc = mixture_encode(v, rows, R, m);
    if (rc == 0 && c->stepped)
        rc = msg_add_scalar(m, "loglik", c->step.loglik);
    return rc;
}

int prototype_core_full_message(struct prototype_core *c, bool newest, struct msg *m)
{
    struct msg *cached = newest ? &c->snapshot : &c->previous_snapshot;
    if (cached->type == 0) {
        int rc = encode_view(c, newest ? c->mixture->view : c->previous, NULL, 0, cached);
        if (rc != 0)
            return rc;
    }
    message_share(cached, m);
    return 0;
}

/* Bytes of the tensors of the newest version: of all rows, or of those that changed. */
static uint64_t full_bytes(const struct mixture *x)
{
    uint64_t D = x->options.D;
    return x->options.K * 4 * (D + covariance_width(x->options.covariance, D) + 2);
}

static uint64_t delta_bytes(const struct mixture *x)
{
    return x->changed_count * (full_bytes(x) / x->options.K + 4);
}

/* Deltas of a mixture of which few rows move stay deltas: a full message would cost more than all of them. */
static bool publishes_delta(const struct prototype_core *c)
{
    const struct mixture *x = c->mixture;
    bool full_due =
        prototype_core_version(c) % MIXTURE_FULL_EVERY == 0 && c->delta_bytes + delta_bytes(x) >= full_bytes(x);
    return delta_bytes(x) < full_bytes(x) && !full_due;
}

int prototype_core_publish_version(struct prototype_core *c, struct outbox *out)
{
    struct msg m;
    const struct mixture *x = c->mixture;
    bool delta = publishes_delta(c);
    c->delta_bytes = delta ? c->delta_bytes + delta_bytes(x) : 0;
    int rc =
        delta ? encode_view(c, x->view, x->changed, x->changed_count, &m) : prototype_core_full_message(c, true, &m);
    return rc == 0 ? outbox_publish(out, "mixture", &m) : rc;
}

/* Rows of `from` copied into `to`, so that the older view catches up without copying the mixture. */
static void copy_rows(struct mixture_view *to, const struct mixture_view *from, const uint32_t *rows, uint32_t R)
{
    size_t D = from->D, V = covariance_width(from->covariance, D);
    for (uint32_t i = 0; i < R; i++) {
        size_t k = rows[i];
        memcpy(to->mean + k * D, from->mean + k * D, D * sizeof(float));
        memcpy(to->variance + k * V, from->variance + k * V, V * sizeof(float));
        to->weight[k] = from->weight[k];
        to->log_const[k] = from->log_const[k];
    }
    memcpy(to->variance + from->K * V, from->variance + from->K * V,
           covariance_shared_width(from->covariance, D) * sizeof(float));
    to->priced = from->priced;
    memcpy(to->price, from->price, from->K * sizeof *to->price);
    to->version = from->version;
    to->beta = from->beta;
}

void prototype_core_keep_previous(struct prototype_core *c)
{
    const struct mixture *x = c->mixture;
    copy_rows(c->previous, x->view, x->changed, x->changed_count);
    c->has_previous = true;
    msg_fini(&c->previous_snapshot);
    c->previous_snapshot = c->snapshot;
    memset(&c->snapshot, 0, sizeof c->snapshot);
}
