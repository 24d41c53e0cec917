/* The line of progress: nothing known, one server known, both, and the time left. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>
#include "cli/progress.h"

static struct run_config config;

static int load(void **state)
{
    (void)state;
    static const char *const set[] = {"loss.coding_rate=0", "loss.mean_entropy=0", "loss.feature_rate=0"};
    return run_config_load(&config, NULL, NULL, set, 3, NULL);
}

static void training(struct progress *p, uint64_t step, double epoch, uint64_t now_ms)
{
    struct msg m;
    msg_init(&m, MSG_METRICS, "r");
    m.step = step;
    msg_add_scalar(&m, "loss", 5.5);
    msg_add_scalar(&m, "consistency", 6.25);
    msg_add_scalar(&m, "entropy", -0.25);
    msg_add_scalar(&m, "images_per_s", 1500);
    msg_add_scalar(&m, "workers", 1);
    if (epoch >= 0)
        msg_add_scalar(&m, "epoch", epoch);
    progress_on_metrics(p, &m, now_ms);
    msg_fini(&m);
}

static void has(const struct progress *p, const char *part)
{
    char line[PROGRESS_LINE_MAX];
    assert_true(progress_line(p, line));
    if (!strstr(line, part))
        fail_msg("'%s' lacks '%s'", line, part);
}

static void lacks(const struct progress *p, const char *part)
{
    char line[PROGRESS_LINE_MAX];
    assert_true(progress_line(p, line));
    assert_null(strstr(line, part));
}

static void test_nothing_yet(void **state)
{
    (void)state;
    struct progress p;
    struct msg m;
    char line[PROGRESS_LINE_MAX];
    progress_init(&p, &config);
    assert_false(progress_line(&p, line));
    msg_init(&m, MSG_PONG, "r");
    msg_add_scalar(&m, "loss", 1);
    progress_on_metrics(&p, &m, 0); /* not metrics */
    msg_fini(&m);
    assert_false(progress_line(&p, line));
    assert_int_equal(progress_total(&p), 0);
}

static void test_first_step(void **state)
{
    (void)state;
    struct progress p;
    progress_init(&p, &config);
    training(&p, 117, 0.5, 1000);
    has(&p, "epoch 0.5/10  step 117/2340");
    has(&p, "loss 5.500 (consistency 6.250, entropy -0.250; ln K 6.93)");
    has(&p, "1500 images/s  1 worker");
    lacks(&p, "left");   /* one report is no rate */
    lacks(&p, "unique"); /* nothing heard of the prototype server */
}

static void test_time_left(void **state)
{
    (void)state;
    struct progress p;
    progress_init(&p, &config);
    training(&p, 117, 0.5, 1000);
    training(&p, 234, 1.0, 1000 + 117 * 100);
    has(&p, "3m31s left"); /* 2106 steps of 100 ms */
    training(&p, 2340, 10, 1000 + 2223 * 100);
    lacks(&p, "left");
}

static void test_prototypes(void **state)
{
    (void)state;
    struct progress p;
    struct msg m;
    progress_init(&p, &config);
    training(&p, 10, -1, 0);
    msg_init(&m, MSG_METRICS, "r");
    msg_add_scalar(&m, "unique_0025", 99.5);
    msg_add_scalar(&m, "unique_01", 80);
    msg_add_scalar(&m, "active", 12.25);
    progress_on_metrics(&p, &m, 5);
    msg_fini(&m);
    has(&p, "unique 99.5/80.0 %  active lately 12.2 %");
    lacks(&p, "epoch");
}

static void test_given_steps(void **state)
{
    (void)state;
    struct run_config fixed = config;
    struct progress p;
    fixed.run.steps = 50;
    fixed.loss.objective = LOSS_DINO;
    progress_init(&p, &fixed);
    training(&p, 10, -1, 0);
    has(&p, "step 10/50");
    has(&p, "loss 5.500 (ln K 6.93)");
    lacks(&p, "entropy"); /* it is CARP's */
}

static void test_parts_of_the_loss(void **state)
{
    (void)state;
    struct run_config terms = config;
    struct progress p;
    struct msg m;
    terms.loss.objective = LOSS_DINO;
    terms.loss.mean_entropy = 2;
    progress_init(&p, &terms);
    training(&p, 10, -1, 0);
    msg_init(&m, MSG_METRICS, "r");
    msg_add_scalar(&m, "loss", -6);
    msg_add_scalar(&m, "consistency", 6.25);
    msg_add_scalar(&m, "mean_entropy", 5.125);
    msg_add_scalar(&m, "coding_rate", 2);
    msg_add_scalar(&m, "feature_rate", 3);
    progress_on_metrics(&p, &m, 5);
    msg_fini(&m);
    has(&p, "loss -6.000 (consistency 6.250, mean entropy 5.125; ln K 6.93)");
    terms.loss.coding_rate = 1;
    has(&p, "loss -6.000 (consistency 6.250, mean entropy 5.125, coding rate 2.000; ln K 6.93)");
    terms.loss.feature_rate = 0.1;
    has(&p, "loss -6.000 (consistency 6.250, mean entropy 5.125, coding rate 2.000, feature rate 3.000; ln K 6.93)");
    terms.loss.mean_entropy = terms.loss.coding_rate = 0;
    has(&p, "loss -6.000 (consistency 6.250, feature rate 3.000; ln K 6.93)");
}

static void test_durations(void **state)
{
    (void)state;
    const struct {
        double seconds;
        const char *text;
    } cases[] = {{-1, "0s"},       {0, "0s"},       {59.4, "59s"},    {59.6, "1m00s"},
                 {3599, "59m59s"}, {3600, "1h00m"}, {90061, "25h01m"}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char text[32];
        progress_duration(cases[i].seconds, text, sizeof text);
        assert_string_equal(text, cases[i].text);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_nothing_yet),       cmocka_unit_test(test_first_step),  cmocka_unit_test(test_time_left),
        cmocka_unit_test(test_prototypes),        cmocka_unit_test(test_given_steps), cmocka_unit_test(test_durations),
        cmocka_unit_test(test_parts_of_the_loss),
    };
    return cmocka_run_group_tests(tests, load, NULL);
}
