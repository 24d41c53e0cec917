/* What the meter says, where it says it, and that it can be left out. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>
#include "cli/evaluation_meter.h"

static void assert_line(double fraction, double seconds, const char *want)
{
    char line[160];
    evaluation_meter_line("evaluating", "pixels: k-NN", fraction, seconds, line, sizeof line);
    assert_string_equal(line, want);
}

static void test_lines(void **state)
{
    (void)state;
    assert_line(0, 0, "evaluating: pixels: k-NN");
    assert_line(0.25, 0.1, "evaluating: pixels: k-NN  25 %"); /* too early for an estimate */
    assert_line(0.25, 10, "evaluating: pixels: k-NN  25 %, 30s left");
    assert_line(1, 10, "evaluating: pixels: k-NN  100 %, 0s left");
    char small[16];
    evaluation_meter_line("evaluating", "pixels: k-NN", 0.5, 10, small, sizeof small);
    assert_string_equal(small, "evaluating: pix");
}

static char *told(bool terminal)
{
    char *text = NULL;
    size_t size = 0;
    FILE *f = open_memstream(&text, &size);
    struct evaluation_meter m;
    assert_non_null(f);
    evaluation_meter_init(&m, "evaluating", f, terminal);
    evaluation_meter_stage(&m, "pixels", "k-NN");
    evaluation_meter_at(&m, 0.5);
    m.shown -= 11; /* as if that had been long ago */
    evaluation_meter_at(&m, 0.75);
    evaluation_meter_end(&m);
    fclose(f);
    return text;
}

static void test_terminal(void **state)
{
    (void)state;
    char *text = told(true);
    assert_string_equal(text, "\revaluating: pixels: k-NN\033[K\revaluating: pixels: k-NN  75 %\033[K\r\033[K");
    free(text);
}

/* A log gets whole lines, and none while things go quickly. */
static void test_log(void **state)
{
    (void)state;
    char *text = told(false);
    assert_string_equal(text, "evaluating: pixels: k-NN  75 %\n");
    free(text);
}

static void test_nobody_reads(void **state)
{
    (void)state;
    struct evaluation_meter m;
    evaluation_meter_init(&m, "evaluating", NULL, false);
    evaluation_meter_stage(&m, "a", "b");
    evaluation_meter_at(&m, 0.5);
    evaluation_meter_end(&m);
    evaluation_meter_stage(NULL, "a", "b");
    evaluation_meter_at(NULL, 0.5);
    evaluation_meter_end(NULL);
    assert_string_equal(m.stage, "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lines),
        cmocka_unit_test(test_terminal),
        cmocka_unit_test(test_log),
        cmocka_unit_test(test_nobody_reads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
