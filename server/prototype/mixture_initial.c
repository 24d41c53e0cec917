/* Which rows of the file become which components, and what becomes of the rest. */
#include "server/prototype/mixture_initial.h"

#include <inttypes.h>
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>
#include "common/safetensors.h"
#include "common/vecmath.h"
#include "proto/provenance.h"
#include "server/prototype/mixture_file.h"
#include "server/prototype/mixture_place.h"

/* What a file offers; what it does not have is NULL. */
struct offer {
    uint64_t K;
    const float *mean;                    /* (K,D), rows of any length but 0 */
    const double *mass, *s1, *s2, *usage; /* all or none */
    const double *price;                  /* (K) of the balanced E-step */
    const float *weight;                  /* (K) */
};

static const void *offered(const struct safetensors *f, const char *name, enum dtype dtype, uint32_t rank, uint64_t K,
                           uint64_t D)
{
    const uint64_t shape[2] = {K, D};
    struct error ignored;
    const struct tensor_view *t = safetensors_find(f, name, dtype, rank, shape, &ignored);
    return t ? t->data : NULL;
}

static const struct tensor_view *matrix_of(const struct safetensors *f)
{
    for (size_t i = 0; i < f->tensor_count; i++) {
        const struct tensor_view *t = &f->tensors[i];
        if (t->dtype == DTYPE_F32 && t->rank == 2 &&
            (strcmp(t->name, "mean") == 0 || strcmp(t->name, "prototypes") == 0))
            return t;
    }
    return NULL;
}

static int read_offer(const struct safetensors *f, uint64_t D, struct offer *out, struct error *e)
{
    const struct tensor_view *t = matrix_of(f);
    *out = (struct offer){0};
    if (t == NULL)
        return error_set(e, ERR_FORMAT, "it has neither \"mean\" nor \"prototypes\", F32 of two dimensions");
    if (t->shape[1] != D)
        return error_set(e, ERR_CONFIG, "its prototypes have %" PRIu64 " dimensions, mixture.dimensions = %" PRIu64,
                         t->shape[1], D);
    uint64_t K = t->shape[0];
    *out = (struct offer){.K = K, .mean = t->data, .weight = offered(f, "weight", DTYPE_F32, 1, K, D)};
    out->mass = offered(f, "mass", DTYPE_F64, 1, K, D);
    out->s1 = offered(f, "s1", DTYPE_F64, 2, K, D);
    out->s2 = offered(f, "s2", DTYPE_F64, 2, K, D);
    out->usage = offered(f, "usage", DTYPE_F64, 1, K, D);
    out->price = offered(f, "price", DTYPE_F64, 1, K, D);
    if (out->s1 == NULL || out->s2 == NULL || out->usage == NULL)
        out->mass = NULL;
    return vec_all_finite(out->mean, K * D) ? 0
                                            : error_set(e, ERR_FORMAT, "a prototype holds a value that is not finite");
}

/* mass where there is one: it tells components apart that a uniform prior weighs alike. */
static double heaviness(const struct offer *o, uint64_t k)
{
    double h = o->mass ? o->mass[k] : o->weight ? (double)o->weight[k] : 0;
    return isnan(h) ? 0 : h;
}

static int heavier_first(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x < y) - (x > y);
}

/* The heaviest `wanted` rows, of equals the earlier, in their order. rows: (wanted). */
static int choose_rows(const struct offer *o, uint32_t wanted, uint64_t *rows)
{
    bool *chosen = calloc(o->K, sizeof *chosen);
    if (chosen == NULL)
        return ERR_MEMORY;
    double *sorted = malloc(o->K * sizeof *sorted);
    if (sorted == NULL) {
        free(chosen);
        return ERR_MEMORY;
    }
    for (uint64_t k = 0; k < o->K; k++)
        sorted[k] = heaviness(o, k);
    qsort(sorted, o->K, sizeof *sorted, heavier_first);
    double least = sorted[wanted - 1];
    uint32_t n = 0;
    for (uint64_t k = 0; k < o->K; k++)
        n += chosen[k] = heaviness(o, k) > least;
    for (uint64_t k = 0; n < wanted && k < o->K; k++)
        if (!chosen[k] && heaviness(o, k) == least)
            n += chosen[k] = true;
    n = 0;
    for (uint64_t k = 0; k < o->K; k++)
        if (chosen[k])
            rows[n++] = k;
    free(sorted);
    free(chosen);
    return 0;
}

/* Row `from` of the file becomes component k. */
static void take_row(const struct offer *o, uint64_t from, struct mixture *m, uint32_t k)
{
    size_t D = m->options.D;
    if (o->mass == NULL) {
        for (size_t d = 0; d < D; d++)
            m->scratch[d] = o->mean[from * D + d];
        mixture_place(m, k, m->scratch);
        return;
    }
    m->mass[k] = o->mass[from];
    m->usage[k] = o->usage[from];
    m->price[k] = o->price && m->options.balance > 0 ? o->price[from] : 0;
    memcpy(m->s1 + k * D, o->s1 + from * D, D * sizeof *m->s1);
    memcpy(m->s2 + k * D, o->s2 + from * D, D * sizeof *m->s2);
}

/* Usage is a share of the embeddings. */
static int share_usage(struct mixture *m, struct error *e)
{
    double total = 0;
    for (uint32_t k = 0; k < m->options.K; k++)
        total += m->usage[k];
    if (!(total > 0) || !isfinite(total))
        return error_set(e, ERR_FORMAT, "its usage adds up to %g", total);
    for (uint32_t k = 0; k < m->options.K; k++)
        m->usage[k] /= total;
    return 0;
}

static int start_from(const struct safetensors *f, uint64_t seed, struct mixture *m, uint32_t *taken, struct error *e)
{
    struct offer o;
    int rc = read_offer(f, m->options.D, &o, e);
    if (rc != 0)
        return rc;
    /* Other forms keep other squares, or none: of these only the means begin. */
    if (m->options.covariance != COVARIANCE_SPHERICAL && m->options.covariance != COVARIANCE_DIAGONAL)
        o.mass = NULL;
    *taken = o.K < m->options.K ? (uint32_t)o.K : m->options.K;
    uint64_t *rows = malloc((size_t)*taken * sizeof *rows);
    rc = rows ? choose_rows(&o, *taken, rows) : ERR_MEMORY;
    if (rc == 0) {
        mixture_start(m, seed);
        for (uint32_t k = 0; k < *taken; k++)
            take_row(&o, rows[k], m, k);
    } else {
        error_set(e, rc, "out of memory for %u components", *taken);
    }
    free(rows);
    if (rc == 0)
        rc = share_usage(m, e);
    if (rc != 0)
        return rc;
    mixture_restore(m, 0);
    return mixture_file_check(m, e);
}

int mixture_initial_read(const char *path, uint64_t seed, struct mixture *m, uint32_t *taken, uint64_t *fingerprint,
                         struct error *e)
{
    struct safetensors f;
    struct error why = {0};
    int rc = safetensors_read(path, &f, e);
    if (rc != 0)
        return rc;
    *fingerprint = fingerprint_of(XXH64(f.file->data, f.file->size, 0));
    rc = start_from(&f, seed, m, taken, &why);
    safetensors_fini(&f);
    return rc != 0 ? error_set(e, rc, "%.200s: %.300s", path, why.text) : 0;
}
