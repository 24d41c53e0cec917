/* What each shortcut of an EM iteration with diagonal covariances brings: the time of a piece of work with it, and by
 * what it replaces, turn and turn about, with the difference between the results. Only what the product does without
 * a mode of its own for this bench: functions and keys that are there for other reasons, and sgemm of OpenBLAS. For
 * tests/bench/bench_mixture.py.
 *
 *   products      logits of blocks of 256 rows by our tiles                    sgemm
 *   exponentials  of logits within ln K + 10 of a row's largest                of all K
 *   fitted        the same, once variances are those of the rows: fewer count
 *   dropping      E-step and sums with mixture.drop = 1e-6                     with 0
 *   sums          of the responsibilities that are kept, and of their slots    sgemm of all of them
 *   novelty       search, novelty in bounds by the assigned prototype          all prototypes for all rows
 *   operand       columns of the 1/64 of the components that moved             of all K
 *
 * Novelty is measured on rows near the means, as they are once a run is on its way; at the start nearly all rows meet
 * all prototypes, and it brings nothing.
 *
 * Usage: bench_shortcuts ROWS.f32 MEANS.f32 N K D [NAME]      variances are 1/D, weights 1/K; prints JSON */
#include <cblas.h>
#include <math.h>
#include <string.h>
#include "common/rng.h"
#include "common/blas.h"
#include "common/vecmath.h"
#include "tests/bench/bench_mixture.h"
#include "worker/estep.h"
#include "worker/nn/tiles.h"

enum { ROUNDS = 3, BLOCK = 256, TILE = 1024, MOVED = 64, NOVEL = 8 };

static const float DROP = 1e-6f;

struct bench {
    uint32_t N, K, D;
    float *h;                   /* (N,D) */
    float *means;               /* (K,D) */
    struct mixture *m, *fitted; /* the latter after a step */
};

/* Seconds of the best round, and how far apart results are. */
struct gain {
    double with, without, difference;
};

static void *floats(size_t n)
{
    void *p = NULL;
    must(posix_memalign(&p, 64, n * sizeof(float)));
    return memset(p, 0, n * sizeof(float));
}

static void keep_best(struct gain *g, int round, double with, double without)
{
    g->with = round == 0 ? with : fmin(g->with, with);
    g->without = round == 0 ? without : fmin(g->without, without);
}

static void compare(struct gain *g, const float *a, const float *b, size_t n, double scale)
{
    for (size_t i = 0; i < n; i++)
        g->difference = fmax(g->difference, fabs((double)a[i] - (double)b[i]) * scale);
}

/* ---- products and exponentials: the logits of blocks ---- */

struct logits {
    size_t K, width, tile_size;
    float *operand, *bias;          /* (K,2D) [-1/2 1/v | mu/v], (K) */
    float *packed;                  /* the same as tiles */
    float *input;                   /* (BLOCK,2D) [h^2 | h] */
    float *ours, *theirs, *scratch; /* (BLOCK,K) */
    uint32_t in[BLOCK], out[BLOCK];
};

static void logits_open(struct logits *l, const struct bench *b, const struct mixture_view *v)
{
    size_t D = b->D, K = b->K, tile = K < TILE ? K : TILE;
    *l = (struct logits){.K = K, .width = 2 * D, .tile_size = tile_packed_size(2 * D, tile)};
    l->operand = floats(K * 2 * D);
    l->bias = floats(K);
    l->packed = floats((K + TILE - 1) / TILE * l->tile_size);
    l->input = floats(BLOCK * 2 * D);
    l->ours = floats(BLOCK * K);
    l->theirs = floats(BLOCK * K);
    l->scratch = floats(K);
    for (size_t i = 0; i < K * D; i++) {
        l->operand[i / D * 2 * D + i % D] = -0.5f / v->variance[i];
        l->operand[i / D * 2 * D + D + i % D] = v->mean[i] / v->variance[i];
    }
    memcpy(l->bias, v->log_const, K * sizeof *l->bias);
    for (size_t k = 0; k < K; k += TILE) {
        size_t n = K - k < TILE ? K - k : TILE;
        struct pack p = {
            .K = (uint32_t)l->width, .columns = n, .n = l->width, .row_stride = 1, .column_stride = l->width};
        tile_pack(&p, l->operand + k * l->width, l->packed + k / TILE * l->tile_size);
        tile_pack_bias(l->width, n, l->bias + k, l->packed + k / TILE * l->tile_size);
    }
    for (uint32_t i = 0; i < BLOCK; i++) {
        l->in[i] = i * (uint32_t)l->width;
        l->out[i] = i * (uint32_t)K;
    }
}

static void logits_close(struct logits *l)
{
    float *const owned[] = {l->operand, l->bias, l->packed, l->input, l->ours, l->theirs, l->scratch};
    for (size_t i = 0; i < sizeof owned / sizeof owned[0]; i++)
        free(owned[i]);
}

/* The block's input; returns its rows. */
static uint32_t take_block(struct logits *l, const struct bench *b, uint32_t first)
{
    size_t D = b->D;
    uint32_t rows = b->N - first < BLOCK ? b->N - first : BLOCK;
    for (size_t i = 0; i < rows * D; i++) {
        float x = b->h[first * D + i];
        l->input[i / D * 2 * D + i % D] = x * x;
        l->input[i / D * 2 * D + D + i % D] = x;
    }
    return rows;
}

static void product_by_tiles(struct logits *l, uint32_t rows)
{
    for (size_t k = 0; k < l->K; k += TILE) {
        struct gather g = {.runs = 1, .run = l->width, .stride = l->width, .in = l->in, .out = l->out};
        g.columns = (uint32_t)(l->K - k < TILE ? l->K - k : TILE);
        gather_product(&g, rows, l->input, l->packed + k / TILE * l->tile_size, l->ours + k);
    }
}

static void product_by_sgemm(struct logits *l, uint32_t rows)
{
    for (uint32_t i = 0; i < rows; i++)
        memcpy(l->theirs + i * l->K, l->bias, l->K * sizeof *l->bias);
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, (int)rows, (int)l->K, (int)l->width, 1, l->input,
                (int)l->width, l->operand, (int)l->width, 1, l->theirs, (int)l->K);
}

/* Difference: of a logit. */
static struct gain products(const struct bench *b)
{
    struct logits l;
    struct gain g = {0};
    logits_open(&l, b, b->m->view);
    for (int round = 0; round < ROUNDS; round++) {
        double with = 0, without = 0;
        for (uint32_t first = 0; first < b->N; first += BLOCK) {
            uint32_t rows = take_block(&l, b, first);
            double t0 = cpu_seconds();
            product_by_tiles(&l, rows);
            double t1 = cpu_seconds();
            product_by_sgemm(&l, rows);
            without += cpu_seconds() - t1;
            with += t1 - t0;
            compare(&g, l.ours, l.theirs, rows * l.K, 1);
        }
        keep_best(&g, round, with, without);
    }
    logits_close(&l);
    return g;
}

/* Difference: of the sum of a row's exponentials, relative to it. The logits are copied first, because what computes
 * all exponentials does so in place. */
static struct gain exponentials_of(const struct bench *b, const struct mixture *m)
{
    struct logits l;
    struct gain g = {0};
    uint32_t *near = malloc((b->K + VEC_LIST_SLACK) * sizeof *near);
    float sums[BLOCK], all[BLOCK], cutoff = logf((float)b->K) + 10; /* as worker/estep.c has it with drop = 1e-6 */
    must(near ? 0 : ERR_MEMORY);
    logits_open(&l, b, m->view);
    for (int round = 0; round < ROUNDS; round++) {
        double with = 0, without = 0;
        for (uint32_t first = 0; first < b->N; first += BLOCK) {
            uint32_t rows = take_block(&l, b, first);
            product_by_tiles(&l, rows);
            memcpy(l.theirs, l.ours, rows * l.K * sizeof *l.ours);
            double t0 = cpu_seconds();
            for (uint32_t i = 0; i < rows; i++) {
                const float *row = l.ours + i * l.K;
                float max = vec_max(row, l.K);
                uint32_t count = vec_list(row, (uint32_t)l.K, NULL, 1, max - cutoff, near, l.scratch);
                sums[i] = vec_exp_shifted(l.scratch, max, count);
            }
            double t1 = cpu_seconds();
            for (uint32_t i = 0; i < rows; i++) {
                float *row = l.theirs + i * l.K;
                all[i] = vec_exp_shifted(row, vec_max(row, l.K), l.K);
            }
            without += cpu_seconds() - t1;
            with += t1 - t0;
            for (uint32_t i = 0; i < rows; i++) {
                float share = sums[i] / all[i], whole = 1;
                compare(&g, &share, &whole, 1, 1);
            }
        }
        keep_best(&g, round, with, without);
    }
    logits_close(&l);
    free(near);
    return g;
}

static struct gain exponentials(const struct bench *b)
{
    return exponentials_of(b, b->m);
}

static struct gain fitted(const struct bench *b)
{
    return exponentials_of(b, b->fitted);
}

/* ---- responsibilities and their sums ---- */

static struct estep *open_estep(const struct bench *b, float drop, uint32_t novel_max, float novel_distance)
{
    struct estep *s;
    struct estep_options o = {.drop = drop,
                              .novel_max = novel_max,
                              .novel_distance = novel_distance,
                              .choice = RESEED_FARTHEST,
                              .covariance = COVARIANCE_DIAGONAL};
    must(estep_new(SLOT, b->K, b->D, o, &s));
    estep_use(s, b->m->view);
    return s;
}

static uint32_t slot_rows(const struct bench *b, uint32_t first)
{
    return b->N - first < SLOT ? b->N - first : SLOT;
}

/* Adds what a slot sums up to; the first makes `sum`. */
static void add_slot(const struct bench *b, uint32_t first, const struct responsibilities *gamma,
                     struct stats_rows *sum)
{
    struct stats_rows next;
    must(stats_accumulate(b->h + (size_t)first * b->D, gamma, b->K, b->D, COVARIANCE_DIAGONAL,
                          first == 0 ? sum : &next));
    if (first > 0)
        must(stats_rows_add(sum, &next));
}

/* (K) n, and with squares (K,2D) [s2 | s1], of every component. */
static void spread(const struct stats_rows *s, float *n, float *sums)
{
    size_t D = s->D;
    memset(n, 0, s->K * sizeof *n);
    memset(sums, 0, s->K * 2 * D * sizeof *sums);
    for (uint32_t r = 0; r < s->R; r++) {
        n[s->index[r]] = s->n[r];
        memcpy(sums + s->index[r] * 2 * D, s->s2 + r * D, D * sizeof *sums);
        memcpy(sums + s->index[r] * 2 * D + D, s->s1 + r * D, D * sizeof *sums);
    }
}

static double iterate(const struct bench *b, struct estep *estep, struct stats_rows *sum)
{
    double from = cpu_seconds();
    for (uint32_t first = 0; first < b->N; first += SLOT) {
        struct estep_result result;
        estep_run(estep, b->h + (size_t)first * b->D, slot_rows(b, first), &result);
        add_slot(b, first, &result.gamma, sum);
    }
    return cpu_seconds() - from;
}

/* Difference: of a sum, over N. An embedding loses K drop of its mass at most. */
static struct gain dropping(const struct bench *b)
{
    struct gain g = {0};
    struct estep *some = open_estep(b, DROP, 0, 0), *all = open_estep(b, 0, 0, 0);
    size_t K = b->K, width = 2 * (size_t)b->D;
    float *n[2] = {floats(K), floats(K)}, *sums[2] = {floats(K * width), floats(K * width)};
    for (int round = 0; round < ROUNDS; round++) {
        struct stats_rows kept, every;
        double with = iterate(b, some, &kept), without = iterate(b, all, &every);
        spread(&kept, n[0], sums[0]);
        spread(&every, n[1], sums[1]);
        compare(&g, n[0], n[1], K, 1.0 / b->N);
        compare(&g, sums[0], sums[1], K * width, 1.0 / b->N);
        stats_rows_fini(&kept);
        stats_rows_fini(&every);
        keep_best(&g, round, with, without);
    }
    estep_free(&some);
    estep_free(&all);
    for (int i = 0; i < 2; i++) {
        free(n[i]);
        free(sums[i]);
    }
    return g;
}

/* gamma (rows,K) from what was kept. */
static void densify(const struct responsibilities *g, size_t K, float *gamma)
{
    memset(gamma, 0, g->N * K * sizeof *gamma);
    for (uint32_t i = 0; i < g->N; i++)
        for (uint32_t z = g->start[i]; z < g->start[i + 1]; z++)
            gamma[i * K + g->index[z]] = g->gamma[z];
}

/* Difference: of a sum, over N. */
static struct gain sums(const struct bench *b)
{
    struct gain g = {0};
    struct estep *estep = open_estep(b, DROP, 0, 0);
    size_t K = b->K, D = b->D, width = 2 * D;
    float *gamma = floats(SLOT * K), *both = floats(SLOT * width), *ours = floats(K * width),
          *theirs = floats(K * width), *n = floats(K);
    for (int round = 0; round < ROUNDS; round++) {
        struct stats_rows kept;
        double with = 0, without = 0;
        memset(theirs, 0, K * width * sizeof *theirs);
        for (uint32_t first = 0; first < b->N; first += SLOT) {
            struct estep_result result;
            uint32_t rows = slot_rows(b, first);
            const float *h = b->h + (size_t)first * D;
            estep_run(estep, h, rows, &result);
            densify(&result.gamma, K, gamma);
            for (size_t i = 0; i < rows * D; i++) {
                both[i / D * width + i % D] = h[i] * h[i];
                both[i / D * width + D + i % D] = h[i];
            }
            double t0 = cpu_seconds();
            add_slot(b, first, &result.gamma, &kept);
            double t1 = cpu_seconds();
            cblas_sgemm(CblasRowMajor, CblasTrans, CblasNoTrans, (int)K, (int)width, (int)rows, 1, gamma, (int)K, both,
                        (int)width, 1, theirs, (int)width);
            without += cpu_seconds() - t1;
            with += t1 - t0;
        }
        spread(&kept, n, ours);
        compare(&g, ours, theirs, K * width, 1.0 / b->N);
        stats_rows_fini(&kept);
        keep_best(&g, round, with, without);
    }
    estep_free(&estep);
    float *const owned[] = {gamma, both, ours, theirs, n};
    for (size_t i = 0; i < sizeof owned / sizeof owned[0]; i++)
        free(owned[i]);
    return g;
}

/* ---- novelty and the operand ---- */

/* Rows (SLOT,D) near the means, at a distance of some 0.02, but for a few that are anywhere. */
static void settled_rows(const struct bench *b, uint64_t slot, float *h)
{
    struct rng r;
    size_t D = b->D;
    rng_open(&r, 1, RNG_JITTER, slot, 0, 0);
    for (size_t i = 0; i < SLOT; i++) {
        const float *mean = b->means + (slot * SLOT + i) % b->K * D;
        float near = i % 256 == 0 ? 0 : 1;
        for (size_t d = 0; d < D; d++)
            h[i * D + d] = near * mean[d] + 0.2f / sqrtf((float)D) * (float)rng_normal(&r);
    }
    vec_normalise_rows(h, SLOT, D, NULL);
}

/* An E-step with the search that looks at all rows, of which those count that are as far as the other's. Difference: of
 * a candidate's distance; 1 where there is another candidate. */
static struct gain novelty(const struct bench *b)
{
    static const float distance = 0.1f; /* mixture.reseed_distance's default */
    struct gain g = {0};
    struct estep *bounded = open_estep(b, DROP, NOVEL, distance), *whole = open_estep(b, DROP, NOVEL, 0);
    float *h = floats(SLOT * (size_t)b->D);
    for (int round = 0; round < ROUNDS; round++) {
        double with = 0, without = 0;
        for (uint32_t first = 0; first + SLOT <= b->N; first += SLOT) {
            struct estep_result some, all;
            settled_rows(b, first / SLOT, h);
            double t0 = cpu_seconds();
            estep_run(bounded, h, SLOT, &some);
            double t1 = cpu_seconds();
            estep_run(whole, h, SLOT, &all);
            without += cpu_seconds() - t1;
            with += t1 - t0;
            uint32_t far = 0;
            while (far < all.extra.V && all.extra.novel_distance[far] >= distance)
                far++;
            g.difference = some.extra.V == far ? g.difference : 1;
            compare(&g, some.extra.novel_distance, all.extra.novel_distance, far < some.extra.V ? far : some.extra.V,
                    1);
        }
        keep_best(&g, round, with, without);
    }
    estep_free(&bounded);
    estep_free(&whole);
    free(h);
    return g;
}

/* A version in which every MOVED-th component moved. */
static void next_version(struct mixture_view *v)
{
    v->version++;
    for (size_t k = v->version % MOVED; k < v->K; k += MOVED) {
        v->moved[k] = v->version;
        v->mean[k * v->D] += 1e-3f;
    }
}

/* Taking over a version whose moved rows are known, and the same not known. Difference: of a responsibility; 1 where
 * others were kept. */
static struct gain operand(const struct bench *b)
{
    enum { VERSIONS = 20 };
    struct gain g = {0};
    struct mixture_view *v;
    uint32_t rows = slot_rows(b, 0);
    must(mixture_view_new(b->K, b->D, COVARIANCE_DIAGONAL, &v));
    must(mixture_view_keep_moved(v));
    must(mixture_view_copy(v, b->m->view));
    struct estep *some = open_estep(b, DROP, 0, 0), *all = open_estep(b, DROP, 0, 0);
    for (int i = 0; i < VERSIONS; i++) {
        struct estep_result a, c;
        next_version(v);
        struct mixture_view unknown = *v;
        unknown.moved = NULL;
        double t0 = cpu_seconds();
        estep_use(some, v);
        double t1 = cpu_seconds();
        estep_use(all, &unknown);
        double t2 = cpu_seconds();
        keep_best(&g, i, t1 - t0, t2 - t1);
        estep_run(some, b->h, rows, &a);
        estep_run(all, b->h, rows, &c);
        uint32_t kept = a.gamma.start[rows];
        if (kept != c.gamma.start[rows] || memcmp(a.gamma.index, c.gamma.index, kept * sizeof *a.gamma.index) != 0)
            g.difference = 1;
        else
            compare(&g, a.gamma.gamma, c.gamma.gamma, kept, 1);
    }
    estep_free(&some);
    estep_free(&all);
    mixture_view_free(&v);
    return g;
}

static void fit(struct bench *b)
{
    struct stats_rows sum;
    struct estep *estep = open_estep(b, DROP, 0, 0);
    b->fitted = mixture_around(b->means, b->K, b->D);
    iterate(b, estep, &sum);
    must(mixture_em_step(b->fitted, &sum, 1));
    stats_rows_fini(&sum);
    estep_free(&estep);
}

int main(int argc, char **argv)
{
    static const struct {
        const char *name;
        struct gain (*measure)(const struct bench *);
    } shortcuts[] = {
        {"products", products}, {"exponentials", exponentials}, {"fitted", fitted},  {"dropping", dropping},
        {"sums", sums},         {"novelty", novelty},           {"operand", operand}};
    const char *separator = "{";
    if (argc < 6 || argc > 7) {
        fprintf(stderr, "usage: bench_shortcuts ROWS.f32 MEANS.f32 N K D [NAME]\n");
        return 2;
    }
    struct bench b = {.N = (uint32_t)atol(argv[3]), .K = (uint32_t)atol(argv[4]), .D = (uint32_t)atol(argv[5])};
    compute_thread_init();
    blas_restart_if_behind(argv);
    blas_single_threaded();
    b.h = read_floats(argv[1], (size_t)b.N * b.D);
    b.means = read_floats(argv[2], (size_t)b.K * b.D);
    b.m = mixture_around(b.means, b.K, b.D);
    fit(&b);
    for (size_t i = 0; i < sizeof shortcuts / sizeof shortcuts[0]; i++) {
        if (argc == 7 && strcmp(argv[6], shortcuts[i].name) != 0)
            continue;
        struct gain g = shortcuts[i].measure(&b);
        printf("%s\"%s\": {\"with\": %.6g, \"without\": %.6g, \"difference\": %.3g}", separator, shortcuts[i].name,
               g.with, g.without, g.difference);
        separator = ", ";
    }
    if (*separator == '{') {
        fprintf(stderr, "bench_shortcuts: nothing is called %s\n", argv[6]);
        return 2;
    }
    printf("}\n");
    mixture_free(&b.m);
    mixture_free(&b.fitted);
    free(b.h);
    free(b.means);
    return 0;
}
