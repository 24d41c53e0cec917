/* Statistics and mixture versions from foreign bytes: what stats_decode lets through keeps its promises to the M-step,
 * and a mixture that refuses a message stays as it was. */
#include <math.h>
#include "common/vecmath.h"
#include "proto/mixture_wire.h"
#include "proto/stats.h"
#include "tests/fuzz/fuzz.h"

enum { K = 12, D = 5, N = 4, SLOT_ROWS = 8 };

static void check_stats(const struct msg *m)
{
    struct stats_rows s;
    enum reason why = (enum reason)0;
    if (stats_decode(m, K, D, COVARIANCE_DIAGONAL, SLOT_ROWS, &s, &why, NULL)) {
        ASSERT(why > 0 && why < REASON_END && s.index == NULL);
        return;
    }
    ASSERT(s.count >= 1 && s.count <= SLOT_ROWS && s.R <= K && (s.A == 0 || s.A == s.count));
    for (uint32_t r = 0; r < s.R; r++)
        ASSERT(s.index[r] < K && (r == 0 || s.index[r] > s.index[r - 1]) && s.n[r] > 0 && isfinite(s.n[r]));
    ASSERT(vec_all_finite(s.s1, s.R * D) && vec_all_finite(s.s2, s.R * D) && vec_all_finite(s.novel, s.V * D));
    for (size_t i = 0; i < s.R * D; i++)
        ASSERT(s.s2[i] >= 0);
    for (uint32_t i = 0; i < s.A; i++)
        ASSERT(s.assigned[i] < K);
    ASSERT(s.S <= s.count);
    for (uint32_t i = 0; i < s.S; i++)
        ASSERT(fabs(vec_sum_squares(s.sample + i * D, D) - 1) < 0.02);
    stats_rows_fini(&s);
}

/* The same bytes to a server of von Mises-Fisher components. */
static void check_directions(const struct msg *m)
{
    struct stats_rows s;
    enum reason why = (enum reason)0;
    if (stats_decode(m, K, D, COVARIANCE_VMF, SLOT_ROWS, &s, &why, NULL)) {
        ASSERT(why > 0 && why < REASON_END && s.index == NULL);
        return;
    }
    for (uint32_t r = 0; r < s.R; r++)
        ASSERT(s.n[r] > 0 && vec_sum_squares(s.s1 + r * D, D) <= 1.02 * (double)s.n[r] * (double)s.n[r]);
    stats_rows_fini(&s);
}

/* ... and of full covariances. */
static void check_matrices(const struct msg *m)
{
    struct stats_rows s;
    enum reason why = (enum reason)0;
    if (stats_decode(m, K, D, COVARIANCE_FULL, SLOT_ROWS, &s, &why, NULL)) {
        ASSERT(why > 0 && why < REASON_END && s.index == NULL);
        return;
    }
    ASSERT(vec_all_finite(s.s2, (size_t)s.R * D * D));
    for (uint32_t r = 0; r < s.R; r++)
        for (size_t d = 0; d < D; d++)
            ASSERT(s.s2[r * D * D + d * (D + 1)] >= 0);
    stats_rows_fini(&s);
}

/* ... and of a tied one. */
static void check_shared(const struct msg *m)
{
    struct stats_rows s;
    enum reason why = (enum reason)0;
    if (stats_decode(m, K, D, COVARIANCE_TIED, SLOT_ROWS, &s, &why, NULL)) {
        ASSERT(why > 0 && why < REASON_END && s.index == NULL && s.moment == NULL);
        return;
    }
    ASSERT(vec_all_finite(s.moment, (size_t)D * D));
    stats_rows_fini(&s);
}

static struct mixture_view *view_of_version(uint64_t version)
{
    struct mixture_view *v;
    ASSERT(mixture_view_new(K, D, COVARIANCE_DIAGONAL, &v) == 0);
    for (size_t i = 0; i < K * D; i++) {
        v->mean[i] = 0.1f * (float)(i % 7);
        v->variance[i] = 0.2f;
    }
    v->version = version;
    v->beta = 0.5;
    return v;
}

static void check_mixture(const struct msg *m)
{
    struct mixture_view *v = view_of_version(3), *before = view_of_version(3);
    enum reason why = (enum reason)0;
    if (mixture_apply(v, m, &why)) {
        ASSERT(why > 0 && why < REASON_END && v->version == 3);
        ASSERT(memcmp(v->mean, before->mean, K * D * sizeof(float)) == 0);
        ASSERT(memcmp(v->variance, before->variance, K * D * sizeof(float)) == 0);
    } else {
        ASSERT(vec_all_finite(v->mean, K * D) && v->beta > 0 && v->version == m->step);
        for (size_t i = 0; i < K * D; i++)
            ASSERT(v->variance[i] > 0 && isfinite(v->variance[i]));
    }
    mixture_view_free(&v);
    mixture_view_free(&before);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct buf *frames[FUZZ_FRAMES_MAX] = {NULL};
    size_t n = fuzz_frames(data, size, frames);
    struct msg m;
    enum reason why;
    if (msg_decode(frames, n, &m, &why, NULL) == 0) {
        check_stats(&m);
        check_directions(&m);
        check_matrices(&m);
        check_shared(&m);
        check_mixture(&m);
    }
    msg_fini(&m);
    for (size_t i = 0; i < n; i++)
        buf_unref(&frames[i]);
    return 0;
}

static void seed_stats(enum stats_encoding encoding, struct msg *m)
{
    static const float h[N * D] = {0.6f, 0.8f, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0.6f, 0, 0.8f, 0, 0, 0, 0, 1};
    static const uint32_t start[N + 1] = {0, 2, 3, 5, 6}, index[6] = {1, 4, 4, 0, 11, 7}, assigned[N] = {1, 4, 11, 7};
    static const float gamma[6] = {0.75f, 0.25f, 1, 0.5f, 0.5f, 1}, distance[2] = {1, 0.5f};
    const struct responsibilities g = {N, start, index, gamma};
    const struct stats_extra extra = {2, h, distance, assigned, -10, 0.01, 2};
    msg_init(m, MSG_STATS, "run");
    ASSERT(stats_encode_as(encoding, h, &g, K, D, COVARIANCE_DIAGONAL, &extra, m) == 0);
}

static void seed_mixture(bool delta, struct msg *m)
{
    static const uint32_t rows[3] = {0, 5, 11};
    struct mixture_view *v = view_of_version(4);
    msg_init(m, MSG_MIXTURE, "run");
    ASSERT(mixture_encode(v, delta ? rows : NULL, 3, m) == 0);
    mixture_view_free(&v);
}

size_t fuzz_seed(size_t i, uint8_t *out, size_t room)
{
    struct msg m;
    if (i >= 5)
        return 0;
    if (i < 3)
        seed_stats((enum stats_encoding)(STATS_DENSE + i), &m);
    else
        seed_mixture(i == 4, &m);
    return fuzz_input(&m, out, room);
}
