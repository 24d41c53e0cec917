/* Checkpoints: the round trip to the bit, damage, whose they are, and which step is resumed from. */
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
#include "common/files.h"
#include "common/log.h"
#include "common/safetensors.h"
#include "server/prototype/mixture_checkpoint.h"
#include "server/prototype/mixture_file.h"
#include "server/prototype/mixture_place.h"

static struct mixture_options options = {.K = 6,
                                         .D = 5,
                                         .covariance = COVARIANCE_DIAGONAL,
                                         .forgetting = 0.9,
                                         .variance_floor = 1e-3,
                                         .initial_mass = 1,
                                         .usage_momentum = 0.5,
                                         .reseed_max = 1};
static struct run_config config;

static char directory[64];

static int make_directory(void **state)
{
    (void)state;
    strcpy(directory, "/tmp/test_checkpoint.XXXXXX");
    struct error e;
    const char *name = "run.name=unit";
    if (mkdtemp(directory) == NULL || run_config_load(&config, NULL, NULL, &name, 1, &e) != 0)
        return -1;
    strcpy(config.run.out, directory);
    return 0;
}

static int remove_directory(void **state)
{
    (void)state;
    char command[128];
    snprintf(command, sizeof command, "rm -rf %s", directory);
    return system(command);
}

static const char *below(const char *name)
{
    static char path[256];
    snprintf(path, sizeof path, "%s/%s", directory, name);
    return path;
}

static struct mixture *blank(void)
{
    struct mixture *m;
    assert_int_equal(mixture_new(&options, &m), 0);
    return m;
}

/* A mixture after `steps` steps of one touched row each. */
static struct mixture *after(uint32_t steps)
{
    struct mixture *m = blank();
    mixture_start(m, 11);
    for (uint32_t t = 0; t < steps; t++) {
        uint32_t k = t % options.K;
        float n = 0.5f, s1[5] = {0.1f, 0.2f, -0.3f, 0.1f, 0.05f}, s2[5] = {0.1f, 0.3f, 0.2f, 0.1f, 0.3f};
        struct stats_rows s = {
            .K = 6, .D = 5, .R = 1, .index = &k, .n = &n, .s1 = s1, .s2 = s2, .A = 1, .assigned = &k, .count = 1};
        assert_int_equal(mixture_em_step(m, &s, 0.7), 0);
    }
    return m;
}

static const struct mixture_facts written = {.total_steps = 100,
                                             .provenance = {.data = 7, .numerics = 8, .server_numerics = 9}};

static void write_step(uint32_t step, bool with_encoder)
{
    struct error e = {0};
    struct mixture *m = after(step);
    char name[64];
    snprintf(name, sizeof name, "checkpoints/step-%06u", step);
    assert_int_equal(dir_make(below(name), &e), 0);
    if (with_encoder) {
        float weight = 1;
        struct tensor_view t = {.name = "w", .dtype = DTYPE_F32, .rank = 1, .shape = {1}, .data = &weight, .size = 4};
        snprintf(name, sizeof name, "checkpoints/step-%06u/encoder.safetensors", step);
        assert_int_equal(safetensors_write(below(name), &t, 1, NULL, 0, &e), 0);
    }
    if (mixture_checkpoint_write(&config, m, &written, &e) != 0)
        fail_msg("%s", e.text);
    mixture_free(&m);
}

static void flip_byte(const char *name, long from_end)
{
    FILE *f = fopen(below(name), "r+b");
    assert_non_null(f);
    fseek(f, -from_end, SEEK_END);
    int c = fgetc(f);
    fseek(f, -from_end, SEEK_END);
    fputc(c ^ 1, f);
    fclose(f);
}

static void test_nothing_to_resume(void **state)
{
    (void)state;
    struct error e = {0};
    struct mixture_facts facts;
    struct mixture *m = blank();
    assert_int_equal(mixture_checkpoint_resume(&config, UINT64_MAX, m, &facts, &e), ERR_NOT_FOUND);
    write_step(3, false); /* a mixture without its encoder is nothing to resume from */
    assert_int_equal(mixture_checkpoint_resume(&config, UINT64_MAX, m, &facts, &e), ERR_NOT_FOUND);
    assert_int_equal(access(below("checkpoints/latest"), F_OK), -1);
    mixture_free(&m);
}

/* Resumed and gone on equals never stopped: all state and every published float. */
static void test_round_trip_is_exact(void **state)
{
    (void)state;
    struct error e = {0};
    struct mixture_facts facts = {0};
    write_step(7, true);
    struct mixture *m = blank(), *whole = after(7);
    assert_int_equal(mixture_checkpoint_resume(&config, UINT64_MAX, m, &facts, &e), 0);
    assert_int_equal(facts.total_steps, 100);
    assert_memory_equal(&facts.provenance, &written.provenance, sizeof written.provenance);
    assert_int_equal(m->view->version, 7);
    assert_memory_equal(m->mass, whole->mass, 6 * sizeof(double));
    assert_memory_equal(m->s1, whole->s1, 30 * sizeof(double));
    assert_memory_equal(m->s2, whole->s2, 30 * sizeof(double));
    assert_memory_equal(m->usage, whole->usage, 6 * sizeof(double));
    assert_memory_equal(m->last_assigned, whole->last_assigned, 6 * sizeof(uint32_t));
    assert_memory_equal(m->updated_step, whole->updated_step, 6 * sizeof(uint32_t));
    assert_memory_equal(m->view->mean, whole->view->mean, 30 * sizeof(float));
    assert_memory_equal(m->view->variance, whole->view->variance, 30 * sizeof(float));
    assert_memory_equal(m->view->weight, whole->view->weight, 6 * sizeof(float));
    assert_memory_equal(m->view->log_const, whole->view->log_const, 6 * sizeof(float));
    mixture_free(&m);
    mixture_free(&whole);
}

/* Prices are state too: read back to the bit, and looked at before they are believed. */
static void test_prices_are_kept(void **state)
{
    (void)state;
    struct error e = {0};
    struct mixture_facts facts = {0};
    struct mixture_file_info info = {.config = &config, .facts = written};
    options.balance = 0.1;
    options.balance_clip = 1;
    struct mixture *m = blank(), *whole = after(7);
    assert_true(whole->price[0] != whole->price[5] && whole->view->priced);
    assert_int_equal(mixture_file_write(below("m.safetensors"), whole, &info, &e), 0);
    assert_int_equal(mixture_file_read(below("m.safetensors"), &info, m, &facts, &e), 0);
    assert_memory_equal(m->price, whole->price, 6 * sizeof(double));
    assert_memory_equal(m->view->price, whole->view->price, 6 * sizeof(float));
    whole->price[2] = INFINITY;
    assert_int_equal(mixture_file_write(below("m.safetensors"), whole, &info, &e), 0);
    assert_int_equal(mixture_file_read(below("m.safetensors"), &info, m, &facts, &e), ERR_FORMAT);
    assert_non_null(strstr(e.text, "component 2 has price"));
    mixture_free(&m);
    mixture_free(&whole);
    options.balance = 0;
    whole = after(7); /* a file without prices is none of a run that has them */
    assert_int_equal(mixture_file_write(below("m.safetensors"), whole, &info, &e), 0);
    options.balance = 0.1;
    m = blank();
    assert_int_equal(mixture_file_read(below("m.safetensors"), &info, m, &facts, &e), ERR_FORMAT);
    mixture_free(&m);
    mixture_free(&whole);
    options.balance = 0;
}

/* von Mises-Fisher components have no s2, in memory or in the file. */
static void test_directions_are_kept(void **state)
{
    (void)state;
    struct error e = {0};
    struct mixture_facts facts = {0};
    struct mixture_file_info info = {.config = &config, .facts = written};
    struct safetensors f;
    options.covariance = COVARIANCE_VMF;
    struct mixture *m = blank(), *whole = after(7);
    assert_int_equal(mixture_file_write(below("m.safetensors"), whole, &info, &e), 0);
    assert_int_equal(mixture_file_read(below("m.safetensors"), &info, m, &facts, &e), 0);
    assert_null(m->s2);
    assert_memory_equal(m->s1, whole->s1, 30 * sizeof(double));
    assert_memory_equal(m->view->mean, whole->view->mean, 30 * sizeof(float));
    assert_memory_equal(m->view->variance, whole->view->variance, 6 * sizeof(float));
    assert_memory_equal(m->view->log_const, whole->view->log_const, 6 * sizeof(float));
    assert_int_equal(safetensors_read(below("m.safetensors"), &f, &e), 0);
    assert_null(safetensors_find(&f, "s2", DTYPE_F64, 2, (uint64_t[]){6, 5}, NULL));
    assert_non_null(safetensors_find(&f, "variance", DTYPE_F32, 1, (uint64_t[]){6}, &e));
    safetensors_fini(&f);
    mixture_free(&m);
    mixture_free(&whole);
    options.covariance = COVARIANCE_DIAGONAL;
}

/* Full and tied covariances: matrices in the file, looked at before they are believed. */
static void check_matrices_are_kept(enum covariance form, size_t floats)
{
    struct error e = {0};
    struct mixture_facts facts = {0};
    struct mixture_file_info info = {.config = &config, .facts = written};
    options.covariance = form;
    struct mixture *m = blank(), *whole = blank();
    float n = 1, s1[5] = {0, 0.6f, 0, 0.8f, 0}, s2[25] = {0};
    uint32_t k = 2;
    s2[6] = 0.36f;
    s2[8] = s2[16] = 0.48f;
    s2[18] = 0.64f;
    struct stats_rows s = {
        .K = 6, .D = 5, .squares = 25, .R = 1, .index = &k, .n = &n, .s1 = s1, .s2 = s2, .moment = s2, .count = 1};
    mixture_start(whole, 11);
    assert_int_equal(mixture_em_step(whole, &s, 0.7), 0);
    assert_int_equal(mixture_file_write(below("m.safetensors"), whole, &info, &e), 0);
    assert_int_equal(mixture_file_read(below("m.safetensors"), &info, m, &facts, &e), 0);
    assert_memory_equal(m->s2, whole->s2, floats * sizeof(double));
    assert_memory_equal(m->view->variance, whole->view->variance, floats * sizeof(float));
    assert_memory_equal(m->view->log_const, whole->view->log_const, 6 * sizeof(float));
    whole->s2[floats - 18] = NAN;
    assert_int_equal(mixture_file_write(below("m.safetensors"), whole, &info, &e), 0);
    assert_int_equal(mixture_file_read(below("m.safetensors"), &info, m, &facts, &e), ERR_FORMAT);
    assert_non_null(strstr(e.text, "finite"));
    mixture_free(&m);
    mixture_free(&whole);
    options.covariance = COVARIANCE_DIAGONAL;
}

static void test_matrices_are_kept(void **state)
{
    (void)state;
    check_matrices_are_kept(COVARIANCE_FULL, 150);
    check_matrices_are_kept(COVARIANCE_TIED, 25);
}

static void write_and_read_bytes(const struct mixture *m, struct buf **out)
{
    struct error e = {0};
    struct mixture_file_info info = {.config = &config, .facts = written};
    assert_int_equal(mixture_file_write(below("m.safetensors"), m, &info, &e), 0);
    assert_int_equal(file_read(below("m.safetensors"), 1 << 20, out, &e), 0);
}

/* A snapshot is written as the mixture that it was taken of would have been, whatever has become of that one, and is
 * a whole one again when it is cloned. Means and variances of all families but those with matrices are made as they
 * are written. */
static void check_snapshot(enum covariance form)
{
    options.covariance = form;
    struct mixture *m = blank(), *snapshot, *again;
    struct buf *before, *after_all;
    bool made = form != COVARIANCE_FULL && form != COVARIANCE_TIED;
    mixture_start(m, 11);
    mixture_move(m, 3, (const float[]){0, 0.6f, 0, -0.8f, 0}, 1); /* not at random, of all covariances */
    m->mass[2] *= 2;
    mixture_restore(m, 1);
    write_and_read_bytes(m, &before);
    assert_int_equal(mixture_snapshot(m, &snapshot), 0);
    assert_true((snapshot->view->mean == NULL) == made && (snapshot->view->variance == NULL) == made);
    mixture_start(m, 12);
    write_and_read_bytes(snapshot, &after_all);
    assert_int_equal(before->size, after_all->size);
    assert_memory_equal(before->data, after_all->data, before->size);
    buf_unref(&after_all);
    assert_int_equal(mixture_clone(snapshot, &again), 0);
    write_and_read_bytes(again, &after_all);
    assert_memory_equal(before->data, after_all->data, before->size);
    buf_unref(&before);
    buf_unref(&after_all);
    mixture_free(&m);
    mixture_free(&snapshot);
    mixture_free(&again);
    options.covariance = COVARIANCE_DIAGONAL;
}

static void test_a_snapshot_is_written_like_its_mixture(void **state)
{
    (void)state;
    check_snapshot(COVARIANCE_DIAGONAL);
    check_snapshot(COVARIANCE_SPHERICAL);
    check_snapshot(COVARIANCE_VMF);
    check_snapshot(COVARIANCE_FULL);
    check_snapshot(COVARIANCE_TIED);
}

static void test_splits_are_counted_on(void **state)
{
    (void)state;
    struct error e = {0};
    struct mixture_facts facts = {0};
    struct mixture_file_info info = {.config = &config, .facts = written};
    options.merge_distance = 0.1;
    struct mixture *m = blank(), *whole = after(7);
    whole->splits = 3;
    assert_int_equal(mixture_file_write(below("m.safetensors"), whole, &info, &e), 0);
    assert_int_equal(mixture_file_read(below("m.safetensors"), &info, m, &facts, &e), 0);
    assert_int_equal(m->splits, 3);
    mixture_free(&m);
    mixture_free(&whole);
    options.merge_distance = 0;
}

static uint64_t resumed_step(void)
{
    struct error e = {0};
    struct mixture_facts facts;
    struct mixture *m = blank();
    int rc = mixture_checkpoint_resume(&config, UINT64_MAX, m, &facts, &e);
    uint64_t step = rc == 0 ? m->view->version : UINT64_MAX;
    mixture_free(&m);
    return step;
}

static void test_damage_falls_back_to_the_step_before(void **state)
{
    (void)state;
    write_step(5, true);
    write_step(10, true);
    write_step(15, true);
    write_step(20, false);
    assert_int_equal(resumed_step(), 15);
    flip_byte("checkpoints/step-000015/mixture.safetensors", 100);
    assert_int_equal(resumed_step(), 10);
    flip_byte("checkpoints/step-000010/encoder.safetensors", 2);
    assert_int_equal(resumed_step(), 5);
    assert_int_equal(truncate(below("checkpoints/step-000005/mixture.safetensors"), 50), 0);
    struct error e = {0};
    struct mixture_facts facts;
    struct mixture *m = blank();
    assert_int_equal(mixture_checkpoint_resume(&config, UINT64_MAX, m, &facts, &e), ERR_FORMAT);
    mixture_free(&m);
}

static void test_latest_names_the_newest_pair(void **state)
{
    (void)state;
    struct error e = {0};
    struct buf *b = NULL;
    write_step(5, true);
    write_step(10, false);
    assert_int_equal(file_read(below("checkpoints/latest"), 64, &b, &e), 0);
    assert_int_equal(strncmp((const char *)b->data, "step-000005", 11), 0);
    buf_unref(&b);
}

static void test_other_run_and_configuration_are_named(void **state)
{
    (void)state;
    struct error e = {0};
    struct mixture_facts facts;
    struct mixture *m = blank();
    write_step(5, true);
    config.mixture.forgetting = 0.5;
    assert_int_equal(mixture_checkpoint_resume(&config, UINT64_MAX, m, &facts, &e), ERR_CONFIG);
    assert_non_null(strstr(e.text, "mixture.forgetting = 0.99, not 0.5"));
    config.mixture.forgetting = 0.99;
    strcpy(config.run.name, "stranger");
    assert_int_equal(mixture_checkpoint_resume(&config, UINT64_MAX, m, &facts, &e), ERR_CONFIG);
    assert_non_null(strstr(e.text, "stranger"));
    mixture_free(&m);
}

/* Sound in itself and finite, but its mean is beyond a float. */
static void test_statistics_beyond_a_float_are_refused(void **state)
{
    (void)state;
    struct error e = {0};
    struct mixture_facts facts = {0};
    struct mixture_file_info info = {.config = &config, .facts = written};
    struct mixture *m = after(1);
    m->mass[3] = 1e-200;
    assert_int_equal(mixture_file_write(below("m.safetensors"), m, &info, &e), 0);
    assert_int_equal(mixture_file_read(below("m.safetensors"), &info, m, &facts, &e), ERR_FORMAT);
    assert_non_null(strstr(e.text, "component 3"));
    mixture_free(&m);
}

#define CASE(f) cmocka_unit_test_setup_teardown(f, make_directory, remove_directory)

int main(void)
{
    log_init("test", LOG_ERROR);
    const struct CMUnitTest tests[] = {
        CASE(test_nothing_to_resume),
        CASE(test_round_trip_is_exact),
        CASE(test_directions_are_kept),
        CASE(test_matrices_are_kept),
        CASE(test_a_snapshot_is_written_like_its_mixture),
        CASE(test_splits_are_counted_on),
        CASE(test_prices_are_kept),
        CASE(test_damage_falls_back_to_the_step_before),
        CASE(test_latest_names_the_newest_pair),
        CASE(test_other_run_and_configuration_are_named),
        CASE(test_statistics_beyond_a_float_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
