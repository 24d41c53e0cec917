/* Manifest entries and initial values; see parameters.h. */
#include "worker/nn/parameters.h"

#include <stdio.h>
#include "common/rng.h"

static int append(struct manifest *m, const char *prefix, const char *name, struct manifest_entry *entry,
                  struct parameter *out)
{
    entry->clip = true;
    entry->lr_scale = 1;
    int length = snprintf(entry->name, sizeof entry->name, "%s.%s", prefix, name);
    ASSERT(length > 0 && (size_t)length < sizeof entry->name);
    int rc = manifest_add_parameter(m, entry);
    if (rc != 0)
        return rc;
    const struct manifest_entry *added = &m->parameters[m->parameter_count - 1];
    *out =
        (struct parameter){.offset = added->offset, .count = added->count, .index = (uint32_t)m->parameter_count - 1};
    return 0;
}

int parameter_matrix(struct manifest *m, const char *prefix, const char *name, uint64_t rows, uint64_t columns,
                     struct parameter *out)
{
    struct manifest_entry entry = {.rank = 2, .shape = {rows, columns}, .decay = true};
    return append(m, prefix, name, &entry, out);
}

int parameter_vector(struct manifest *m, const char *prefix, const char *name, uint64_t n, struct parameter *out)
{
    struct manifest_entry entry = {.rank = 1, .shape = {n}};
    return append(m, prefix, name, &entry, out);
}

void parameter_fill(const struct parameter *p, real value, real *params)
{
    for (size_t i = 0; i < p->count; i++)
        params[p->offset + i] = value;
}

void parameter_uniform(const struct parameter *p, uint64_t seed, double bound, real *params)
{
    struct rng r;
    rng_open(&r, seed, RNG_INIT, p->index, 0, 0);
    for (size_t i = 0; i < p->count; i++)
        params[p->offset + i] = (real)(bound * (2 * (double)rng_uniform(&r) - 1));
}

void parameter_normal(const struct parameter *p, uint64_t seed, double deviation, real *params)
{
    struct rng r;
    rng_open(&r, seed, RNG_INIT, p->index, 0, 0);
    for (size_t i = 0; i < p->count; i++) {
        double value;
        do
            value = deviation * rng_normal(&r);
        while (value < -2 || value > 2);
        params[p->offset + i] = (real)value;
    }
}
