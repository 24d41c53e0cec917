/* The records behind the metrics, and when a server calls itself well. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "common/version.h"
#include "proto/msg.h"
#include "server/shell/server_metrics.h"

static void test_steps_go_by(void **state)
{
    (void)state;
    struct step_clock c;
    step_clock_start(&c, 40, 1000);
    step_clock_note(&c, 40, 5000);
    assert_int_equal(c.steps, 0);
    assert_int_equal(c.at_ms, 1000);
    step_clock_note(&c, 41, 3000);
    assert_int_equal(c.steps, 1);
    assert_true(c.seconds.sum == 2.0);
    step_clock_note(&c, 20, 4000); /* going back is no step */
    assert_int_equal(c.steps, 1);
    assert_int_equal(c.step, 20);
    step_clock_note(&c, 21, 4500);
    assert_int_equal(c.steps, 2);
    assert_true(c.seconds.sum == 2.5);
}

static void test_checkpoints_succeed_and_fail(void **state)
{
    (void)state;
    struct checkpoint_record r;
    const struct error fine = {0}, full = {.code = ERR_IO, .text = "no space left"};
    checkpoint_record_start(&r, 0, 100);
    checkpoint_record_note(&r, 50, &full, 200);
    assert_true(r.failing);
    assert_int_equal(r.failures, 1);
    assert_int_equal(r.step, 0);
    assert_int_equal(r.at_ms, 100);
    assert_string_equal(r.cause, "checkpoint of step 50: no space left");
    checkpoint_record_note(&r, 100, &fine, 300);
    assert_false(r.failing);
    assert_int_equal(r.failures, 1);
    assert_int_equal(r.step, 100);
    assert_int_equal(r.at_ms, 300);
}

struct fixture {
    struct run_config config;
    struct step_clock clock;
    struct checkpoint_record checkpoint;
    struct door door;
    uint64_t refused[REASON_END];
    struct server_figures figures;
};

static int open_fixture(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    struct error e;
    assert_int_equal(run_config_load(&f->config, NULL, NULL, NULL, 0, &e), 0);
    step_clock_start(&f->clock, 7, 0);
    f->door.counters.keys_refused = 9;
    checkpoint_record_start(&f->checkpoint, 5, 1000);
    f->figures = (struct server_figures){.server = SERVER_PARAMETER,
                                         .config = &f->config,
                                         .generation = 2,
                                         .now_ms = 3500,
                                         .workers = 3,
                                         .applied = 11,
                                         .metrics_lost = 6,
                                         .refused = f->refused,
                                         .clock = &f->clock,
                                         .checkpoint = &f->checkpoint,
                                         .door = &f->door};
    *state = f;
    return 0;
}

static int close_fixture(void **state)
{
    free(*state);
    return 0;
}

/* No sockets, as before they are open and after they are closed. */
static void test_figures_are_written(void **state)
{
    struct fixture *f = *state;
    struct exposition x;
    char *text;
    size_t size;
    f->refused[REASON_WRONG_CONFIG] = 4;
    exposition_begin(&x);
    server_metrics_write(&f->figures, &x);
    assert_int_equal(exposition_end(&x, &text, &size), 0);
    assert_non_null(
        strstr(text, "\ndecant_build_info{server=\"parameter\",version=\"" DECANT_VERSION "\",protocol=\"1\","));
    assert_non_null(strstr(text, "\ndecant_step 7\n"));
    assert_non_null(strstr(text, "\ndecant_workers 3\n"));
    assert_non_null(strstr(text, "\ndecant_metrics_lines_lost_total 6\n"));
    assert_non_null(strstr(text, "\ndecant_contributions_total{result=\"applied\"} 11\n"));
    assert_non_null(strstr(text, "\ndecant_refused_total{reason=\"wrong_config\"} 4\n"));
    assert_non_null(strstr(text, "\ndecant_handshakes_failed_total{cause=\"key\"} 9\n"));
    assert_non_null(strstr(text, "\ndecant_checkpoint_age_seconds 2.5\n"));
    assert_non_null(strstr(text, "\ndecant_run_info{run=\"default\",config=\""));
    free(text);
}

static void assert_health(const struct fixture *f, const char *reason, bool want_ok, const char *want_reason)
{
    bool ok = !want_ok;
    json_t *object = server_health(&f->figures, reason, &ok);
    assert_int_equal(ok, want_ok);
    assert_string_equal(json_string_value(json_object_get(object, "status")), want_ok ? "ok" : "failing");
    const char *said = json_string_value(json_object_get(object, "reason"));
    if (want_reason)
        assert_string_equal(said, want_reason);
    else
        assert_null(said);
    assert_int_equal(json_integer_value(json_object_get(object, "step")), 7);
    json_decref(object);
}

static void test_well_or_not(void **state)
{
    struct fixture *f = *state;
    const struct error full = {.code = ERR_IO, .text = "no space left on \"/data\""};
    assert_health(f, NULL, true, NULL);
    assert_health(f, "stopping", false, "stopping");
    checkpoint_record_note(&f->checkpoint, 6, &full, 2000);
    assert_health(f, NULL, false, "checkpoint of step 6: no space left on \"/data\"");
    assert_health(f, "stopping", false, "stopping");
}

#define CASE(f) cmocka_unit_test_setup_teardown(f, open_fixture, close_fixture)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_steps_go_by),
        cmocka_unit_test(test_checkpoints_succeed_and_fail),
        CASE(test_figures_are_written),
        CASE(test_well_or_not),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
