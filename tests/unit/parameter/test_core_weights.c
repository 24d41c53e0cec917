/* What of the weights is published, and that a worker gets from it what the server has. */
#include "tests/unit/parameter/core_rig.h"

#include <math.h>
#include "proto/teacher.h"

static void read_manifest(struct manifest *out)
{
    struct msg m = rig_init_message("weight");
    const struct buf *json = msg_tensor(&m, "manifest", DTYPE_U8, NULL)->data;
    assert_int_equal(manifest_from_json(json->data, json->size, out, NULL), 0);
    msg_fini(&m);
}

/* After an update the student alone is published, with what a worker needs to move the teacher that it holds; who asks
 * gets both. */
static void test_updates_are_published_without_the_teacher(void **state)
{
    (void)state;
    float teacher[RIG_P], w[2 * RIG_P + RIG_Q];
    struct manifest manifest;
    struct rig r = rig_begun();
    rig_weights(&r, w);
    memcpy(teacher, w + RIG_P, sizeof teacher);
    read_manifest(&manifest);
    for (uint64_t t = 0; t < 3; t++) {
        rig_run_to(&r, t + 1);
        const struct msg *m = &r.out.items[rig_index(&r, MSG_WEIGHTS)].msg;
        enum reason why = 0;
        assert_int_equal(m->step, t + 1);
        assert_null(msg_tensor(m, "teacher", DTYPE_F32, &why));
        teacher_follow(&manifest, (float)msg_scalar(m, "ema", NAN), teacher,
                       (const float *)(const void *)msg_tensor(m, "student", DTYPE_F32, &why)->data->data, teacher);
        assert_true(msg_scalar(m, "check", NAN) == teacher_check(teacher, RIG_P));
        rig_weights(&r, w);
        assert_memory_equal(teacher, w + RIG_P, sizeof teacher);
    }
    manifest_fini(&manifest);
    rig_free(&r);
}

/* Finite slots can overflow in their sum. Nothing moves then, the teacher neither, and so nothing follows. */
static void test_a_skipped_step_publishes_the_pair(void **state)
{
    (void)state;
    struct rig r = rig_begun();
    for (uint32_t slot = 0; slot < RIG_SLOTS; slot++) {
        struct msg m = rig_gradient(RIG_ALICE, 0, slot, 1);
        float *gradient = (float *)(void *)m.tensors[0].data->data;
        gradient[0] = 3e38f;
        rig_send(&r, &m);
    }
    const struct msg *m = &r.out.items[rig_index(&r, MSG_WEIGHTS)].msg;
    assert_int_equal(m->step, 1);
    assert_non_null(msg_tensor(m, "teacher", DTYPE_F32, NULL));
    assert_true(isnan(msg_scalar(m, "ema", NAN)));
    rig_free(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_updates_are_published_without_the_teacher),
        cmocka_unit_test(test_a_skipped_step_publishes_the_pair),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
