/* Beginning with another run's mixture: unfit files first, then equal, more and fewer components, and plain
 * prototypes. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "common/files.h"
#include "common/safetensors.h"
#include "server/prototype/mixture_file.h"
#include "server/prototype/mixture_initial.h"

enum { D = 3, SEED = 5 };

static char directory[64], path[128];

static int make_directory(void **state)
{
    (void)state;
    strcpy(directory, "/tmp/test_initial.XXXXXX");
    if (mkdtemp(directory) == NULL)
        return -1;
    snprintf(path, sizeof path, "%s/mixture.safetensors", directory);
    return 0;
}

static int remove_directory(void **state)
{
    char command[128];
    (void)state;
    snprintf(command, sizeof command, "rm -rf %s", directory);
    return system(command);
}

static struct mixture *blank(uint32_t K, uint32_t dimensions)
{
    const struct mixture_options o = {.K = K,
                                      .D = dimensions,
                                      .covariance = COVARIANCE_DIAGONAL,
                                      .forgetting = 0.9,
                                      .variance_floor = 1e-3,
                                      .initial_mass = 1,
                                      .usage_momentum = 0.5,
                                      .balance = 0.1,
                                      .balance_clip = 1,
                                      .reseed_max = 1};
    struct mixture *m;
    assert_int_equal(mixture_new(&o, &m), 0);
    return m;
}

/* A checkpoint of four components, of masses 1, 4, 2, 4, at step 9. */
static struct mixture *written(void)
{
    static const double masses[4] = {1, 4, 2, 4}, usage[4] = {0.1, 0.4, 0.2, 0.3};
    struct run_config c;
    struct mixture *m = blank(4, D);
    assert_int_equal(run_config_load(&c, NULL, NULL, NULL, 0, NULL), 0);
    mixture_start(m, 99);
    for (uint32_t k = 0; k < 4; k++) {
        for (uint32_t d = 0; d < D; d++) {
            m->s1[k * D + d] *= masses[k];
            m->s2[k * D + d] *= masses[k];
        }
        m->mass[k] = masses[k];
        m->usage[k] = usage[k];
        m->last_assigned[k] = 8;
        m->price[k] = 0.5 * k;
    }
    mixture_restore(m, 9);
    const struct mixture_file_info info = {.config = &c, .facts.total_steps = 100};
    assert_int_equal(mixture_file_write(path, m, &info, NULL), 0);
    return m;
}

static struct mixture *began(uint32_t K, uint32_t expected)
{
    struct mixture *m = blank(K, D);
    struct error e = {0};
    uint32_t taken;
    uint64_t fingerprint = 0;
    if (mixture_initial_read(path, SEED, m, &taken, &fingerprint, &e) != 0)
        fail_msg("%s", e.text);
    assert_int_equal(taken, expected);
    assert_true(fingerprint != 0 && m->view->version == 0);
    double usage = 0;
    for (uint32_t k = 0; k < K; k++) {
        usage += m->usage[k];
        assert_int_equal(m->last_assigned[k], 0);
    }
    assert_true(fabs(usage - 1) < 1e-12);
    return m;
}

static void assert_row(const struct mixture *m, uint32_t k, const struct mixture *from, uint32_t row)
{
    assert_true(m->mass[k] == from->mass[row] && m->price[k] == from->price[row]);
    assert_memory_equal(m->s2 + k * D, from->s2 + row * D, D * sizeof *m->s2);
    assert_memory_equal(m->view->mean + k * D, from->view->mean + row * D, D * sizeof(float));
    assert_memory_equal(m->view->variance + k * D, from->view->variance + row * D, D * sizeof(float));
}

static void test_unfit(void **state)
{
    struct mixture *m = blank(4, D), *wide = blank(4, D + 1);
    struct error e = {0};
    uint32_t taken;
    uint64_t fingerprint;
    const float bad[3] = {1, NAN, 0};
    struct tensor_view t = {.dtype = DTYPE_F32, .rank = 2, .shape = {1, D}, .data = bad, .size = sizeof bad};
    (void)state;
    assert_int_equal(mixture_initial_read(path, SEED, m, &taken, &fingerprint, &e), ERR_NOT_FOUND);
    strcpy(t.name, "weights");
    assert_int_equal(safetensors_write(path, &t, 1, NULL, 0, NULL), 0);
    assert_int_equal(mixture_initial_read(path, SEED, m, &taken, &fingerprint, &e), ERR_FORMAT);
    assert_non_null(strstr(e.text, "neither"));
    strcpy(t.name, "prototypes");
    assert_int_equal(safetensors_write(path, &t, 1, NULL, 0, NULL), 0);
    assert_int_equal(mixture_initial_read(path, SEED, m, &taken, &fingerprint, &e), ERR_FORMAT);
    assert_non_null(strstr(e.text, "not finite"));
    struct mixture *four = written();
    assert_int_equal(mixture_initial_read(path, SEED, wide, &taken, &fingerprint, &e), ERR_CONFIG);
    assert_non_null(strstr(e.text, "have 3 dimensions, mixture.dimensions = 4"));
    mixture_free(&four);
    mixture_free(&wide);
    mixture_free(&m);
}

static void test_as_many(void **state)
{
    struct mixture *from = written(), *m = began(4, 4);
    (void)state;
    for (uint32_t k = 0; k < 4; k++)
        assert_row(m, k, from, k);
    assert_true(fabs(m->usage[1] - 0.4) < 1e-12);
    mixture_free(&m);
    mixture_free(&from);
}

/* The heaviest, of equals the earlier, in their order. */
static void test_fewer(void **state)
{
    struct mixture *from = written(), *one = began(1, 1), *three = began(3, 3);
    (void)state;
    assert_row(one, 0, from, 1);
    assert_row(three, 0, from, 1);
    assert_row(three, 1, from, 2);
    assert_row(three, 2, from, 3);
    mixture_free(&three);
    mixture_free(&one);
    mixture_free(&from);
}

static void test_more(void **state)
{
    struct mixture *from = written(), *m = began(6, 4), *random = blank(6, D);
    (void)state;
    mixture_start(random, SEED);
    assert_row(m, 3, from, 3);
    assert_row(m, 4, random, 4);
    assert_row(m, 5, random, 5);
    mixture_free(&random);
    mixture_free(&m);
    mixture_free(&from);
}

/* As exported: rows without statistics. */
static void test_prototypes(void **state)
{
    const float rows[2 * D] = {1, 0, 0, 0, 0.6F, 0.8F};
    const struct tensor_view t = {
        .name = "prototypes", .dtype = DTYPE_F32, .rank = 2, .shape = {2, D}, .data = rows, .size = sizeof rows};
    (void)state;
    assert_int_equal(safetensors_write(path, &t, 1, NULL, 0, NULL), 0);
    struct mixture *m = began(2, 2);
    assert_memory_equal(m->view->mean, rows, sizeof rows);
    assert_true(m->mass[0] == 1 && m->mass[1] == 1);
    mixture_free(&m);
}

int main(void)
{
#define CASE(f) cmocka_unit_test_setup_teardown(f, make_directory, remove_directory)
    const struct CMUnitTest tests[] = {
        CASE(test_unfit), CASE(test_as_many), CASE(test_fewer), CASE(test_more), CASE(test_prototypes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
