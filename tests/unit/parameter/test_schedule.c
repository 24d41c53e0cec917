/* Learning rate and teacher momentum at the ends, in the middle, and around the warm-up. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "server/parameter/schedule.h"

static const struct schedule recipe = {
    .lr = 2e-3, .lr_end = 0.01, .warmup = 50, .ema_start = 0.99, .ema_end = 0.996, .steps = 1000};

static void assert_near(double got, double expected)
{
    if (!(fabs(got - expected) <= 1e-15))
        fail_msg("got %.17g, expected %.17g", got, expected);
}

static void test_warm_up_is_linear_on_top_of_the_cosine(void **state)
{
    (void)state;
    assert_near(schedule_lr(&recipe, 0), 2e-3 / 50);
    double cosine = 0.01 + 0.99 * 0.5 * (1 + cos(M_PI * 24 / 1000));
    assert_near(schedule_lr(&recipe, 24), 2e-3 * 0.5 * cosine);
    assert_near(schedule_lr(&recipe, 49), 2e-3 * (0.01 + 0.99 * 0.5 * (1 + cos(M_PI * 49 / 1000))));
}

static void test_learning_rate_falls_to_its_share(void **state)
{
    (void)state;
    assert_near(schedule_lr(&recipe, 500), 2e-3 * (0.01 + 0.99 * 0.5));
    assert_near(schedule_lr(&recipe, 1000), 2e-3 * 0.01);
}

static void test_no_warm_up_starts_at_the_peak(void **state)
{
    (void)state;
    struct schedule s = recipe;
    s.warmup = 0;
    assert_near(schedule_lr(&s, 0), 2e-3);
    s.warmup = 1;
    assert_near(schedule_lr(&s, 0), 2e-3);
}

static void test_momentum_goes_from_start_to_end(void **state)
{
    (void)state;
    assert_near(schedule_ema(&recipe, 0), 0.99);
    assert_near(schedule_ema(&recipe, 500), 0.993);
    assert_near(schedule_ema(&recipe, 1000), 0.996);
}

static void test_a_single_step_is_legal(void **state)
{
    (void)state;
    struct schedule s = recipe;
    s.steps = 1;
    assert_near(schedule_lr(&s, 0), 2e-3 / 50);
    assert_near(schedule_ema(&s, 0), 0.99);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_warm_up_is_linear_on_top_of_the_cosine),
        cmocka_unit_test(test_learning_rate_falls_to_its_share),
        cmocka_unit_test(test_no_warm_up_starts_at_the_peak),
        cmocka_unit_test(test_momentum_goes_from_start_to_end),
        cmocka_unit_test(test_a_single_step_is_legal),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
