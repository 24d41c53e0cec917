/* What a checkpoint keeps of a configuration, and how another one differs from it. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "proto/run_config.h"

size_t run_config_differences(const struct run_config *was, const struct run_config *is, char *text, size_t size)
{
    size_t found = 0, used = 0;
    text[0] = '\0';
    for (size_t i = 0; i < run_config_key_count; i++) {
        const struct config_key *key = &run_config_keys[i];
        char before[1200], now[1200];
        config_value(key, was, before, sizeof before);
        config_value(key, is, now, sizeof now);
        if (!run_config_shapes_result(key->name) || strcmp(before, now) == 0)
            continue;
        found++;
        if (used < size)
            used += (size_t)snprintf(text + used, size - used, "%s%s = %.64s, not %.64s", used ? "; " : "", key->name,
                                     before, now);
    }
    return found;
}

/* Back to their defaults: addresses, directories, intervals, the number of threads. A checkpoint must not depend on
 * them. */
static void drop_circumstances(struct run_config *c)
{
    struct run_config defaults;
    memset(&defaults, 0, sizeof defaults);
    config_defaults(run_config_keys, run_config_key_count, &defaults);
    memcpy(c->run.out, defaults.run.out, sizeof c->run.out);
    c->run.checkpoint_every = defaults.run.checkpoint_every;
    c->run.checkpoint_keep = defaults.run.checkpoint_keep;
    c->run.checkpoint_keep_every = defaults.run.checkpoint_keep_every;
    c->run.log_every = defaults.run.log_every;
    c->run.accept_data = defaults.run.accept_data;
    c->run.numerics = defaults.run.numerics;
    c->augment.preset = defaults.augment.preset; /* its values are all there */
    c->stream = defaults.stream;
    c->worker = defaults.worker;
    c->net = defaults.net;
    c->keys = defaults.keys;
    c->redis = defaults.redis;
    c->metrics = defaults.metrics;
    c->eval.every = defaults.eval.every;
}

char *run_config_record(const struct run_config *c, size_t *size)
{
    char *text = NULL;
    struct run_config kept = *c;
    FILE *f = open_memstream(&text, size);
    if (f == NULL)
        return NULL;
    drop_circumstances(&kept);
    config_write(run_config_keys, run_config_key_count, &kept, f);
    if (fclose(f) == 0)
        return text;
    free(text);
    return NULL;
}

int run_config_from_record(struct run_config *c, const void *text, size_t size, const char *origin, struct error *e)
{
    memset(c, 0, sizeof *c);
    config_defaults(run_config_keys, run_config_key_count, c);
    int rc = config_memory(run_config_keys, run_config_key_count, c, text, size, origin, e);
    return rc == 0 ? run_config_check(c, e) : rc;
}

int run_config_explain_difference(const void *record, size_t size, const struct run_config *c, const char *origin,
                                  struct error *e)
{
    struct run_config was;
    struct error ignored;
    char keys[400];
    if (run_config_from_record(&was, record, size, origin, &ignored) != 0 ||
        run_config_differences(&was, c, keys, sizeof keys) == 0)
        return error_set(e, ERR_CONFIG, "%s: written with another configuration, or by another version of Decant",
                         origin);
    return error_set(e, ERR_CONFIG, "%s: its run has %s; resume without changing that, or choose another run.out",
                     origin, keys);
}
