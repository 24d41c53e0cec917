/* Reads EM statistics that somebody sent. Everything that the M-step relies on is proved here: shapes, indices, masses,
 * signs, magnitudes. What passes may still be a lie about the data, but it cannot break the mixture's arithmetic. */
#include "proto/stats.h"

#include <math.h>
#include <string.h>
#include "proto/stats_wire.h"

struct decoder {
    const struct msg *m;
    uint32_t rows_max;
    uint32_t N;             /* embeddings: the scalar `count` */
    struct stats_rows *out; /* K and D are set */
    enum reason *why;
};

static int refuse(const struct decoder *d, enum reason reason)
{
    *d->why = reason;
    return ERR_FORMAT;
}

/* The elements of a tensor of exactly that shape; width 0 means rank 1. NULL with *why. */
static const void *elements(const struct decoder *d, const char *name, enum dtype dtype, uint64_t rows, uint64_t width)
{
    uint64_t shape[2] = {rows, width};
    const struct msg_tensor *t = msg_tensor_checked(d->m, name, dtype, width ? 2 : 1, shape, d->why);
    return t ? t->data->data : NULL;
}

/* The first dimension of a tensor, which the message is free to choose up to `max`. */
static int rows_of(const struct decoder *d, const char *name, enum dtype dtype, uint64_t max, uint32_t *rows)
{
    const struct msg_tensor *t = msg_tensor(d->m, name, dtype, d->why);
    if (!t)
        return ERR_FORMAT;
    if (t->rank == 0)
        return refuse(d, REASON_BAD_SHAPE);
    if (t->shape[0] > max)
        return refuse(d, REASON_TOO_LARGE);
    *rows = (uint32_t)t->shape[0];
    return 0;
}

static bool within(const float *x, size_t n, float low, float high)
{
    for (size_t i = 0; i < n; i++)
        if (!(x[i] >= low && x[i] <= high))
            return false;
    return true;
}

static bool indices_below(const uint32_t *index, size_t n, uint32_t limit)
{
    for (size_t i = 0; i < n; i++)
        if (index[i] >= limit)
            return false;
    return true;
}

static bool strictly_ascending(const uint32_t *index, size_t n)
{
    for (size_t i = 1; i < n; i++)
        if (index[i] <= index[i - 1])
            return false;
    return true;
}

/* ---- dense and rows ---- */

struct sums { /* of `rows` components */
    const float *n, *s1, *s2;
    uint32_t rows;
};

static int read_sums(const struct decoder *d, uint32_t rows, struct sums *s)
{
    s->rows = rows;
    s->n = elements(d, "n", DTYPE_F32, rows, 0);
    s->s1 = s->n ? elements(d, "s1", DTYPE_F32, rows, d->out->D) : NULL;
    s->s2 = s->s1 ? elements(d, "s2", DTYPE_F32, rows, d->out->D) : NULL;
    return s->s2 ? 0 : ERR_FORMAT;
}

/* A component without mass has nothing else either. */
static bool row_possible(const struct sums *s, uint32_t r, size_t D)
{
    float bound = s->n[r] * STATS_VALUE_MAX * 1.001f; /* the sums were rounded */
    return s->n[r] >= 0 && within(s->s1 + r * D, D, -bound, bound) &&
           within(s->s2 + r * D, D, 0, bound * STATS_VALUE_MAX);
}

static int check_sums(const struct decoder *d, const struct sums *s, uint32_t *with_mass)
{
    double mass = 0;
    *with_mass = 0;
    for (uint32_t r = 0; r < s->rows; r++) {
        if (!row_possible(s, r, d->out->D))
            return refuse(d, REASON_BAD_VALUE);
        mass += s->n[r];
        *with_mass += s->n[r] > 0;
    }
    return fabs(mass - d->N) <= STATS_MASS_TOLERANCE * d->N ? 0 : refuse(d, REASON_BAD_VALUE);
}

/* Rows with mass into out; index NULL: row r is component r. */
static int take_sums(const struct decoder *d, const struct sums *s, const uint32_t *index, uint32_t R)
{
    size_t D = d->out->D;
    int rc = stats_reserve_rows(d->out, R);
    uint32_t to = 0;
    for (uint32_t r = 0; rc == 0 && r < s->rows; r++) {
        if (!(s->n[r] > 0))
            continue;
        d->out->index[to] = index ? index[r] : r;
        d->out->n[to] = s->n[r];
        memcpy(d->out->s1 + to * D, s->s1 + r * D, D * sizeof(float));
        memcpy(d->out->s2 + to * D, s->s2 + r * D, D * sizeof(float));
        to++;
    }
    return rc;
}

static int decode_dense(const struct decoder *d)
{
    struct sums s;
    uint32_t R;
    int rc = read_sums(d, d->out->K, &s);
    rc = rc ? rc : check_sums(d, &s, &R);
    return rc ? rc : take_sums(d, &s, NULL, R);
}

static int decode_rows(const struct decoder *d)
{
    struct sums s;
    uint32_t rows, with_mass;
    int rc = rows_of(d, "index", DTYPE_U32, d->out->K, &rows);
    if (rc)
        return rc;
    const uint32_t *index = elements(d, "index", DTYPE_U32, rows, 0);
    if (!index)
        return ERR_FORMAT;
    if (!indices_below(index, rows, d->out->K))
        return refuse(d, REASON_OUT_OF_RANGE);
    if (!strictly_ascending(index, rows))
        return refuse(d, REASON_BAD_VALUE);
    rc = read_sums(d, rows, &s);
    rc = rc ? rc : check_sums(d, &s, &with_mass);
    if (rc)
        return rc;
    return with_mass == rows ? take_sums(d, &s, index, rows) : refuse(d, REASON_BAD_VALUE);
}

/* ---- factored ---- */

static bool row_sums_to_one(const float *gamma, size_t n)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += gamma[i];
    return fabs(sum - 1) <= STATS_MASS_TOLERANCE;
}

static int check_responsibilities(const struct decoder *d, const struct responsibilities *g, uint32_t Z)
{
    if (g->start[0] != 0 || g->start[g->N] != Z)
        return refuse(d, REASON_BAD_VALUE);
    for (uint32_t i = 0; i < g->N; i++)
        if (g->start[i + 1] < g->start[i]) /* with the two ends: nothing points outside */
            return refuse(d, REASON_BAD_VALUE);
    if (!indices_below(g->index, Z, d->out->K))
        return refuse(d, REASON_OUT_OF_RANGE);
    if (!within(g->gamma, Z, 0, 1))
        return refuse(d, REASON_BAD_VALUE);
    for (uint32_t i = 0; i < g->N; i++) {
        uint32_t from = g->start[i], n = g->start[i + 1] - from;
        if (!strictly_ascending(g->index + from, n) || !row_sums_to_one(g->gamma + from, n))
            return refuse(d, REASON_BAD_VALUE);
    }
    return 0;
}

static int decode_factored(const struct decoder *d)
{
    struct responsibilities g = {.N = d->N};
    uint32_t Z;
    int rc = rows_of(d, "index", DTYPE_U32, UINT32_MAX, &Z);
    if (rc)
        return rc;
    const float *h = elements(d, "h", DTYPE_F32, d->N, d->out->D);
    g.start = h ? elements(d, "start", DTYPE_U32, (uint64_t)d->N + 1, 0) : NULL;
    g.index = g.start ? elements(d, "index", DTYPE_U32, Z, 0) : NULL;
    g.gamma = g.index ? elements(d, "gamma", DTYPE_F32, Z, 0) : NULL;
    if (!g.gamma)
        return ERR_FORMAT;
    if (!within(h, (size_t)d->N * d->out->D, -STATS_VALUE_MAX, STATS_VALUE_MAX))
        return refuse(d, REASON_BAD_VALUE);
    rc = check_responsibilities(d, &g, Z);
    return rc ? rc : stats_accumulate(h, &g, d->out->K, d->out->D, d->out);
}

/* ---- what goes with each of them ---- */

static int decode_count(struct decoder *d)
{
    double count = msg_scalar(d->m, "count", 0);
    if (!(count >= 1) || count > d->rows_max)
        return refuse(d, REASON_OUT_OF_RANGE);
    if (count != floor(count))
        return refuse(d, REASON_BAD_VALUE);
    d->N = (uint32_t)count;
    return 0;
}

static bool has(const struct decoder *d, const char *name)
{
    for (uint32_t i = 0; i < d->m->tensor_count; i++)
        if (strcmp(d->m->tensors[i].name, name) == 0)
            return true;
    return false;
}

struct extra { /* as received; absent tensors are empty */
    const float *novel, *distance;
    const uint32_t *assigned;
    uint32_t V, A;
};

static int read_novel(const struct decoder *d, struct extra *x)
{
    if (!has(d, "novel") && !has(d, "novel_distance"))
        return 0;
    int rc = rows_of(d, "novel", DTYPE_F32, STATS_NOVEL_MAX, &x->V);
    if (rc)
        return rc;
    x->novel = elements(d, "novel", DTYPE_F32, x->V, d->out->D);
    x->distance = x->novel ? elements(d, "novel_distance", DTYPE_F32, x->V, 0) : NULL;
    if (!x->distance)
        return ERR_FORMAT;
    bool valid = within(x->novel, (size_t)x->V * d->out->D, -STATS_VALUE_MAX, STATS_VALUE_MAX) &&
                 within(x->distance, x->V, -0.001f, 2.001f); /* 1 - cosine, rounded */
    return valid ? 0 : refuse(d, REASON_BAD_VALUE);
}

static int read_assigned(const struct decoder *d, struct extra *x)
{
    if (!has(d, "assigned"))
        return 0;
    x->A = d->N;
    x->assigned = elements(d, "assigned", DTYPE_U32, x->A, 0);
    if (!x->assigned)
        return ERR_FORMAT;
    return indices_below(x->assigned, x->A, d->out->K) ? 0 : refuse(d, REASON_OUT_OF_RANGE);
}

static int decode_extra(const struct decoder *d)
{
    struct extra x = {0};
    struct stats_rows *out = d->out;
    double dropped = msg_scalar(d->m, "dropped", 0);
    int rc = dropped >= 0 && dropped <= d->N ? 0 : refuse(d, REASON_BAD_VALUE);
    rc = rc ? rc : read_novel(d, &x);
    rc = rc ? rc : read_assigned(d, &x);
    rc = rc ? rc : stats_reserve_extra(out, x.V, x.A);
    if (rc)
        return rc;
    if (x.V > 0) {
        memcpy(out->novel, x.novel, (size_t)x.V * out->D * sizeof *x.novel);
        memcpy(out->novel_distance, x.distance, x.V * sizeof *x.distance);
    }
    if (x.A > 0)
        memcpy(out->assigned, x.assigned, x.A * sizeof *x.assigned);
    out->count = d->N;
    out->loglik = msg_scalar(d->m, "loglik", 0);
    out->dropped = dropped;
    return 0;
}

static int decode_sums(const struct decoder *d)
{
    switch (d->m->encoding) {
    case STATS_DENSE:
        return decode_dense(d);
    case STATS_ROWS:
        return decode_rows(d);
    case STATS_FACTORED:
        return decode_factored(d);
    default:
        return refuse(d, REASON_BAD_ENCODING);
    }
}

int stats_decode(const struct msg *m, uint32_t K, uint32_t D, uint32_t rows_max, struct stats_rows *out,
                 enum reason *why)
{
    struct decoder d = {.m = m, .rows_max = rows_max, .out = out, .why = why};
    stats_rows_init(out);
    out->K = K;
    out->D = D;
    int rc = decode_count(&d);
    rc = rc ? rc : decode_sums(&d);
    rc = rc ? rc : decode_extra(&d);
    if (rc)
        stats_rows_fini(out);
    return rc;
}
