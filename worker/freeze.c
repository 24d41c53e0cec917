/* By names alone, so that every family of encoders can be frozen. */
#include "worker/freeze.h"

#include <ctype.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

static bool is_head(const struct manifest_entry *entry)
{
    return strncmp(entry->name, "head.", 5) == 0;
}

/* 0 when there is no number in the first part of the name. */
static int64_t stage_of(const struct manifest_entry *entry)
{
    size_t i = 0;
    while (entry->name[i] != '\0' && entry->name[i] != '.' && !isdigit((unsigned char)entry->name[i]))
        i++;
    return strtol(entry->name + i, NULL, 10);
}

static int64_t stages_of(const struct manifest_entry *entries, size_t n)
{
    int64_t most = 0;
    for (size_t i = 0; i < n; i++)
        if (!is_head(&entries[i]) && stage_of(&entries[i]) > most)
            most = stage_of(&entries[i]);
    return most;
}

/* Calls nothing before the first stage "after the last": a final normalisation follows the stages. */
static void freeze_entries(struct manifest_entry *entries, size_t n, int64_t stages)
{
    bool begun = false;
    for (size_t i = 0; i < n; i++) {
        int64_t stage = stage_of(&entries[i]);
        begun = begun || stage > 0;
        bool within = stage > 0 ? stage <= stages : !begun;
        if (is_head(&entries[i]) || (stages > 0 && !within))
            continue;
        entries[i].lr_scale = 0;
        entries[i].clip = false;
        entries[i].momentum = 0;
    }
}

int freeze_stages(struct manifest *m, int64_t stages, struct error *e)
{
    int64_t there = stages_of(m->parameters, m->parameter_count);
    if (stages == 0)
        return 0;
    if (stages > there)
        return error_set(e, ERR_CONFIG,
                         "encoder.freeze = %lld: this encoder has %lld stages; -1 freezes all of it but the head",
                         (long long)stages, (long long)there);
    freeze_entries(m->parameters, m->parameter_count, stages);
    freeze_entries(m->buffers, m->buffer_count, stages);
    return 0;
}

static bool features_learn(const struct manifest *m)
{
    for (size_t i = 0; i < m->parameter_count; i++)
        if (!is_head(&m->parameters[i]) && m->parameters[i].lr_scale > 0)
            return true;
    return false;
}

int freeze_of(struct manifest *m, const struct run_config *c, struct error *e)
{
    int rc = freeze_stages(m, c->encoder.freeze, e);
    if (rc != 0 || c->loss.feature_rate == 0 || features_learn(m))
        return rc;
    return error_set(e, ERR_CONFIG,
                     "loss.feature_rate = %g has no effect on features that encoder.freeze = %lld keeps as they are: "
                     "set it to 0",
                     c->loss.feature_rate, (long long)c->encoder.freeze);
}
