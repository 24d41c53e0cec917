/* When an evaluation is due, and what a run that begins does with the notes of an earlier one. */
#include <unistd.h>
#include "cli/evaluation_note.h"
#include "cli/launch_eval.h"
#include "tests/unit/cli/checkpoint_rig.h"

static void test_due(void **state)
{
    (void)state;
    assert_false(launch_eval_due(0, 0, 1000));
    assert_false(launch_eval_due(100, 0, 0));
    assert_false(launch_eval_due(100, 0, 99));
    assert_true(launch_eval_due(100, 0, 100));
    assert_true(launch_eval_due(100, 0, 250)); /* the first checkpoint behind a multiple */
    assert_false(launch_eval_due(100, 250, 299));
    assert_true(launch_eval_due(100, 250, 300));
    assert_false(launch_eval_due(100, 250, 50));
}

static void put(const struct rig *r, const char *name, const char *text)
{
    char path[160];
    snprintf(path, sizeof path, "%s/%s", r->root, name);
    assert_int_equal(file_write_atomic(path, &(struct file_part){text, strlen(text)}, 1, NULL), 0);
}

static bool there(const struct rig *r, const char *name)
{
    char path[160];
    snprintf(path, sizeof path, "%s/%s", r->root, name);
    return access(path, F_OK) == 0;
}

static void test_earlier_notes(void **state)
{
    struct rig *r = *state;
    struct launch_plan *plan = calloc(1, sizeof *plan);
    struct launch_eval v;
    char path[160];
    snprintf(path, sizeof path, "%s/checkpoints", r->root);
    assert_true(plan && dir_make(path, NULL) == 0);
    snprintf(plan->config.run.out, sizeof plan->config.run.out, "%s", r->root);
    for (int begins = 0; begins < 2; begins++) {
        put(r, EVALUATION_METRICS, "{\"step\":100,\"knn\":70}\n{\"step\":200,\"knn\":71}\n");
        put(r, "checkpoints/best", "step-000200 knn=71 images=10\n");
        put(r, "checkpoints/candidate", "step-000200\n");
        plan->resume = true;
        plan->begins = begins == 1;
        launch_eval_init(&v, plan, NULL, NULL, NULL);
        assert_int_equal(v.evaluated, begins ? 0 : 200);
        assert_int_equal(there(r, EVALUATION_METRICS), !begins);
        assert_int_equal(there(r, "checkpoints/best"), !begins);
        assert_false(there(r, "checkpoints/candidate"));
    }
    free(plan);
}

int main(void)
{
#define CASE(f) cmocka_unit_test_setup_teardown(f, rig_setup, rig_teardown)
    const struct CMUnitTest tests[] = {CASE(test_due), CASE(test_earlier_notes)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
