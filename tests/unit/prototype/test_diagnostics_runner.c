/* The runner's pieces and turns, on a loop with nothing else on it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "server/prototype/diagnostics_runner.h"

enum { K = 2500, D = 256, PIECE = DIAGNOSTICS_TURN_BYTES / (D * 4) }; /* some pieces */

struct rig {
    uv_loop_t loop;
    struct mixture *mixture;
    struct diagnostics_runner runner;
    int again, results;
};

static uint32_t held(const struct rig *r)
{
    uint32_t count = 0;
    for (uint32_t k = 0; k < K; k++)
        count += r->runner.input.held[k] > 0;
    return count;
}

static void again(void *arg)
{
    struct rig *r = arg;
    uint32_t before = held(r);
    r->again++;
    assert_int_equal(diagnostics_runner_poll(&r->runner, r->mixture, 5), 0);
    assert_true(held(r) - before <= PIECE);
}

static void on_result(void *arg, struct diagnostics *d)
{
    struct rig *r = arg;
    r->results++;
    assert_non_null(d);
    diagnostics_free(&d);
}

static void rig_open(struct rig *r)
{
    const struct mixture_options o = {.K = K,
                                      .D = D,
                                      .covariance = COVARIANCE_DIAGONAL,
                                      .forgetting = 0.9,
                                      .variance_floor = 1e-3,
                                      .initial_mass = 1,
                                      .usage_momentum = 0.9,
                                      .reseed_max = 1};
    *r = (struct rig){0};
    assert_int_equal(uv_loop_init(&r->loop), 0);
    assert_int_equal(mixture_new(&o, &r->mixture), 0);
    mixture_start(r->mixture, 3);
    r->runner =
        (struct diagnostics_runner){.loop = &r->loop, .wanted = true, .on_result = on_result, .again = again, .arg = r};
}

static void rig_close(struct rig *r)
{
    diagnostics_runner_end(&r->runner, 0);
    uv_run(&r->loop, UV_RUN_DEFAULT);
    diagnostics_runner_fini(&r->runner);
    assert_int_equal(uv_loop_close(&r->loop), 0); /* nothing is left open */
    mixture_free(&r->mixture);
}

/* One piece in a turn, and turns follow each other although nothing happens. */
static void test_one_piece_in_a_turn(void **state)
{
    (void)state;
    struct rig r;
    rig_open(&r);
    assert_int_equal(diagnostics_runner_poll(&r.runner, r.mixture, 5), 0);
    assert_int_equal(held(&r), PIECE);
    uv_run(&r.loop, UV_RUN_DEFAULT); /* until nothing is to be done */
    assert_int_equal(r.again, K / PIECE);
    assert_int_equal(r.results, 1);
    assert_int_equal(held(&r), K);
    rig_close(&r);
}

/* A server that ends copies the rest at once, for its last pass. */
static void test_rest_at_once_when_leaving(void **state)
{
    (void)state;
    struct rig r;
    rig_open(&r);
    assert_int_equal(diagnostics_runner_poll(&r.runner, r.mixture, 5), 0);
    diagnostics_runner_end(&r.runner, 60000);
    assert_int_equal(diagnostics_runner_poll(&r.runner, r.mixture, 5), 0);
    assert_true(r.runner.busy);
    uv_run(&r.loop, UV_RUN_DEFAULT);
    assert_int_equal(r.again, 0);
    assert_int_equal(r.results, 1);
    rig_close(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_one_piece_in_a_turn),
        cmocka_unit_test(test_rest_at_once_when_leaving),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
