/* One table of names serves both forms. */
#include "server/parameter/step_report.h"

#include <jansson.h>
#include <math.h>
#include <stdbool.h>
#include <stddef.h>

struct field {
    const char *name;
    size_t offset; /* of a double in struct step_report */
};

static const struct field fields[] = {
    {"epoch", offsetof(struct step_report, epoch)},
    {"loss", offsetof(struct step_report, loss)},
    {"consistency", offsetof(struct step_report, consistency)},
    {"entropy", offsetof(struct step_report, entropy)},
    {"lr", offsetof(struct step_report, lr)},
    {"ema", offsetof(struct step_report, ema)},
    {"grad_norm", offsetof(struct step_report, grad_norm)},
    {"images_per_s", offsetof(struct step_report, images_per_s)},
    {"step_ms", offsetof(struct step_report, step_ms)},
    {"workers", offsetof(struct step_report, workers)},
    {"augment_share", offsetof(struct step_report, augment)},
    {"forward_share", offsetof(struct step_report, forward)},
    {"backward_share", offsetof(struct step_report, backward)},
    {"estep_share", offsetof(struct step_report, estep)},
    {"mean_entropy", offsetof(struct step_report, mean_entropy)},
    {"coding_rate", offsetof(struct step_report, coding_rate)},
    {"feature_rate", offsetof(struct step_report, feature_rate)},
};

static const struct field counters[] = {
    {"duplicates", offsetof(struct step_report_counters, duplicates)},
    {"stale", offsetof(struct step_report_counters, stale)},
    {"leases_expired", offsetof(struct step_report_counters, leases_expired)},
    {"rewinds", offsetof(struct step_report_counters, rewinds)},
    {"steps_skipped", offsetof(struct step_report_counters, steps_skipped)},
};

enum { TERMS = 3 /* the last fields: parts that not every loss has */ };
enum { FIELDS = sizeof fields / sizeof fields[0], COUNTERS = sizeof counters / sizeof counters[0] };
_Static_assert(FIELDS + COUNTERS + 1 <= MSG_SCALARS_MAX, "a report fits into one message");

static double field_value(const struct step_report *r, size_t i)
{
    return *(const double *)(const void *)((const char *)r + fields[i].offset);
}

/* Not reported: an unknown epoch, a term that the loss does not have, and what JSON and messages cannot say, like the
 * norm of an overflowed gradient. */
static bool field_known(const struct step_report *r, size_t i)
{
    if (fields[i].offset == offsetof(struct step_report, epoch) && r->epoch < 0.0)
        return false;
    return isfinite(field_value(r, i)) && !(i >= FIELDS - TERMS && field_value(r, i) == 0);
}

static uint64_t counter_value(const struct step_report *r, size_t i)
{
    return *(const uint64_t *)(const void *)((const char *)&r->counters + counters[i].offset);
}

static uint64_t refused_total(const struct step_report *r)
{
    uint64_t total = 0;
    for (unsigned i = 0; i < REASON_END; i++)
        total += r->counters.refused[i];
    return total;
}

void step_report_set_metrics(struct step_report *r, const double metrics[GRADIENT_METRICS_MAX], double slots)
{
    r->loss = metrics[METRIC_LOSS] / slots;
    r->consistency = metrics[METRIC_CONSISTENCY] / slots;
    r->entropy = metrics[METRIC_ENTROPY] / slots;
    r->mean_entropy = metrics[METRIC_MEAN_ENTROPY] / slots;
    r->coding_rate = metrics[METRIC_CODING_RATE] / slots;
    r->feature_rate = metrics[METRIC_FEATURE_RATE] / slots;
    double total = 0.0;
    for (unsigned i = METRIC_AUGMENT_S; i <= METRIC_ESTEP_S; i++)
        total += metrics[i];
    double share = total > 0.0 ? 1.0 / total : 0.0;
    r->augment = metrics[METRIC_AUGMENT_S] * share;
    r->forward = metrics[METRIC_FORWARD_S] * share;
    r->backward = metrics[METRIC_BACKWARD_S] * share;
    r->estep = metrics[METRIC_ESTEP_S] * share;
}

/* Scalars fit by the assertion above, so that adding cannot fail. */
void step_report_to_msg(const struct step_report *r, struct msg *m)
{
    m->step = r->step;
    for (size_t i = 0; i < FIELDS; i++)
        if (field_known(r, i))
            msg_add_scalar(m, fields[i].name, field_value(r, i));
    for (size_t i = 0; i < COUNTERS; i++)
        if (counter_value(r, i) > 0)
            msg_add_scalar(m, counters[i].name, (double)counter_value(r, i));
    if (refused_total(r) > 0)
        msg_add_scalar(m, "refused", (double)refused_total(r));
}

static json_t *refused_to_json(const struct step_report *r)
{
    json_t *object = json_object();
    for (unsigned i = 0; i < REASON_END; i++)
        if (r->counters.refused[i] > 0)
            json_object_set_new(object, reason_name((enum reason)i), json_integer((json_int_t)r->counters.refused[i]));
    return object;
}

char *step_report_to_json(const struct step_report *r)
{
    json_t *object = json_object();
    json_object_set_new(object, "step", json_integer((json_int_t)r->step));
    for (size_t i = 0; i < FIELDS; i++)
        if (field_known(r, i))
            json_object_set_new(object, fields[i].name, json_real(field_value(r, i)));
    for (size_t i = 0; i < COUNTERS; i++)
        if (counter_value(r, i) > 0)
            json_object_set_new(object, counters[i].name, json_integer((json_int_t)counter_value(r, i)));
    if (refused_total(r) > 0)
        json_object_set_new(object, "refused", refused_to_json(r));
    char *text = json_dumps(object, JSON_COMPACT | JSON_REAL_PRECISION(9));
    json_decref(object);
    return text;
}
