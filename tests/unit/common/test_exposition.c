/* The Prometheus text format: families, labels, numbers that are none, histograms, the process's own figures. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <cmocka.h>
#include "common/exposition.h"

static void assert_text(struct exposition *x, const char *want)
{
    char *text;
    size_t size;
    assert_int_equal(exposition_end(x, &text, &size), 0);
    assert_string_equal(text, want);
    assert_int_equal(size, strlen(want));
    free(text);
}

static void test_nothing_is_empty(void **state)
{
    (void)state;
    struct exposition x;
    exposition_begin(&x);
    assert_text(&x, "");
}

static void test_families_and_samples(void **state)
{
    (void)state;
    struct exposition x;
    exposition_begin(&x);
    exposition_single(&x, "app_step", "gauge", "Steps.", 9007199254740991.0);
    exposition_family(&x, "app_messages_total", "counter", "Messages.");
    exposition_value(&x, 7, "direction=\"%s\"", "in");
    exposition_value(&x, NAN, "direction=\"%s\",n=\"%d\"", "out", 2);
    exposition_value(&x, -INFINITY, "direction=\"none\"");
    exposition_value(&x, INFINITY, "direction=\"all\"");
    assert_text(&x, "# HELP app_step Steps.\n# TYPE app_step gauge\napp_step 9.00719925474099e+15\n"
                    "# HELP app_messages_total Messages.\n# TYPE app_messages_total counter\n"
                    "app_messages_total{direction=\"in\"} 7\napp_messages_total{direction=\"out\",n=\"2\"} NaN\n"
                    "app_messages_total{direction=\"none\"} -Inf\napp_messages_total{direction=\"all\"} +Inf\n");
}

static void test_histograms_accumulate(void **state)
{
    (void)state;
    struct histogram h = {0};
    struct exposition x;
    char *text;
    size_t size;
    histogram_add(&h, 0);
    histogram_add(&h, 0.01); /* bounds are inclusive */
    histogram_add(&h, 0.3);
    histogram_add(&h, 1000);
    assert_int_equal(h.counts[0], 2);
    assert_int_equal(h.counts[HISTOGRAM_BOUNDS], 1);
    exposition_begin(&x);
    exposition_histogram(&x, "t_seconds", "Time.", &h);
    assert_int_equal(exposition_end(&x, &text, &size), 0);
    assert_non_null(strstr(text, "# TYPE t_seconds histogram\nt_seconds_bucket{le=\"0.01\"} 2\n"));
    assert_non_null(strstr(text, "t_seconds_bucket{le=\"0.25\"} 2\nt_seconds_bucket{le=\"0.5\"} 3\n"));
    assert_non_null(strstr(text, "t_seconds_bucket{le=\"60\"} 3\nt_seconds_bucket{le=\"+Inf\"} 4\n"));
    assert_non_null(strstr(text, "t_seconds_sum 1000.31\nt_seconds_count 4\n"));
    free(text);
}

static double figure(const char *text, const char *name)
{
    const char *at = strstr(text, name);
    assert_non_null(at);
    return strtod(at + strlen(name), NULL);
}

static void test_the_process_shows_itself(void **state)
{
    (void)state;
    struct exposition x;
    char *text;
    size_t size;
    exposition_begin(&x);
    exposition_process(&x);
    assert_int_equal(exposition_end(&x, &text, &size), 0);
    assert_true(figure(text, "\nprocess_resident_memory_bytes ") > 1e5);
    assert_true(figure(text, "\nprocess_cpu_seconds_total ") >= 0);
    double age = (double)time(NULL) - figure(text, "\nprocess_start_time_seconds ");
    assert_true(age > -5 && age < 3600);
    double open = figure(text, "\nprocess_open_fds ");
    assert_true(open >= 3 && open < 100);
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_nothing_is_empty),
        cmocka_unit_test(test_families_and_samples),
        cmocka_unit_test(test_histograms_accumulate),
        cmocka_unit_test(test_the_process_shows_itself),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
