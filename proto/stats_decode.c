/* Reads EM statistics that somebody sent. Everything that the M-step relies on is proved here: shapes, indices, masses,
 * signs, magnitudes. What passes may still be a lie about the data, but it cannot break the mixture's arithmetic. */
#include "proto/covariance.h"
#include "proto/stats.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include "proto/stats_wire.h"

struct decoder {
    const struct msg *m;
    enum covariance covariance;
    uint32_t rows_max;
    uint32_t N;             /* embeddings: the scalar `count` */
    struct stats_rows *out; /* K, D and squares are set */
    enum reason *why;
    struct error *detail; /* for the sender: which tensor, which row */
};

static int __attribute__((format(printf, 3, 4)))
refuse(const struct decoder *d, enum reason reason, const char *format, ...)
{
    char text[160];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    *d->why = reason;
    return error_set(d->detail, ERR_FORMAT, "%s", text);
}

/* The elements of a tensor of exactly that shape; width 0 means rank 1. NULL with *why. */
static const void *elements(const struct decoder *d, const char *name, enum dtype dtype, uint64_t rows, uint64_t width)
{
    uint64_t shape[2] = {rows, width};
    const struct msg_tensor *t = msg_tensor_checked(d->m, name, dtype, width ? 2 : 1, shape, d->why);
    if (!t)
        error_set(d->detail, ERR_FORMAT, "tensor %s", name);
    return t ? t->data->data : NULL;
}

/* The first dimension of a tensor, which the message is free to choose up to `max`. */
static int rows_of(const struct decoder *d, const char *name, enum dtype dtype, uint64_t max, uint32_t *rows)
{
    const struct msg_tensor *t = msg_tensor(d->m, name, dtype, d->why);
    if (!t)
        return refuse(d, *d->why, "tensor %s", name);
    if (t->rank == 0)
        return refuse(d, REASON_BAD_SHAPE, "%s is a scalar", name);
    if (t->shape[0] > max)
        return refuse(d, REASON_TOO_LARGE, "%s has %llu rows, at most %llu are possible", name,
                      (unsigned long long)t->shape[0], (unsigned long long)max);
    *rows = (uint32_t)t->shape[0];
    return 0;
}

static double squares(const float *x, size_t n)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += (double)x[i] * x[i];
    return sum;
}

/* Rows of unit length, up to rounding: embeddings are normalised. */
static int check_unit_rows(const struct decoder *d, const char *name, const float *h, uint32_t rows)
{
    size_t D = d->out->D;
    for (uint32_t i = 0; i < rows; i++) {
        double length = squares(h + i * D, D);
        if (!(fabs(length - 1) <= STATS_UNIT_TOLERANCE))
            return refuse(d, REASON_BAD_VALUE, "%s row %u has squared length %.4g, not 1", name, i, length);
    }
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

struct sums {                 /* of `rows` components */
    const float *n, *s1, *s2; /* s2 is NULL where there are no squares of components */
    const float *moment;      /* (D,D), or NULL */
    uint32_t rows;
};

static int read_sums(const struct decoder *d, uint32_t rows, struct sums *s)
{
    *s = (struct sums){.rows = rows, .n = elements(d, "n", DTYPE_F32, rows, 0)};
    s->s1 = s->n ? elements(d, "s1", DTYPE_F32, rows, d->out->D) : NULL;
    if (d->out->shared > 0) {
        s->moment = s->s1 ? elements(d, "s2", DTYPE_F32, d->out->D, d->out->D) : NULL;
        return s->moment ? 0 : ERR_FORMAT;
    }
    if (d->out->squares == 0)
        return s->s1 ? 0 : ERR_FORMAT;
    s->s2 = s->s1 ? elements(d, "s2", DTYPE_F32, rows, d->out->squares) : NULL;
    return s->s2 ? 0 : ERR_FORMAT;
}

/* Whether a component's sums can be of embeddings of unit length: their squares add up to its mass, and no sum is
 * larger than its squares allow (Cauchy and Schwarz: s1² <= n s2). The sums were rounded, hence the tolerances. A
 * component without mass has nothing else either. */
static bool row_possible(const struct sums *s, uint32_t r, size_t D)
{
    const float *s1 = s->s1 + r * D, *s2 = s->s2 + r * D;
    double n = s->n[r], length = 0, slack = STATS_MASS_TOLERANCE * n * n;
    if (!(n >= 0) || !within(s2, D, 0, s->n[r] * 1.001f))
        return false;
    for (size_t d = 0; d < D; d++) {
        length += s2[d];
        if (!((double)s1[d] * s1[d] <= n * s2[d] * (1 + STATS_MASS_TOLERANCE) + STATS_MASS_TOLERANCE * slack))
            return false;
    }
    return fabs(length - n) <= STATS_UNIT_TOLERANCE * n;
}

/* Whether a matrix can be a sum of n outer products of unit vectors: symmetric, a diagonal that adds up to n, by Cauchy
 * and Schwarz no element larger than that allows. */
static bool outer_possible(const float *s2, double n, size_t D)
{
    double trace = 0, slack = STATS_MASS_TOLERANCE * n;
    for (size_t i = 0; i < D; i++) {
        double diagonal = s2[i * D + i];
        if (!(diagonal >= 0))
            return false;
        trace += diagonal;
        for (size_t j = 0; j < i; j++) {
            double x = s2[i * D + j], limit = diagonal * s2[j * D + j] * (1 + STATS_MASS_TOLERANCE) + slack * slack;
            if (!(x * x <= limit && fabs(x - s2[j * D + i]) <= slack))
                return false;
        }
    }
    return fabs(trace - n) <= STATS_UNIT_TOLERANCE * n;
}

/* A component's own: with s1 bounded by the diagonal too. */
static bool matrix_possible(const struct sums *s, uint32_t r, size_t D)
{
    const float *s1 = s->s1 + r * D, *s2 = s->s2 + r * D * D;
    double n = s->n[r], slack = STATS_MASS_TOLERANCE * n;
    for (size_t i = 0; i < D; i++)
        if (!((double)s1[i] * s1[i] <= n * s2[i * (D + 1)] * (1 + STATS_MASS_TOLERANCE) + slack * slack))
            return false;
    return n >= 0 && outer_possible(s2, n, D);
}

/* The shared one: what lies between the components, sum_k s1_kd^2/n_k, is no more than the whole. */
static int check_moment(const struct decoder *d, const struct sums *s)
{
    size_t D = d->out->D;
    if (!outer_possible(s->moment, d->N, D))
        return refuse(d, REASON_BAD_VALUE, "s2 is not the sum of unit vectors' outer products");
    for (size_t i = 0; i < D; i++) {
        double between = 0, whole = s->moment[i * (D + 1)];
        for (uint32_t r = 0; r < s->rows; r++)
            if (s->n[r] > 0)
                between += (double)s->s1[r * D + i] * s->s1[r * D + i] / s->n[r];
        if (!(between <= whole * (1 + STATS_MASS_TOLERANCE) + STATS_MASS_TOLERANCE * d->N))
            return refuse(d, REASON_BAD_VALUE, "s2 and s1 are not sums of the same vectors");
    }
    return 0;
}

/* Without squares: a sum of unit vectors is no longer than their mass. */
static bool direction_possible(const struct sums *s, uint32_t r, size_t D)
{
    double n = s->n[r];
    return n >= 0 && squares(s->s1 + r * D, D) <= n * n * (1 + STATS_UNIT_TOLERANCE);
}

static bool is_possible(const struct decoder *d, const struct sums *s, uint32_t r)
{
    size_t D = d->out->D;
    if (s->s2 == NULL)
        return direction_possible(s, r, D);
    return d->covariance == COVARIANCE_FULL ? matrix_possible(s, r, D) : row_possible(s, r, D);
}

static int check_sums(const struct decoder *d, const struct sums *s, uint32_t *with_mass)
{
    double mass = 0;
    *with_mass = 0;
    for (uint32_t r = 0; r < s->rows; r++) {
        if (!is_possible(d, s, r))
            return refuse(d, REASON_BAD_VALUE, "row %u: n, s1 and s2 are not the sums of unit vectors", r);
        mass += s->n[r];
        *with_mass += s->n[r] > 0;
    }
    if (fabs(mass - d->N) <= STATS_MASS_TOLERANCE * d->N)
        return s->moment ? check_moment(d, s) : 0;
    return refuse(d, REASON_BAD_VALUE, "n adds up to %.6g, count is %u", mass, d->N);
}

/* Rows with mass into out; index NULL: row r is component r. */
static int take_sums(const struct decoder *d, const struct sums *s, const uint32_t *index, uint32_t R)
{
    size_t D = d->out->D, S = d->out->squares;
    int rc = stats_reserve_rows(d->out, R);
    uint32_t to = 0;
    if (rc == 0 && s->moment)
        memcpy(d->out->moment, s->moment, d->out->shared * sizeof *s->moment);
    for (uint32_t r = 0; rc == 0 && r < s->rows; r++) {
        if (!(s->n[r] > 0))
            continue;
        d->out->index[to] = index ? index[r] : r;
        d->out->n[to] = s->n[r];
        memcpy(d->out->s1 + to * D, s->s1 + r * D, D * sizeof(float));
        if (S > 0)
            memcpy(d->out->s2 + to * S, s->s2 + r * S, S * sizeof(float));
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
        return refuse(d, REASON_OUT_OF_RANGE, "index reaches K = %u", d->out->K);
    if (!strictly_ascending(index, rows))
        return refuse(d, REASON_BAD_VALUE, "index is not strictly ascending");
    rc = read_sums(d, rows, &s);
    rc = rc ? rc : check_sums(d, &s, &with_mass);
    if (rc)
        return rc;
    return with_mass == rows ? take_sums(d, &s, index, rows) : refuse(d, REASON_BAD_VALUE, "a row has n = 0");
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
        return refuse(d, REASON_BAD_VALUE, "start goes from %u to %u, not from 0 to %u", g->start[0], g->start[g->N],
                      Z);
    for (uint32_t i = 0; i < g->N; i++)
        if (g->start[i + 1] < g->start[i]) /* with the two ends: nothing points outside */
            return refuse(d, REASON_BAD_VALUE, "start falls at embedding %u", i);
    if (!indices_below(g->index, Z, d->out->K))
        return refuse(d, REASON_OUT_OF_RANGE, "index reaches K = %u", d->out->K);
    if (!within(g->gamma, Z, 0, 1))
        return refuse(d, REASON_BAD_VALUE, "a gamma lies outside [0, 1]");
    for (uint32_t i = 0; i < g->N; i++) {
        uint32_t from = g->start[i], n = g->start[i + 1] - from;
        if (!strictly_ascending(g->index + from, n) || !row_sums_to_one(g->gamma + from, n))
            return refuse(d, REASON_BAD_VALUE, "embedding %u: components not ascending, or gammas that do not add to 1",
                          i);
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
    rc = check_unit_rows(d, "h", h, d->N);
    rc = rc ? rc : check_responsibilities(d, &g, Z);
    return rc ? rc : stats_accumulate(h, &g, d->out->K, d->out->D, d->covariance, d->out);
}

/* ---- what goes with each of them ---- */

static int decode_count(struct decoder *d)
{
    double count = msg_scalar(d->m, "count", 0);
    if (!(count >= 1) || count > d->rows_max)
        return refuse(d, REASON_OUT_OF_RANGE, "count = %.6g, expected 1..%u", count, d->rows_max);
    if (count != floor(count))
        return refuse(d, REASON_BAD_VALUE, "count = %.6g is not whole", count);
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
    const float *sample;
    uint32_t V, A, S;
};

static int read_novel(const struct decoder *d, struct extra *x)
{
    if (!has(d, "novel") && !has(d, "novel_distance"))
        return 0;
    /* No more than there are embeddings: a step of many slots would add up to gigabytes otherwise. */
    int rc = rows_of(d, "novel", DTYPE_F32, d->N < STATS_NOVEL_MAX ? d->N : STATS_NOVEL_MAX, &x->V);
    if (rc)
        return rc;
    x->novel = elements(d, "novel", DTYPE_F32, x->V, d->out->D);
    x->distance = x->novel ? elements(d, "novel_distance", DTYPE_F32, x->V, 0) : NULL;
    if (!x->distance)
        return ERR_FORMAT;
    rc = check_unit_rows(d, "novel", x->novel, x->V);
    if (rc == 0 && !within(x->distance, x->V, -0.001f, 2.001f)) /* 1 - cosine, rounded */
        rc = refuse(d, REASON_BAD_VALUE, "a novel_distance lies outside [0, 2]");
    return rc;
}

static int read_assigned(const struct decoder *d, struct extra *x)
{
    if (!has(d, "assigned"))
        return 0;
    x->A = d->N;
    x->assigned = elements(d, "assigned", DTYPE_U32, x->A, 0);
    if (!x->assigned)
        return ERR_FORMAT;
    return indices_below(x->assigned, x->A, d->out->K)
               ? 0
               : refuse(d, REASON_OUT_OF_RANGE, "assigned reaches K = %u", d->out->K);
}

static int read_sample(const struct decoder *d, struct extra *x)
{
    if (!has(d, "sample"))
        return 0;
    int rc = rows_of(d, "sample", DTYPE_F32, d->N, &x->S);
    if (rc)
        return rc;
    x->sample = elements(d, "sample", DTYPE_F32, x->S, d->out->D);
    return x->sample ? check_unit_rows(d, "sample", x->sample, x->S) : ERR_FORMAT;
}

static int decode_extra(const struct decoder *d)
{
    struct extra x = {0};
    struct stats_rows *out = d->out;
    double dropped = msg_scalar(d->m, "dropped", 0);
    int rc = dropped >= 0 && dropped <= d->N ? 0 : refuse(d, REASON_BAD_VALUE, "dropped = %.6g", dropped);
    rc = rc ? rc : read_novel(d, &x);
    rc = rc ? rc : read_assigned(d, &x);
    rc = rc ? rc : read_sample(d, &x);
    rc = rc ? rc : stats_reserve_extra(out, x.V, x.A, x.S);
    if (rc)
        return rc;
    if (x.V > 0) {
        memcpy(out->novel, x.novel, (size_t)x.V * out->D * sizeof *x.novel);
        memcpy(out->novel_distance, x.distance, x.V * sizeof *x.distance);
    }
    if (x.A > 0)
        memcpy(out->assigned, x.assigned, x.A * sizeof *x.assigned);
    if (x.S > 0)
        memcpy(out->sample, x.sample, (size_t)x.S * out->D * sizeof *x.sample);
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
        return refuse(d, REASON_BAD_ENCODING, "encoding %u", d->m->encoding);
    }
}

int stats_decode(const struct msg *m, uint32_t K, uint32_t D, enum covariance c, uint32_t rows_max,
                 struct stats_rows *out, enum reason *why, struct error *detail)
{
    struct decoder d = {.m = m, .covariance = c, .rows_max = rows_max, .out = out, .why = why, .detail = detail};
    stats_rows_init(out);
    out->K = K;
    out->D = D;
    out->squares = (uint32_t)covariance_square_width(c, D);
    out->shared = (uint32_t)covariance_shared_width(c, D);
    int rc = decode_count(&d);
    rc = rc ? rc : decode_sums(&d);
    rc = rc ? rc : decode_extra(&d);
    if (rc)
        stats_rows_fini(out);
    return rc;
}
