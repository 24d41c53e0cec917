/* The table of several runs: which figures stand there, what is left out, and the warning of unlike images. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "cli/evaluation_compare.h"

static struct evaluation run_named(const char *name, bool joint, double knn)
{
    struct evaluation v = {
        .joint = joint, .step = 7, .K = 64, .classes = 10, .bank = 500, .queries = 100, .labelled = true, .data = 1};
    snprintf(v.run, sizeof v.run, "%s", name);
    v.encoder.features.knn.percent = knn;
    v.encoder.features.linear.percent = NAN;
    v.encoder.nmi = 0.25;
    v.prototypes.active = 98.5;
    v.prototypes.active_unique[3] = 12.25;
    return v;
}

/* What is printed; to be freed. */
static char *table(const struct evaluation *v, size_t count)
{
    char *text = NULL;
    size_t size = 0;
    FILE *f = open_memstream(&text, &size);
    assert_non_null(f);
    evaluation_print_beside(v, count, f);
    fclose(f);
    return text;
}

static void assert_has(const char *text, const char *part)
{
    if (strstr(text, part) == NULL)
        fail_msg("'%s' is not in\n%s", part, text);
}

static void test_a_column_for_each(void **state)
{
    (void)state;
    struct evaluation v[] = {run_named("one", false, 61.5), run_named("two", true, 59.25), run_named("three", true, 1)};
    char *text = table(v, 3);
    assert_has(text, "3 runs on 500 images of a bank and 100 test images, 10 classes\n");
    assert_has(text, "  A  one: step 7, 64 decoupled prototypes\n  B  two: step 7, 64 joint prototypes\n");
    assert_has(text, "  k-NN %                        61.50      59.25       1.00\n");
    assert_has(text, "  linear %                          -          -          -\n");
    assert_has(text, "  active %                       98.5       98.5       98.5\n");
    assert_null(strstr(text, "pixels"));
    assert_null(strstr(text, "OTHER IMAGES"));
    free(text);
}

static void test_references_are_the_first_ones(void **state)
{
    (void)state;
    struct evaluation v[] = {run_named("one", false, 61.5), run_named("two", true, 59.25)};
    v[0].references = true;
    v[0].pixels.knn.percent = 57.5;
    v[0].random.knn.percent = 43;
    char *text = table(v, 2);
    assert_has(text, "          A          B     pixels     random\n");
    assert_has(text, "  k-NN %                        61.50      59.25      57.50      43.00\n");
    assert_has(text, "  NMI of prototypes             0.250      0.250\n");
    free(text);
}

static void test_unlike_images_are_said(void **state)
{
    (void)state;
    struct evaluation v[] = {run_named("one", false, 61.5), run_named("two", true, 59.25), run_named("three", true, 1)};
    v[1].data = 2;
    v[2].queries = 99;
    char *text = table(v, 3);
    assert_has(text, "  B  two: step 7, 64 joint prototypes; OTHER IMAGES than A, not to be compared\n");
    assert_has(text, "  C  three: step 7, 64 joint prototypes; OTHER IMAGES than A, not to be compared\n");
    free(text);
}

static void test_without_queries_or_labels(void **state)
{
    (void)state;
    struct evaluation v[] = {run_named("one", false, 61.5), run_named("two", true, 59.25)};
    snprintf(v[1].probes_missing, sizeof v[1].probes_missing, "no test images");
    v[1].labelled = false;
    char *text = table(v, 2);
    assert_has(text, "  B  two: step 7, 64 joint prototypes; no probes: no test images\n");
    assert_has(text, "  k-NN %                        61.50          -\n");
    assert_has(text, "  NMI of prototypes             0.250          -\n");
    assert_has(text, "                    0.5          12.2       12.2\n");
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_column_for_each),
        cmocka_unit_test(test_references_are_the_first_ones),
        cmocka_unit_test(test_unlike_images_are_said),
        cmocka_unit_test(test_without_queries_or_labels),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
