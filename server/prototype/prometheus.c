/* Ratios are 0..1 here, as Prometheus has it; in Redis and in files the same figures are percentages. */
#include "server/prototype/prometheus.h"

static void write_mixture(const struct prototype_core *core, struct exposition *x)
{
    const struct mixture *m = prototype_core_mixture(core);
    exposition_single(x, "decant_components", "gauge", "K, components of the mixture.", m->options.K);
    exposition_single(x, "decant_dimensions", "gauge", "D, dimensions of an embedding.", m->options.D);
    exposition_single(x, "decant_annealing_beta", "gauge", "Annealing exponent of this version.", m->view->beta);
    exposition_single(x, "decant_prototypes_active_ratio", "gauge",
                      "Components that were some embedding's nearest lately.",
                      mixture_active_percent(m, prototype_core_active_window(core)) / 100);
    exposition_single(x, "decant_usage_perplexity", "gauge", "Components that are used evenly: exp of usage's entropy.",
                      mixture_usage_perplexity(m->usage, m->options.K));
    exposition_single(x, "decant_splits_total", "counter", "Components that merged, the freed one splitting another.",
                      (double)m->splits);
    exposition_single(x, "decant_reseeds_total", "counter", "Components moved to novel embeddings.",
                      (double)m->reseeded);
    exposition_single(x, "decant_snapshots_total", "counter", "Full mixtures sent on request.",
                      (double)prototype_core_counters(core)->snapshots);
}

static void write_step(const struct prototype_step *s, struct exposition *x)
{
    if (!(s->count > 0))
        return; /* no step yet */
    exposition_single(x, "decant_loglik_nats", "gauge", "Mean log-likelihood of an embedding of the newest step.",
                      s->loglik);
    exposition_single(x, "decant_responsibility_dropped_ratio", "gauge",
                      "Responsibility mass dropped by mixture.top and mixture.drop.", s->dropped);
}

static void write_stream(const struct prototype_core *core, const struct ledger *l, struct exposition *x)
{
    exposition_single(x, "decant_stream_clients", "gauge", "Clients of the stream that are remembered.", l->count);
    exposition_single(x, "decant_stream_contributions_total", "counter", "Contributions applied, since the run began.",
                      (double)l->contributions);
    exposition_single(x, "decant_stream_contributions_lost_total", "counter",
                      "Contributions that were durable and are not any more: their checkpoint was damaged.",
                      (double)l->lost);
    exposition_single(x, "decant_stream_held_back_total", "counter",
                      "Contributions refused because too much was not durable, or there were too many clients.",
                      (double)prototype_core_counters(core)->held_back);
}

static void write_diagnostics(const struct diagnostics *d, struct exposition *x)
{
    static const char *const eps[DIAGNOSTICS_EPS] = {"0.025", "0.1", "0.25", "0.5"};
    exposition_family(x, "decant_prototypes_unique_ratio", "gauge",
                      "Prototypes in a greedy cover at cosine distance eps.");
    for (size_t i = 0; i < DIAGNOSTICS_EPS; i++)
        exposition_value(x, d->unique[i] / 100, "eps=\"%s\"", eps[i]);
    exposition_single(x, "decant_effective_rank", "gauge", "Effective rank of the prototypes' covariance, 1..D.",
                      d->effective_rank);
    exposition_single(x, "decant_diagnostics_step", "gauge", "Version that the unique ratio and effective rank are of.",
                      (double)d->version);
}

static void write_mirror(const struct mirror *mirror, struct exposition *x)
{
    struct mirror_status s;
    mirror_status(mirror, &s);
    exposition_single(x, "decant_mirror_connected", "gauge", "1 while Redis is connected.", s.connected);
    exposition_single(x, "decant_mirror_superseded", "gauge",
                      "1 while a newer server of the run holds the mirror and this one does not write.", s.superseded);
    exposition_single(x, "decant_mirror_age_seconds", "gauge",
                      "Age of what Redis shows, or since the start before the first update.", s.age_s);
    exposition_single(x, "decant_mirror_lag_seconds", "gauge", "How long the newest update took.", s.lag_s);
    exposition_single(x, "decant_mirror_updates_total", "counter", "Updates that Redis took whole.", (double)s.updates);
    exposition_single(x, "decant_mirror_refused_total", "counter", "Updates of which Redis refused a part.",
                      (double)s.refused);
    exposition_single(x, "decant_mirror_lost_total", "counter", "Connections to Redis that failed or were given up.",
                      (double)s.lost);
    exposition_single(x, "decant_mirror_dropped_total", "counter", "Metrics and events lost because Redis was away.",
                      (double)s.dropped);
}

void prototype_metrics_write(const struct prototype_core *core, const struct diagnostics *d,
                             const struct mirror *mirror, struct exposition *x)
{
    write_mixture(core, x);
    write_step(prototype_core_step(core), x);
    if (prototype_core_ledger(core) != NULL)
        write_stream(core, prototype_core_ledger(core), x);
    if (d != NULL)
        write_diagnostics(d, x);
    if (mirror != NULL)
        write_mirror(mirror, x);
}
