/* Leases of more than one slot: their gradients leave as one sum. */
#include "tests/unit/worker/session_rig.h"

static void lease_of(struct world *w, uint64_t step, uint32_t slot, uint32_t slots)
{
    struct msg m = message(MSG_LEASE, 1, step, slot);
    m.slots = slots;
    tell(w, SERVER_PARAMETER, &m);
}

static void finish(struct world *w, struct slot_job *job, float value)
{
    uint32_t slot = job->slot;
    finish_a(w, job);
    tell_simple(w, SERVER_PROTOTYPE, MSG_ACK, 0, slot, ACK_APPLIED);
    job->gradient = buf_new(P * sizeof(float));
    job->new_buffers = buf_new(Q * sizeof(float));
    job->metrics = buf_new(sizeof(double));
    for (int i = 0; i < P; i++)
        ((float *)job->gradient->data)[i] = value;
    for (int i = 0; i < Q; i++)
        ((float *)job->new_buffers->data)[i] = 10 * value;
    *(double *)job->metrics->data = 100 * value;
    job->metric_count = 1;
    assert_int_equal(session_on_part_b(w->session, job, w->now), 0);
}

static void expect_sum(struct world *w, uint32_t slot, uint32_t slots, float value)
{
    expect(w, SERVER_PARAMETER, MSG_GRADIENT);
    assert_true(w->said.slot == slot && w->said.slots == slots);
    assert_true(*(const float *)msg_tensor(&w->said, "grad", DTYPE_F32, NULL)->data->data == value);
    assert_true(*(const float *)msg_tensor(&w->said, "buffers", DTYPE_F32, NULL)->data->data == 10 * value);
    assert_true(*(const double *)msg_tensor(&w->said, "metrics", DTYPE_F64, NULL)->data->data == 100 * value);
}

static void test_a_lease_of_four_slots_leaves_as_one_sum(void **state)
{
    (void)state;
    struct world w;
    open_world(&w, 4, 1, false);
    settle_in(&w, false);
    lease_of(&w, 0, 0, 4);
    struct slot_job *jobs[4];
    for (uint32_t i = 0; i < 4; i++)
        jobs[i] = expect_job(&w, 0, i, SLOT_PART_A | SLOT_PART_B);
    const uint32_t order[] = {3, 0, 2, 1};
    for (uint32_t i = 0; i < 3; i++) {
        finish(&w, jobs[order[i]], (float)(1 << order[i]));
        assert_false(says(&w, SERVER_PARAMETER, MSG_GRADIENT)); /* more is on its way */
    }
    finish(&w, jobs[1], 2);
    expect_sum(&w, 0, 4, 15);
    assert_false(says(&w, SERVER_PARAMETER, MSG_GRADIENT));
    struct msg ack = message(MSG_ACK, 1, 0, 0);
    ack.slots = 4;
    tell(&w, SERVER_PARAMETER, &ack);
    assert_int_equal(session_slots_done(w.session), 4);
    close_world(&w);
}

/* What cannot come any more is not waited for. */
static void test_a_part_whose_sibling_is_refused_leaves_alone(void **state)
{
    (void)state;
    struct world w;
    open_world(&w, 2, 1, false);
    settle_in(&w, false);
    lease_of(&w, 0, 2, 2);
    struct slot_job *left = expect_job(&w, 0, 2, SLOT_PART_A | SLOT_PART_B),
                    *right = expect_job(&w, 0, 3, SLOT_PART_A | SLOT_PART_B);
    finish(&w, right, 1);
    assert_false(says(&w, SERVER_PARAMETER, MSG_GRADIENT));
    finish_a(&w, left);
    struct msg refusal = message(MSG_ERROR, 1, 0, 2);
    refusal.code = REASON_BAD_VALUE;
    tell(&w, SERVER_PROTOTYPE, &refusal);
    tick(&w, 0);
    expect_sum(&w, 3, 1, 1);
    finish_b(&w, left);
    assert_false(says(&w, SERVER_PARAMETER, MSG_GRADIENT));
    close_world(&w);
}

/* The sum holds both slots: both are computed again. */
static void test_a_sum_is_taken_apart_when_the_prototype_server_restarts(void **state)
{
    (void)state;
    struct world w;
    open_world(&w, 2, 1, false);
    settle_in(&w, false);
    lease_of(&w, 0, 0, 2);
    struct slot_job *left = expect_job(&w, 0, 0, SLOT_PART_A | SLOT_PART_B),
                    *right = expect_job(&w, 0, 1, SLOT_PART_A | SLOT_PART_B);
    finish(&w, left, 1);
    finish(&w, right, 2);
    expect_sum(&w, 0, 2, 3);
    welcome(&w, SERVER_PROTOTYPE, 2, 0);
    struct msg m = message(MSG_MIXTURE, 2, 0, 0);
    w.mixture->version = 0;
    assert_int_equal(mixture_encode(w.mixture, NULL, 1, &m), 0);
    tell(&w, SERVER_PROTOTYPE, &m);
    left = expect_job(&w, 0, 0, SLOT_PART_A | SLOT_PART_B);
    right = expect_job(&w, 0, 1, SLOT_PART_A | SLOT_PART_B);
    finish_a(&w, left);
    finish_a(&w, right);
    finish_b(&w, left);
    finish_b(&w, right);
    close_world(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_lease_of_four_slots_leaves_as_one_sum),
        cmocka_unit_test(test_a_part_whose_sibling_is_refused_leaves_alone),
        cmocka_unit_test(test_a_sum_is_taken_apart_when_the_prototype_server_restarts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
