/* Writes EM statistics in one of three exact encodings. Which one is smallest depends on how peaked the
 * responsibilities are: at K = 65 536, D = 256 and 256 samples dense takes 134 MB and factored 0.3 MB. */
#include "proto/covariance.h"
#include "proto/stats.h"

#include <stdlib.h>
#include <string.h>

static int add(struct msg *m, const char *name, enum dtype dtype, uint64_t rows, uint64_t width, const void *data)
{
    uint64_t shape[2] = {rows, width};
    size_t bytes = rows * (width ? width : 1) * dtype_size(dtype);
    return msg_add_tensor(m, name, dtype, width ? 2 : 1, shape, buf_copy(data, bytes));
}

static int encode_factored(const float *h, const struct responsibilities *g, uint32_t D, struct msg *m)
{
    uint32_t Z = g->start[g->N];
    int rc = add(m, "h", DTYPE_F32, g->N, D, h);
    rc = rc ? rc : add(m, "start", DTYPE_U32, (uint64_t)g->N + 1, 0, g->start);
    rc = rc ? rc : add(m, "index", DTYPE_U32, Z, 0, g->index);
    return rc ? rc : add(m, "gamma", DTYPE_F32, Z, 0, g->gamma);
}

/* s2 where components share it. */
static int add_moment(const struct stats_rows *s, struct msg *m)
{
    return s->shared > 0 ? add(m, "s2", DTYPE_F32, s->D, s->D, s->moment) : 0;
}

static int encode_rows(const struct stats_rows *s, struct msg *m)
{
    int rc = add(m, "index", DTYPE_U32, s->R, 0, s->index);
    rc = rc ? rc : add(m, "n", DTYPE_F32, s->R, 0, s->n);
    rc = rc ? rc : add(m, "s1", DTYPE_F32, s->R, s->D, s->s1);
    rc = rc ? rc : add_moment(s, m);
    return rc || s->squares == 0 ? rc : add(m, "s2", DTYPE_F32, s->R, s->squares, s->s2);
}

/* A (K,width) tensor, zero but for the rows that s has. width 0: one float a row. */
static int add_scattered(struct msg *m, const char *name, const struct stats_rows *s, const float *rows, size_t width)
{
    size_t floats = width ? width : 1;
    struct buf *data = buf_new(s->K * floats * sizeof(float));
    if (!data)
        return ERR_MEMORY;
    memset(data->data, 0, data->size);
    for (uint32_t r = 0; r < s->R; r++)
        memcpy(data->data + s->index[r] * floats * sizeof(float), rows + r * floats, floats * sizeof(float));
    return msg_add_tensor(m, name, DTYPE_F32, width ? 2 : 1, (uint64_t[]){s->K, width}, data);
}

static int encode_dense(const struct stats_rows *s, struct msg *m)
{
    int rc = add_scattered(m, "n", s, s->n, 0);
    rc = rc ? rc : add_scattered(m, "s1", s, s->s1, s->D);
    rc = rc ? rc : add_moment(s, m);
    return rc || s->squares == 0 ? rc : add_scattered(m, "s2", s, s->s2, s->squares);
}

static int encode_extra(const float *h, const struct stats_extra *extra, uint32_t N, uint32_t D, struct msg *m)
{
    int rc = 0;
    ASSERT(extra->S <= N);
    if (extra->V > 0)
        rc = add(m, "novel", DTYPE_F32, extra->V, D, extra->novel);
    if (extra->V > 0)
        rc = rc ? rc : add(m, "novel_distance", DTYPE_F32, extra->V, 0, extra->novel_distance);
    if (extra->assigned)
        rc = rc ? rc : add(m, "assigned", DTYPE_U32, N, 0, extra->assigned);
    if (extra->S > 0)
        rc = rc ? rc : add(m, "sample", DTYPE_F32, extra->S, D, h);
    rc = rc ? rc : msg_add_scalar(m, "count", N);
    rc = rc ? rc : msg_add_scalar(m, "loglik", extra->loglik);
    return rc ? rc : msg_add_scalar(m, "dropped", extra->dropped);
}

int stats_encode_as(enum stats_encoding encoding, const float *h, const struct responsibilities *g, uint32_t K,
                    uint32_t D, enum covariance c, const struct stats_extra *extra, struct msg *m)
{
    struct stats_rows s;
    int rc;
    m->encoding = encoding;
    if (encoding == STATS_FACTORED) {
        rc = encode_factored(h, g, D, m);
    } else {
        rc = stats_accumulate(h, g, K, D, c, &s);
        if (rc == 0)
            rc = encoding == STATS_ROWS ? encode_rows(&s, m) : encode_dense(&s, m);
        stats_rows_fini(&s);
    }
    return rc ? rc : encode_extra(h, extra, g->N, D, m);
}

static int count_touched(const struct responsibilities *g, uint32_t K, uint64_t *touched)
{
    uint8_t *seen = calloc(K, 1);
    if (!seen)
        return ERR_MEMORY;
    *touched = 0;
    for (uint32_t z = 0; z < g->start[g->N]; z++) {
        *touched += !seen[g->index[z]];
        seen[g->index[z]] = 1;
    }
    free(seen);
    return 0;
}

int stats_encode(const float *h, const struct responsibilities *g, uint32_t K, uint32_t D, enum covariance c,
                 const struct stats_extra *extra, struct msg *m)
{
    uint64_t R, N = g->N, Z = g->start[g->N], sums = D + covariance_square_width(c, D);
    int rc = count_touched(g, K, &R);
    if (rc)
        return rc;
    uint64_t shared = covariance_shared_width(c, D);
    uint64_t dense = K * (1 + sums) + shared; /* in units of four bytes */
    uint64_t rows = R * (2 + sums) + shared;
    uint64_t factored = N * D + N + 1 + 2 * Z;
    enum stats_encoding smallest = dense <= rows ? STATS_DENSE : STATS_ROWS;
    if (factored < dense && factored < rows)
        smallest = STATS_FACTORED;
    return stats_encode_as(smallest, h, g, K, D, c, extra, m);
}
