/* k-means++: against a float64 version of it that shares nothing but the random numbers, its state in a checkpoint, and
 * what becomes of a mixture, for every family. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "common/rng.h"
#include "common/vecmath.h"
#include "proto/covariance.h"
#include "server/prototype/mixture.h"
#include "server/prototype/seeding_file.h"

enum { N = 300, K = 24, D = 37, SEED = 5 };

static struct seeding *seeding_of(uint32_t rows, uint32_t components, uint32_t dimensions, uint32_t rounds)
{
    struct seeding *s;
    const struct seeding_options o = {.N = rows, .rounds = rounds, .seed = SEED};
    assert_int_equal(seeding_new(&o, components, dimensions, &s), 0);
    return s;
}

/* Unit rows around `clusters` directions. */
static void draw_rows(float *rows, uint32_t n, uint32_t dimensions, uint32_t clusters, double spread)
{
    for (uint32_t i = 0; i < n; i++) {
        struct rng centre, noise;
        rng_open(&centre, 77, RNG_JITTER, i % clusters, 0, 0);
        rng_open(&noise, 78, RNG_JITTER, i, 0, 0);
        for (uint32_t d = 0; d < dimensions; d++)
            rows[i * dimensions + d] = (float)(rng_normal(&centre) + spread * rng_normal(&noise));
    }
    vec_normalise_rows(rows, n, dimensions, NULL);
}

/* ---- the choice ---- */

/* Arthur and Vassilvitskii's algorithm, as their page has it: all squared distances anew for each seed, in double. */
static void choose_slowly(const float *rows, uint32_t n, uint32_t dimensions, uint32_t wanted, uint32_t *seeds)
{
    for (uint32_t k = 0; k < wanted; k++) {
        double nearest[N], total = 0, u;
        struct rng r;
        rng_open(&r, SEED, RNG_SEEDING, k, 0, 0);
        if (k == 0) {
            seeds[0] = rng_below(&r, n);
            continue;
        }
        for (uint32_t i = 0; i < n; i++) {
            nearest[i] = INFINITY;
            for (uint32_t j = 0; j < k; j++) {
                double squares = 0;
                for (uint32_t d = 0; d < dimensions; d++)
                    squares += pow((double)rows[i * dimensions + d] - (double)rows[seeds[j] * dimensions + d], 2);
                nearest[i] = fmin(nearest[i], squares);
            }
            total += nearest[i];
        }
        u = floor((rng_u32(&r) * 4294967296.0 + rng_u32(&r)) / 2048) / 9007199254740992.0 * total;
        uint32_t i = 0;
        for (double sum = nearest[0]; sum <= u; sum += nearest[i])
            i++;
        seeds[k] = i;
    }
}

/* However many rows come at a time, and however many seeds are chosen in a step. */
static void test_seeds_are_those_of_the_paper(void **state)
{
    (void)state;
    static float rows[N * D];
    static const uint32_t pieces[] = {N, 1, 97}, rounds[] = {K, 5, 1};
    uint32_t wanted[K];
    draw_rows(rows, N, D, 40, 0.3);
    choose_slowly(rows, N, D, K, wanted);
    for (size_t t = 0; t < 3; t++) {
        struct seeding *s = seeding_of(N, K, D, rounds[t]);
        uint32_t steps = 1;
        for (uint32_t from = 0; from < N; from += pieces[t]) {
            assert_false(seeding_choose(s)); /* not before all are there */
            assert_int_equal(s->chosen, 0);
            seeding_gather(s, rows + from * D, N - from < pieces[t] ? N - from : pieces[t]);
        }
        while (!seeding_choose(s))
            steps++;
        assert_int_equal(steps, (K + rounds[t] - 1) / rounds[t]);
        assert_int_equal(s->chosen, K);
        assert_memory_equal(s->seeds, wanted, sizeof wanted);
        seeding_free(&s);
        assert_null(s);
    }
}

/* Each of well separated clusters gets a seed: evenly drawn rows would miss some. */
static void test_seeds_spread(void **state)
{
    (void)state;
    static float rows[N * D];
    struct seeding *s = seeding_of(N, K, D, K);
    bool seen[K] = {false};
    draw_rows(rows, N, D, K, 1e-3);
    seeding_gather(s, rows, N);
    assert_true(seeding_choose(s));
    for (uint32_t k = 0; k < K; k++) {
        assert_false(seen[s->seeds[k] % K]);
        seen[s->seeds[k] % K] = true;
    }
    seeding_free(&s);
}

/* Of equal rows one is a seed: there are no more seeds than different rows. */
static void test_fewer_different_rows_than_components(void **state)
{
    (void)state;
    static float rows[N * D];
    struct seeding *s = seeding_of(N, K, D, K);
    draw_rows(rows, N, D, 7, 0);
    seeding_gather(s, rows, N);
    assert_true(seeding_choose(s));
    assert_int_equal(s->chosen, 7);
    for (uint32_t i = 0; i < 7; i++)
        for (uint32_t j = 0; j < i; j++)
            assert_int_not_equal(s->seeds[i] % 7, s->seeds[j] % 7);
    seeding_free(&s);
}

/* ---- in a checkpoint ---- */

static char path[64];

static void write_file(const struct seeding *s)
{
    struct tensor_view tensors[4];
    struct error e = {0};
    snprintf(path, sizeof path, "/tmp/test_seeding.%d", (int)getpid());
    size_t n = seeding_to_tensors(s, tensors);
    assert_int_equal(safetensors_write(path, tensors, n, NULL, 0, &e), 0);
}

static int read_file(uint64_t rows, uint32_t components, struct seeding **s)
{
    struct safetensors f;
    struct error e = {0};
    *s = seeding_of(N, components, D, 5);
    assert_int_equal(safetensors_read(path, &f, &e), 0);
    int rc = seeding_from_file(&f, rows, s, &e);
    safetensors_fini(&f);
    assert_true((rc != 0) == (e.text[0] != '\0'));
    return rc;
}

/* Taken up while rows still come, and between two choices. */
static void test_a_checkpoint_goes_on(void **state)
{
    (void)state;
    static float rows[N * D];
    uint32_t wanted[K];
    struct seeding *s = seeding_of(N, K, D, 5), *back;
    draw_rows(rows, N, D, 40, 0.3);
    choose_slowly(rows, N, D, K, wanted);
    seeding_gather(s, rows, 100);
    write_file(s);
    assert_int_equal(read_file(100, K, &back), 0);
    assert_int_equal(back->gathered, 100);
    seeding_gather(back, rows + 100 * D, N - 100);
    seeding_free(&s);
    for (uint32_t chosen = 5; chosen < K; chosen += 5) {
        assert_false(seeding_choose(back));
        assert_int_equal(back->chosen, chosen);
        write_file(back);
        s = back;
        assert_int_equal(read_file(N, K, &back), 0);
        assert_memory_equal(back->distance, s->distance, N * sizeof *s->distance);
        seeding_free(&s);
    }
    assert_true(seeding_choose(back));
    assert_memory_equal(back->seeds, wanted, sizeof wanted);
    seeding_free(&back);
    unlink(path);
}

static void expect_damaged(const struct seeding *s, uint64_t rows, uint32_t components)
{
    struct seeding *back;
    write_file(s);
    assert_int_equal(read_file(rows, components, &back), ERR_FORMAT);
    seeding_free(&back);
}

static void test_damaged_checkpoints_are_refused(void **state)
{
    (void)state;
    static float rows[N * D];
    struct seeding *s = seeding_of(N, K, D, 5), *back;
    draw_rows(rows, N, D, 40, 0.3);
    seeding_gather(s, rows, N - 1);
    expect_damaged(s, N, K); /* by that step all have come */
    expect_damaged(s, N - 2, K);
    seeding_gather(s, rows, 1);
    assert_false(seeding_choose(s));
    expect_damaged(s, N, 5); /* all would be chosen */
    s->seeds[3] = N;
    expect_damaged(s, N, K);
    s->seeds[3] = 1;
    s->distance[7] = NAN;
    expect_damaged(s, N, K);
    s->distance[7] = -1;
    expect_damaged(s, N, K);
    s->distance[7] = 1;
    s->rows[9] = 3;
    expect_damaged(s, N, K);
    s->rows[9] = NAN;
    expect_damaged(s, N, K);
    s->rows[9] = rows[9];
    write_file(s);
    assert_int_equal(read_file(N, K, &back), 0);
    seeding_free(&back);
    s->gathered = N - 1; /* seeds among rows that are not all there */
    expect_damaged(s, N - 1, K);
    struct tensor_view other = {.name = "mass", .dtype = DTYPE_F32, .rank = 1, .shape = {1}, .data = rows, .size = 4};
    struct error e = {0};
    assert_int_equal(safetensors_write(path, &other, 1, NULL, 0, &e), 0);
    assert_int_equal(read_file(N, K, &back), 0); /* done: nothing is left of it */
    assert_null(back);
    seeding_free(&s);
    unlink(path);
}

/* ---- in a mixture ---- */

enum { MIXTURE_K = 6, MIXTURE_D = 5, ROWS = 8, STEPS = 3 };

static struct mixture *mixture_of(enum covariance c, uint32_t rounds)
{
    struct mixture *m;
    const struct mixture_options o = {.K = MIXTURE_K,
                                      .D = MIXTURE_D,
                                      .covariance = c,
                                      .forgetting = 0.9,
                                      .variance_floor = 1e-3,
                                      .initial_mass = 2,
                                      .usage_momentum = 0.5,
                                      .reseed_max = 1,
                                      .balance = 0.1,
                                      .balance_clip = 1,
                                      .seeding = {.N = STEPS * ROWS - 3, .rounds = rounds, .seed = SEED}};
    assert_int_equal(mixture_new(&o, &m), 0);
    mixture_start(m, 11);
    return m;
}

/* A step's statistics as they are after decoding: each row belongs to one component. rows (ROWS,D). S of them are
 * sent. */
static void fold(struct mixture *m, const float *rows, uint32_t S)
{
    struct stats_rows s;
    uint32_t start[ROWS + 1], index[ROWS];
    float gamma[ROWS];
    for (uint32_t i = 0; i <= ROWS; i++)
        start[i] = i;
    for (uint32_t i = 0; i < ROWS; i++) {
        index[i] = i % 4;
        gamma[i] = 1;
    }
    const struct responsibilities g = {.N = ROWS, .start = start, .index = index, .gamma = gamma};
    assert_int_equal(stats_accumulate(rows, &g, MIXTURE_K, MIXTURE_D, m->options.covariance, &s), 0);
    s.S = S;
    s.sample = malloc(ROWS * MIXTURE_D * sizeof *s.sample);
    assert_non_null(s.sample);
    memcpy(s.sample, rows, ROWS * MIXTURE_D * sizeof *s.sample);
    s.A = 4;
    s.assigned = malloc(4 * sizeof *s.assigned);
    assert_non_null(s.assigned);
    memcpy(s.assigned, index, 4 * sizeof *s.assigned);
    assert_int_equal(mixture_em_step(m, &s, 0.75), 0);
    stats_rows_fini(&s);
}

static void assert_same_doubles(const double *a, const double *b, size_t n)
{
    assert_memory_equal(a, b, n * sizeof *a);
}

/* Placed components are what a mixture that begins around the same centres has; b: that. */
static void assert_like_fresh(const struct mixture *m, const struct mixture *b)
{
    size_t squares = m->s2 ? MIXTURE_K * covariance_square_width(m->options.covariance, MIXTURE_D) +
                                 covariance_shared_width(m->options.covariance, MIXTURE_D)
                           : 0;
    assert_same_doubles(m->mass, b->mass, MIXTURE_K);
    assert_same_doubles(m->s1, b->s1, MIXTURE_K * MIXTURE_D);
    if (squares > 0)
        assert_same_doubles(m->s2, b->s2, squares);
    assert_same_doubles(m->usage, b->usage, MIXTURE_K);
    assert_same_doubles(m->price, b->price, MIXTURE_K);
    assert_memory_equal(m->view->mean, b->view->mean, MIXTURE_K * MIXTURE_D * sizeof(float));
    assert_memory_equal(m->view->log_const, b->view->log_const, MIXTURE_K * sizeof(float));
    assert_memory_equal(m->view->variance, b->view->variance,
                        (MIXTURE_K * covariance_width(m->options.covariance, MIXTURE_D) +
                         covariance_shared_width(m->options.covariance, MIXTURE_D)) *
                            sizeof(float));
}

static void check_family(enum covariance c, uint32_t rounds)
{
    static float rows[(STEPS + 4) * ROWS * MIXTURE_D];
    struct mixture *m = mixture_of(c, rounds), *plain = mixture_of(c, rounds), *copy;
    uint32_t seeds[MIXTURE_K], steps = STEPS + (MIXTURE_K + rounds - 1) / rounds - 1;
    double centres[MIXTURE_K * MIXTURE_D];
    draw_rows(rows, (STEPS + 4) * ROWS, MIXTURE_D, 9, 0.2);
    choose_slowly(rows, STEPS * ROWS - 3, MIXTURE_D, MIXTURE_K, seeds);
    seeding_free(&plain->seeding);
    for (uint32_t t = 0; t < steps; t++) {
        assert_non_null(m->seeding);
        fold(m, rows + t * ROWS * MIXTURE_D, t < STEPS - 1 ? ROWS : t == STEPS - 1 ? ROWS - 3 : 0);
        fold(plain, rows + t * ROWS * MIXTURE_D, 0);
        assert_int_equal(m->seeded, t == steps - 1 ? MIXTURE_K : 0);
        if (t < steps - 1) /* until then it is a mixture like any other */
            assert_same_doubles(m->s1, plain->s1, MIXTURE_K * MIXTURE_D);
        assert_int_equal(mixture_clone(m, &copy), 0); /* what a checkpoint is made of */
        mixture_free(&m);
        m = copy;
    }
    assert_null(m->seeding);
    assert_int_equal(m->view->version, steps);
    assert_true(m->view->beta == 0.75);
    assert_int_equal(m->changed_count, MIXTURE_K);
    for (uint32_t k = 0; k < MIXTURE_K; k++) {
        assert_int_equal(m->updated_step[k], steps);
        assert_int_equal(m->last_assigned[k], 0);
        for (uint32_t d = 0; d < MIXTURE_D; d++)
            centres[k * MIXTURE_D + d] = (double)rows[seeds[k] * MIXTURE_D + d];
    }
    mixture_start_from(plain, centres);
    assert_like_fresh(m, plain);
    fold(m, rows, 0); /* and goes on */
    assert_int_equal(m->seeded, 0);
    assert_int_equal(m->last_assigned[3], steps + 1);
    mixture_free(&m);
    mixture_free(&plain);
}

static void test_every_family(void **state)
{
    (void)state;
    for (enum covariance c = COVARIANCE_SPHERICAL; c <= COVARIANCE_TIED; c++) {
        check_family(c, 1000);
        check_family(c, 2);
    }
}

/* Three different embeddings: three components move, the others keep their statistics. */
static void check_few(enum covariance c)
{
    static float rows[STEPS * ROWS * MIXTURE_D];
    struct mixture *m = mixture_of(c, 1000), *plain = mixture_of(c, 1000);
    draw_rows(rows, STEPS * ROWS, MIXTURE_D, 3, 0);
    seeding_free(&plain->seeding);
    for (uint32_t t = 0; t < STEPS; t++) {
        fold(m, rows + t * ROWS * MIXTURE_D, t == STEPS - 1 ? ROWS - 3 : ROWS);
        fold(plain, rows + t * ROWS * MIXTURE_D, 0);
    }
    assert_int_equal(m->seeded, 3);
    assert_null(m->seeding);
    assert_same_doubles(m->s1 + 3 * MIXTURE_D, plain->s1 + 3 * MIXTURE_D, 3 * MIXTURE_D);
    assert_same_doubles(m->mass + 3, plain->mass + 3, 3);
    for (uint32_t k = 0; k < 3; k++)
        assert_true(m->mass[k] == 2 && m->usage[k] == 1.0 / MIXTURE_K);
    assert_int_equal(m->last_assigned[3], STEPS);
    assert_true(vec_all_finite(m->view->variance, covariance_shared_width(c, MIXTURE_D)));
    mixture_free(&m);
    mixture_free(&plain);
}

static void test_few_embeddings_move_few_components(void **state)
{
    (void)state;
    check_few(COVARIANCE_DIAGONAL);
    check_few(COVARIANCE_TIED);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_seeds_are_those_of_the_paper),         cmocka_unit_test(test_seeds_spread),
        cmocka_unit_test(test_fewer_different_rows_than_components), cmocka_unit_test(test_a_checkpoint_goes_on),
        cmocka_unit_test(test_damaged_checkpoints_are_refused),      cmocka_unit_test(test_every_family),
        cmocka_unit_test(test_few_embeddings_move_few_components),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
