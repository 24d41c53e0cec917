/* Covariance by GEMM, eigenvectors by LAPACK, the rest by counting. */
#include "cli/dashboard_shape.h"

#include <cblas.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "common/cosine.h"
#include "common/vecmath.h"

/* LAPACK: some eigenvalues and vectors of a symmetric matrix. The header of liblapacke is not a dependency. */
void dsyevx_(const char *jobz, const char *range, const char *uplo, const int *n, double *a, const int *lda,
             const double *vl, const double *vu, const int *il, const int *iu, const double *abstol, int *m, double *w,
             double *z, const int *ldz, double *work, const int *lwork, int *iwork, int *ifail, int *info);

enum { MIRROR_BATCH = 128, MIRROR_FIELDS = 2 };

/* ---- projection ---- */

static double *centred(const struct prototype_set *set)
{
    size_t K = set->K, D = set->D;
    double *x = malloc(K * D * sizeof *x);
    for (size_t d = 0; x && d < D; d++) {
        double mean = 0;
        for (size_t k = 0; k < K; k++)
            mean += (double)set->unit[k * D + d] / (double)K;
        for (size_t k = 0; k < K; k++)
            x[k * D + d] = (double)set->unit[k * D + d] - mean;
    }
    return x;
}

/* The sign that agrees with the direction of before or, without one, makes the largest element positive. */
static void fix_sign(double *axis, const double *before, size_t D)
{
    double agreement = 0;
    size_t largest = 0;
    for (size_t d = 0; d < D; d++) {
        agreement += before ? axis[d] * before[d] : 0;
        largest = fabs(axis[d]) > fabs(axis[largest]) ? d : largest;
    }
    if (before ? agreement < 0 : axis[largest] < 0)
        for (size_t d = 0; d < D; d++)
            axis[d] = -axis[d];
}

/* Largest two eigenvectors of the matrix (D,D), which is destroyed: the last rows of vectors, in rising order. */
static int leading_vectors(double *matrix, int D, double values[], double *vectors)
{
    int first = D > 1 ? D - 1 : 1, lwork = 34 * D, found = 0, info = 0; /* 8n at least; 32 is its usual block */
    double none = 0, *work = malloc((size_t)lwork * sizeof *work);
    int *integers = malloc(6 * (size_t)D * sizeof *integers);
    if (work && integers)
        dsyevx_("V", "I", "L", &D, matrix, &D, &none, &none, &first, &D, &none, &found, values, vectors, &D, work,
                &lwork, integers, integers + 5 * (size_t)D, &info);
    int rc = !work || !integers ? ERR_MEMORY : info != 0 || found != D - first + 1 ? ERR_FORMAT : 0;
    free(work);
    free(integers);
    return rc;
}

/* The two leading eigenvectors of x'x, and the share of the variance along each. With D = 1 the second is zero. */
static int find_axes(const double *x, struct dashboard_shape *s, const double *before)
{
    int K = (int)s->K, D = (int)s->D, wanted = D > 1 ? 2 : 1;
    size_t d = s->D;
    double total = 0, *matrix = calloc(d * d + d + 2 * d, sizeof *matrix);
    if (!matrix)
        return ERR_MEMORY;
    double *values = matrix + d * d, *vectors = values + d;
    cblas_dsyrk(CblasColMajor, CblasLower, CblasNoTrans, D, K, 1, x, D, 0, matrix, D);
    for (size_t i = 0; i < d; i++)
        total += matrix[i * d + i];
    int rc = leading_vectors(matrix, D, values, vectors);
    for (int axis = 0; rc == 0 && axis < wanted; axis++) {
        double value = values[wanted - 1 - axis], *to = s->axes + (size_t)axis * d;
        memcpy(to, vectors + (size_t)(wanted - 1 - axis) * d, d * sizeof *to);
        fix_sign(to, before ? before + (size_t)axis * d : NULL, d);
        s->spread[axis] = total > 1e-12 && value > 0 ? value / total : 0;
    }
    free(matrix);
    return rc;
}

static void project(const double *x, struct dashboard_shape *s)
{
    double farthest = 0;
    int D = (int)s->D;
    for (size_t k = 0; k < s->K; k++) {
        s->x[k] = (float)cblas_ddot(D, x + k * s->D, 1, s->axes, 1);
        s->y[k] = (float)cblas_ddot(D, x + k * s->D, 1, s->axes + s->D, 1);
        double r = hypot((double)s->x[k], (double)s->y[k]);
        farthest = r > farthest ? r : farthest;
    }
    for (size_t k = 0; farthest > 1e-9 && k < s->K; k++) {
        s->x[k] = (float)((double)s->x[k] / farthest);
        s->y[k] = (float)((double)s->y[k] / farthest);
    }
}

/* Counts by angle, each spread over its bin and the two beside it (1/4, 1/2, 1/4), relative to even. */
static void count_angles(struct dashboard_shape *s)
{
    double one = (double)SHAPE_ANGLES / (double)s->K;
    memset(s->density, 0, sizeof s->density);
    for (size_t k = 0; k < s->K; k++) {
        double turn = atan2((double)s->y[k], (double)s->x[k]) / (2 * M_PI);
        unsigned bin = (unsigned)floor((turn < 0 ? turn + 1 : turn) * SHAPE_ANGLES) % SHAPE_ANGLES;
        s->density[bin] += one / 2;
        s->density[(bin + 1) % SHAPE_ANGLES] += one / 4;
        s->density[(bin + SHAPE_ANGLES - 1) % SHAPE_ANGLES] += one / 4;
    }
}

double dashboard_shape_spike(const struct dashboard_shape *s)
{
    double densest = 0;
    for (unsigned from = 0; from < SHAPE_ANGLES; from++) {
        double share = 0;
        for (unsigned i = 0; i < SHAPE_ANGLES / 8; i++)
            share += s->density[(from + i) % SHAPE_ANGLES] / SHAPE_ANGLES;
        densest = share > densest ? share : densest;
    }
    return s->K > 0 ? densest : NAN;
}

/* ---- usage ---- */

unsigned dashboard_usage_bin(double usage, uint32_t K)
{
    double times = usage * (double)K;
    if (!(times > 0))
        return 0;
    int power = (int)floor(log2(times)) + 5; /* [1, 2) is bin 5 */
    return (unsigned)(power < 1 ? 1 : power > SHAPE_USAGE - 1 ? SHAPE_USAGE - 1 : power);
}

static void measure_usage(struct dashboard_shape *s)
{
    double total = 0, entropy = 0;
    memset(s->usage_bins, 0, sizeof s->usage_bins);
    for (size_t k = 0; s->usage && k < s->K; k++)
        total += s->usage[k];
    for (size_t k = 0; total > 0 && k < s->K; k++) {
        s->usage[k] /= total;
        s->usage_bins[dashboard_usage_bin(s->usage[k], s->K)]++;
        if (s->usage[k] > 0)
            entropy -= s->usage[k] * log(s->usage[k]);
    }
    s->perplexity = total > 0 ? exp(entropy) : NAN;
}

/* ---- neighbours ---- */

/* A pair that name each other is one. Inserted in order; the list is short. */
static void offer_pair(struct dashboard_shape *s, uint32_t k)
{
    struct shape_pair pair = {k, s->nearest[k], (double)s->cosine[k]};
    if (s->nearest[pair.b] == k && pair.b < k)
        return;
    size_t at = s->pair_count;
    while (at > 0 && s->pairs[at - 1].cosine < pair.cosine)
        at--;
    if (at == SHAPE_PAIRS)
        return;
    size_t kept = s->pair_count < SHAPE_PAIRS ? s->pair_count : SHAPE_PAIRS - 1;
    memmove(&s->pairs[at + 1], &s->pairs[at], (kept - at) * sizeof s->pairs[0]);
    s->pairs[at] = pair;
    s->pair_count = kept + 1;
}

static int measure_neighbours(const struct prototype_set *set, struct dashboard_shape *s)
{
    uint32_t counts[SCORE_EPS];
    for (int i = 0; i < SCORE_EPS; i++)
        s->unique[i] = NAN;
    if (set->K > SHAPE_K_MAX || set->K < 2)
        return 0;
    s->nearest = malloc(set->K * sizeof *s->nearest);
    s->cosine = malloc(set->K * sizeof *s->cosine);
    int rc = s->nearest && s->cosine ? cosine_nearest(set->unit, set->K, set->D, s->nearest, s->cosine) : ERR_MEMORY;
    for (uint32_t k = 0; rc == 0 && k < set->K; k++)
        offer_pair(s, k);
    if (rc == 0)
        rc = cosine_cover(set->unit, set->K, set->D, score_eps, SCORE_EPS, counts);
    for (int i = 0; rc == 0 && i < SCORE_EPS; i++)
        s->unique[i] = 100.0 * counts[i] / set->K;
    return rc;
}

/* ---- the whole ---- */

static int measure(const struct prototype_set *set, const struct dashboard_shape *before, struct dashboard_shape *s)
{
    double *x = centred(set);
    s->x = malloc(set->K * sizeof *s->x);
    s->y = malloc(set->K * sizeof *s->y);
    s->axes = calloc(2 * (size_t)set->D, sizeof *s->axes);
    int rc = x && s->x && s->y && s->axes ? 0 : ERR_MEMORY;
    if (rc == 0)
        rc = find_axes(x, s, before->D == set->D ? before->axes : NULL);
    if (rc == 0) {
        project(x, s);
        count_angles(s);
        rc = measure_neighbours(set, s);
    }
    free(x);
    return rc;
}

int dashboard_shape_of(struct prototype_set *set, struct dashboard_shape *s, struct error *e)
{
    struct dashboard_shape fresh = {.K = set->K, .D = set->D, .step = set->step};
    if (set->D > SHAPE_D_MAX)
        return error_set(e, ERR_RANGE, "prototypes of %u dimensions are not drawn; %d is the most", set->D,
                         SHAPE_D_MAX);
    int rc = measure(set, s, &fresh);
    if (rc != 0) {
        dashboard_shape_fini(&fresh);
        return error_set(e, rc, "cannot measure %u prototypes of %u dimensions: out of memory, or not finite", set->K,
                         set->D);
    }
    fresh.usage = set->usage;
    set->usage = NULL;
    measure_usage(&fresh);
    dashboard_shape_fini(s);
    *s = fresh;
    return 0;
}

void dashboard_shape_fini(struct dashboard_shape *s)
{
    free(s->x);
    free(s->y);
    free(s->usage);
    free(s->nearest);
    free(s->cosine);
    free(s->axes);
    *s = (struct dashboard_shape){0};
}

/* ---- from the mirror ---- */

static int read_size(struct run_source *s, struct prototype_set *out, struct error *e)
{
    redisReply *reply;
    unsigned long long value[3] = {0};
    int rc = run_source_command(s, REDIS_REPLY_ARRAY, &reply, e, "HMGET decant:%s K D version", s->run);
    if (rc != 0)
        return rc;
    for (size_t i = 0; i < 3 && i < reply->elements; i++)
        if (reply->element[i]->type == REDIS_REPLY_STRING)
            value[i] = strtoull(reply->element[i]->str, NULL, 10);
    freeReplyObject(reply);
    if (value[0] < 1 || value[0] > SHAPE_K_MAX || value[1] < 1 || value[1] > SHAPE_D_MAX)
        return error_set(e, ERR_RANGE, "%s: %llu prototypes of %llu dimensions: not read from a mirror", s->where,
                         value[0], value[1]);
    *out = (struct prototype_set){.K = (uint32_t)value[0], .D = (uint32_t)value[1], .step = value[2]};
    out->unit = malloc((size_t)out->K * out->D * sizeof *out->unit);
    out->usage = malloc(out->K * sizeof *out->usage);
    return out->unit && out->usage ? 0 : error_set(e, ERR_MEMORY, "out of memory for %u prototypes", out->K);
}

static int take_prototype(struct run_source *s, struct prototype_set *out, uint32_t k, struct error *e)
{
    redisReply *reply;
    int rc = run_source_reply(s, REDIS_REPLY_ARRAY, &reply, e);
    if (rc != 0)
        return rc;
    const redisReply *mean = reply->elements == MIRROR_FIELDS ? reply->element[0] : NULL;
    const redisReply *usage = mean ? reply->element[1] : NULL;
    size_t bytes = out->D * sizeof(float);
    if (!mean || mean->type != REDIS_REPLY_STRING || (size_t)mean->len != bytes || usage->type != REDIS_REPLY_STRING)
        rc = error_set(e, ERR_FORMAT, "%s: prototype %u is not all there", s->where, k);
    if (rc == 0) {
        double share = strtod(usage->str, NULL);
        memcpy(out->unit + (size_t)k * out->D, mean->str, bytes);
        out->usage[k] = share > 0 && isfinite(share) ? share : 0;
    }
    freeReplyObject(reply);
    return rc;
}

static int read_batch(struct run_source *s, struct prototype_set *out, uint32_t from, struct error *e)
{
    uint32_t to = out->K - from < MIRROR_BATCH ? out->K : from + MIRROR_BATCH;
    int rc = 0;
    for (uint32_t k = from; rc == 0 && k < to; k++)
        rc = redis_client_append(s->redis, "HMGET decant:%s:prototype:%u mean usage", s->run, k);
    for (uint32_t k = from; rc == 0 && k < to; k++)
        rc = take_prototype(s, out, k, e);
    return rc;
}

int dashboard_shape_mirror(struct run_source *s, int within_ms, struct prototype_set *out, struct error *e)
{
    *out = (struct prototype_set){0};
    run_source_allow(s, within_ms);
    int rc = read_size(s, out, e);
    for (uint32_t from = 0; rc == 0 && from < out->K; from += MIRROR_BATCH)
        rc = read_batch(s, out, from, e);
    if (rc == 0 && !vec_all_finite(out->unit, (size_t)out->K * out->D))
        rc = error_set(e, ERR_FORMAT, "%s: a prototype holds a value that is not finite", s->where);
    if (rc == 0)
        vec_normalise_rows(out->unit, out->K, out->D, NULL);
    else
        prototype_set_fini(out);
    return rc;
}
