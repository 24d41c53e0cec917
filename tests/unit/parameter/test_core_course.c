/* The step machine as a run goes on: leases, draining and the end, going back. */
#include "tests/unit/parameter/core_rig.h"
#include "server/shell/slot_time.h"

/* ---- leases ---- */

/* Answers every lease in the outbox with its gradient, which wants one more; the answers' outboxes are merged in order.
 */
static void work_off(struct rig *r, uint32_t *stops)
{
    struct {
        uint64_t worker, step;
        uint32_t slot;
    } leases[2 * RIG_SLOTS];
    size_t n = 0, done = 0;
    for (;;) {
        for (size_t i = 0; i < r->out.count; i++) {
            const struct msg *m = &r->out.items[i].msg;
            *stops += m->type == MSG_STOP && r->out.items[i].kind == OUT_PEER;
            if (m->type != MSG_LEASE)
                continue;
            assert_int_equal(m->slots, 1);
            leases[n % (2 * RIG_SLOTS)].worker = m->worker;
            leases[n % (2 * RIG_SLOTS)].step = m->step;
            leases[n++ % (2 * RIG_SLOTS)].slot = m->slot;
        }
        if (done == n)
            return;
        size_t i = done++ % (2 * RIG_SLOTS);
        struct msg gradient = rig_gradient(leases[i].worker, leases[i].step, leases[i].slot, 1);
        gradient.want = 1;
        rig_send(r, &gradient);
    }
}

static void test_two_workers_run_to_the_end(void **state)
{
    (void)state;
    struct rig r = rig_new(NULL);
    uint32_t stops = 0;
    rig_init(&r);
    rig_request(&r, RIG_ALICE, 1);
    assert_int_equal(rig_leased(&r), 1);
    assert_true(msg_scalar(rig_find(&r, MSG_LEASE), "timeout_ms", 0) == (double)r.config.net.lease_ms);
    struct outbox first = r.out;
    r.out = (struct outbox){0};
    rig_request(&r, RIG_BOB, 1);
    assert_int_equal(rig_find(&r, MSG_LEASE)->slot, 1);
    for (size_t i = 0; i < first.count; i++)
        outbox_to_peer(&r.out, &first.items[i].peer, &first.items[i].msg);
    outbox_fini(&first);
    work_off(&r, &stops);
    assert_int_equal(parameter_core_step(r.core), RIG_STEPS);
    assert_false(parameter_core_stopped(r.core)); /* the other server may still lose the last step */
    assert_int_equal(stops, 0);
    rig_durable(&r);
    assert_int_equal(rig_count(&r, MSG_STOP), 3); /* both requests, and the publication */
    assert_true(parameter_core_finished(r.core));
    rig_request(&r, RIG_BOB, 1);
    assert_int_equal(rig_find(&r, MSG_STOP)->code, STOP_FINISHED);
    rig_assert_undisturbed(&r);
    rig_free(&r);
}

static void test_the_last_gradient_publishes_then_leases(void **state)
{
    (void)state;
    struct rig r = rig_begun();
    rig_request(&r, RIG_BOB, 5);
    assert_int_equal(rig_leased(&r), 4);
    rig_contribute(&r, 0, 0, 2);
    assert_int_equal(rig_leased(&r), 0);
    rig_contribute(&r, 0, 2, 2);
    size_t ack = rig_index(&r, MSG_ACK), weights = rig_index(&r, MSG_WEIGHTS), lease = rig_index(&r, MSG_LEASE);
    assert_true(ack < weights && weights < lease);
    assert_int_equal(r.out.items[weights].msg.step, 1);
    assert_int_equal(r.out.items[lease].msg.step, 1);
    assert_int_equal(r.out.items[lease].msg.worker, RIG_BOB);
    assert_int_equal(rig_leased(&r), 1);
    rig_free(&r);
}

static void test_leases_of_the_slow_and_the_silent_go_to_others(void **state)
{
    (void)state;
    struct rig r = rig_new("net.lease_ms=15000");
    rig_init(&r);
    rig_request(&r, RIG_ALICE, 4);
    rig_request(&r, RIG_BOB, 4);
    assert_int_equal(rig_leased(&r), 0);
    rig_tick(&r, 9999);
    assert_int_equal(rig_leased(&r), 0);
    struct msg ping = rig_msg(MSG_PING, RIG_BOB);
    rig_send(&r, &ping);
    rig_tick(&r, 1); /* ten seconds of silence */
    assert_int_equal(rig_leased(&r), 4);
    assert_int_equal(rig_find(&r, MSG_LEASE)->worker, RIG_BOB);
    assert_int_equal(parameter_core_workers(r.core), 1);
    rig_request(&r, RIG_ALICE, 1);
    ping = rig_msg(MSG_PING, RIG_BOB);
    r.now += 8000;
    rig_send(&r, &ping);
    ping = rig_msg(MSG_PING, RIG_ALICE);
    rig_send(&r, &ping);
    rig_tick(&r, 7000); /* fifteen since the grant */
    assert_int_equal(rig_leased(&r), 1);
    assert_int_equal(rig_find(&r, MSG_LEASE)->worker, RIG_ALICE);
    rig_assert_undisturbed(&r);
    struct step_report report;
    assert_true(parameter_core_take_report(r.core, &report));
    assert_int_equal(report.counters.leases_expired, 8);
    rig_free(&r);
}

static void test_goodbye_frees_at_once(void **state)
{
    (void)state;
    struct rig r = rig_begun();
    rig_request(&r, RIG_ALICE, 4);
    rig_request(&r, RIG_BOB, 1);
    struct msg bye = rig_msg(MSG_PING, RIG_ALICE);
    bye.code = 1;
    rig_send(&r, &bye);
    assert_int_equal(rig_count(&r, MSG_PONG), 1);
    assert_int_equal(rig_find(&r, MSG_LEASE)->worker, RIG_BOB);
    assert_int_equal(parameter_core_workers(r.core), 1);
    rig_free(&r);
}

static void test_a_reconnected_worker_is_leased_to_again(void **state)
{
    (void)state;
    struct rig r = rig_begun();
    rig_request(&r, RIG_ALICE, 4);
    struct msg m = rig_msg(MSG_LEASE_REQUEST, RIG_ALICE);
    m.want = 4;
    struct peer elsewhere = rig_peer(777);
    outbox_clear(&r.out);
    assert_int_equal(parameter_core_on_message(r.core, r.now, &elsewhere, &m, &r.out), 0);
    assert_int_equal(rig_leased(&r), 4);
    assert_true(peer_equal(&r.out.items[0].peer, &elsewhere));
    rig_free(&r);
}

static void test_an_undelivered_lease_is_granted_to_the_next(void **state)
{
    (void)state;
    struct rig r = rig_begun();
    rig_request(&r, RIG_ALICE, 1);
    parameter_core_on_undelivered(r.core, &r.out.items[rig_index(&r, MSG_LEASE)]);
    rig_request(&r, RIG_BOB, 1);
    assert_int_equal(rig_find(&r, MSG_LEASE)->slot, 0);
    rig_free(&r);
}

/* Who is far slower than the others keeps its lease, but somebody idle gets one on the same slot; whoever is first
 * counts. */
static void test_a_straggler_does_not_hold_up_the_idle(void **state)
{
    (void)state;
    struct rig r = rig_begun();
    for (uint32_t slot = 0; slot < RIG_SLOTS; slot++) {
        rig_request(&r, RIG_ALICE, 1);
        r.now += 10;
        rig_contribute(&r, 0, slot, 1);
    }
    rig_request(&r, RIG_BOB, 1); /* slot 0 of step 1, and takes long */
    for (uint32_t slot = 1; slot < RIG_SLOTS; slot++)
        rig_contribute(&r, 1, slot, 1);
    rig_request(&r, RIG_ALICE, 1);
    assert_int_equal(rig_leased(&r), 0);
    rig_tick(&r, 100);
    assert_int_equal(rig_leased(&r), 1);
    assert_int_equal(rig_find(&r, MSG_LEASE)->worker, RIG_ALICE);
    assert_int_equal(rig_find(&r, MSG_LEASE)->slot, 0);
    rig_request(&r, RIG_ALICE, 1); /* never a slot that she holds herself, nor a third lease on it */
    rig_tick(&r, 100);
    assert_int_equal(rig_leased(&r), 0);
    struct msg slow = rig_gradient(RIG_BOB, 1, 0, 1);
    rig_send(&r, &slow);
    rig_expect_ack(&r, ACK_APPLIED);
    assert_int_equal(parameter_core_step(r.core), 2);
    rig_free(&r);
}

static void test_a_dead_workers_lease_ends_soon(void **state)
{
    (void)state;
    struct rig r = rig_begun();
    for (uint64_t t = 0; t < 3; t++)
        for (uint32_t slot = 0; slot < RIG_SLOTS; slot++) {
            rig_request(&r, RIG_ALICE, 1);
            r.now += 100;
            rig_contribute(&r, t, slot, 1);
        }
    rig_request(&r, RIG_ALICE, 1); /* and is not heard of again */
    assert_in_range(msg_scalar(rig_find(&r, MSG_LEASE), "timeout_ms", 0), LEASE_MIN_MS, LEASE_MIN_MS + 1);
    rig_request(&r, RIG_BOB, 4);
    assert_int_equal(rig_leased(&r), 3);
    rig_request(&r, RIG_BOB, 1);
    rig_tick(&r, LEASE_MIN_MS);
    assert_true(rig_leased(&r) >= 1);
    assert_int_equal(rig_find(&r, MSG_LEASE)->worker, RIG_BOB);
    rig_free(&r);
}

/* ---- the end ---- */

static void test_checkpoints_are_due_at_multiples_and_at_the_end(void **state)
{
    (void)state;
    struct rig r = rig_new("run.checkpoint_every=4");
    struct encoder_state s;
    rig_init(&r);
    for (uint64_t t = 1; t <= RIG_STEPS; t++) {
        rig_run_to(&r, t);
        bool due = parameter_core_take_checkpoint(r.core, &s);
        assert_int_equal(due, t == 4 || t == RIG_STEPS);
        if (!due)
            continue;
        assert_int_equal(s.step, t);
        assert_int_equal(s.total_steps, RIG_STEPS);
        encoder_state_fini(&s);
        assert_false(parameter_core_take_checkpoint(r.core, &s));
    }
    rig_free(&r);
}

static void test_step_0_needs_no_checkpoint(void **state)
{
    (void)state;
    struct rig r = rig_begun();
    struct encoder_state s;
    rig_contribute(&r, 0, 0, 2);
    parameter_core_stop(r.core, r.now, &r.out);
    assert_false(parameter_core_take_checkpoint(r.core, &s));
    rig_free(&r);
}

static void test_a_drain_finishes_the_step(void **state)
{
    (void)state;
    struct rig r = rig_begun();
    struct encoder_state s;
    rig_contribute(&r, 0, 0, 2);
    assert_int_equal(parameter_core_drain(r.core, r.now, &r.out), 0);
    assert_false(parameter_core_stopped(r.core));
    rig_request(&r, RIG_BOB, 4);
    assert_int_equal(rig_leased(&r), 2);
    rig_contribute(&r, 0, 2, 2);
    assert_true(parameter_core_stopped(r.core));
    assert_false(parameter_core_finished(r.core));
    assert_int_equal(rig_find(&r, MSG_STOP)->code, STOP_DRAINED);
    assert_true(parameter_core_take_checkpoint(r.core, &s));
    assert_int_equal(s.step, 1);
    encoder_state_fini(&s);
    rig_request(&r, RIG_ALICE, 4);
    assert_int_equal(rig_leased(&r), 0);
    assert_int_equal(rig_find(&r, MSG_STOP)->code, STOP_DRAINED);
    rig_free(&r);
}

static void test_a_drain_gives_up_after_its_time(void **state)
{
    (void)state;
    struct rig r = rig_begun();
    struct encoder_state s;
    rig_run_to(&r, 1);
    rig_contribute(&r, 1, 0, 2);
    parameter_core_drain(r.core, r.now, &r.out);
    for (unsigned i = 0; i < 4; i++) {
        struct msg ping = rig_msg(MSG_PING, RIG_ALICE);
        rig_send(&r, &ping);
        assert_false(parameter_core_stopped(r.core));
        rig_tick(&r, 5000);
    }
    assert_true(parameter_core_stopped(r.core));
    assert_true(parameter_core_take_checkpoint(r.core, &s));
    assert_int_equal(s.step, 1);
    encoder_state_fini(&s);
    struct msg late = rig_gradient(RIG_ALICE, 1, 2, 2);
    late.want = 1;
    rig_send(&r, &late);
    rig_expect_refused(&r, REASON_STOPPING);
    assert_int_equal(rig_count(&r, MSG_STOP), 1);
    assert_int_equal(parameter_core_step(r.core), 1);
    rig_free(&r);
}

static void test_a_drain_does_not_wait_for_nobody(void **state)
{
    (void)state;
    struct rig r = rig_new(NULL);
    struct encoder_state s;
    parameter_core_drain(r.core, r.now, &r.out);
    assert_true(parameter_core_stopped(r.core));
    assert_false(parameter_core_take_checkpoint(r.core, &s));
    rig_free(&r);
    r = rig_new(NULL);
    rig_init(&r);
    parameter_core_drain(r.core, r.now, &r.out);
    assert_false(parameter_core_stopped(r.core));
    rig_tick(&r, 10000); /* the only worker falls silent */
    assert_true(parameter_core_stopped(r.core));
    rig_free(&r);
}

static void test_a_stop_answers_those_who_wait(void **state)
{
    (void)state;
    struct rig r = rig_new(NULL);
    rig_request(&r, RIG_ALICE, 1);
    rig_request(&r, RIG_BOB, 1);
    parameter_core_stop(r.core, r.now, &r.out);
    assert_int_equal(rig_count(&r, MSG_STOP), 3);
    assert_string_equal(r.out.items[0].topic, "stop");
    rig_free(&r);
}

/* ---- going back ---- */

static struct msg rewind_message(uint64_t generation, uint64_t step)
{
    struct msg m = rig_msg(MSG_REWIND, RIG_BOB);
    m.generation = generation;
    m.step = step;
    return m;
}

static void test_rewind_is_taken_when_the_mixture_is_behind(void **state)
{
    (void)state;
    struct rig r = rig_new(NULL);
    uint64_t step_max = 0;
    rig_init(&r);
    rig_run_to(&r, 3);
    struct msg m = rewind_message(RIG_GENERATION, 3);
    rig_send(&r, &m);
    rig_expect_ack(&r, ACK_STALE);
    m = rewind_message(0, 1);
    rig_send(&r, &m);
    rig_expect_refused(&r, REASON_BAD_FIELD);
    m = rewind_message(RIG_GENERATION - 1, 1);
    rig_send(&r, &m);
    rig_expect_refused(&r, REASON_WRONG_GENERATION);
    assert_false(parameter_core_take_rewind(r.core, &step_max));
    m = rewind_message(RIG_GENERATION, 2);
    rig_send(&r, &m);
    rig_expect_ack(&r, ACK_APPLIED);
    assert_true(parameter_core_take_rewind(r.core, &step_max));
    assert_int_equal(step_max, 2);
    assert_false(parameter_core_take_rewind(r.core, &step_max));
    rig_free(&r);
}

static void take_state(struct rig *r, struct encoder_state *s)
{
    assert_true(parameter_core_take_checkpoint(r->core, s));
}

/* Also from step T, as long as it is not known to be durable. */
static void test_rewind_leads_to_the_same_bytes(void **state)
{
    (void)state;
    struct rig r = rig_begun();
    struct encoder_state at_two;
    rig_run_to(&r, 2);
    take_state(&r, &at_two);
    rig_run_to(&r, RIG_STEPS);
    assert_true(parameter_core_awaits_durable(r.core));
    outbox_clear(&r.out);
    assert_int_equal(parameter_core_rewind(r.core, r.now, RIG_GENERATION + 1, &at_two, &r.out), 0);
    assert_int_equal(rig_find(&r, MSG_WEIGHTS)->generation, RIG_GENERATION + 1);
    assert_int_equal(parameter_core_step(r.core), 2);
    assert_false(parameter_core_awaits_durable(r.core));
    rig_contribute(&r, 2, 0, 1); /* a partial step, lost when going back to the start */
    assert_int_equal(parameter_core_rewind(r.core, r.now, RIG_GENERATION + 2, NULL, &r.out), 0);
    rig_request(&r, RIG_ALICE, 1);
    assert_int_equal(rig_leased(&r), 0); /* no weights yet */
    rig_init(&r);
    rig_run_to(&r, RIG_STEPS);
    rig_durable(&r);
    rig_assert_undisturbed(&r);
    rig_free(&r);
}

static struct msg gradient_of(uint32_t slot, double lineage)
{
    struct msg m = rig_gradient(RIG_ALICE, 0, slot, 1);
    assert_int_equal(msg_add_scalar(&m, "lineage", lineage), 0);
    return m;
}

static void tell_lineage(struct rig *r, double lineage)
{
    struct msg m = rig_msg(MSG_PING, RIG_BOB);
    assert_int_equal(msg_add_scalar(&m, "lineage", lineage), 0);
    rig_send(r, &m);
}

static void test_a_new_lineage_voids_the_partial_step(void **state)
{
    (void)state;
    struct rig r = rig_begun();
    tell_lineage(&r, 1);
    struct msg m = gradient_of(0, 1);
    rig_send(&r, &m);
    rig_expect_ack(&r, ACK_APPLIED);
    rig_request(&r, RIG_ALICE, RIG_SLOTS);
    assert_int_equal(rig_leased(&r), RIG_SLOTS - 1);
    tell_lineage(&r, 1); /* known already */
    m = gradient_of(0, 1);
    rig_send(&r, &m);
    rig_expect_ack(&r, ACK_DUPLICATE);
    tell_lineage(&r, 2);
    assert_int_equal(rig_find(&r, MSG_LEASE)->slot, 0); /* the slot that was done, for what is left of the request */
    m = gradient_of(0, 1);
    rig_send(&r, &m);
    rig_expect_refused(&r, REASON_WRONG_GENERATION);
    m = gradient_of(1, 3); /* is the first to tell, and counts */
    rig_send(&r, &m);
    rig_expect_ack(&r, ACK_APPLIED);
    rig_free(&r);
}

/* A lineage that the prototype server never had stops nobody. */
static void test_a_made_up_lineage_changes_nothing(void **state)
{
    (void)state;
    struct rig r = rig_begun();
    parameter_core_bound_lineage(r.core, 2);
    tell_lineage(&r, 9e15);
    assert_int_equal(rig_count(&r, MSG_PONG), 1);
    struct msg m = gradient_of(0, 9e15);
    assert_true(parameter_core_doubts_lineage(r.core, &m));
    rig_send(&r, &m);
    rig_expect_refused(&r, REASON_BAD_VALUE);
    m = gradient_of(0, 2);
    assert_false(parameter_core_doubts_lineage(r.core, &m));
    rig_send(&r, &m);
    rig_expect_ack(&r, ACK_APPLIED);
    rig_free(&r);
}

static void test_a_lineage_that_is_no_number_is_none(void **state)
{
    (void)state;
    struct rig r = rig_begun();
    rig_contribute(&r, 0, 0, 1);
    tell_lineage(&r, -1);
    tell_lineage(&r, 1e300);
    rig_contribute(&r, 0, 0, 1);
    rig_expect_ack(&r, ACK_DUPLICATE);
    rig_free(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_two_workers_run_to_the_end),
        cmocka_unit_test(test_the_last_gradient_publishes_then_leases),
        cmocka_unit_test(test_leases_of_the_slow_and_the_silent_go_to_others),
        cmocka_unit_test(test_goodbye_frees_at_once),
        cmocka_unit_test(test_a_reconnected_worker_is_leased_to_again),
        cmocka_unit_test(test_an_undelivered_lease_is_granted_to_the_next),
        cmocka_unit_test(test_a_straggler_does_not_hold_up_the_idle),
        cmocka_unit_test(test_a_dead_workers_lease_ends_soon),
        cmocka_unit_test(test_checkpoints_are_due_at_multiples_and_at_the_end),
        cmocka_unit_test(test_step_0_needs_no_checkpoint),
        cmocka_unit_test(test_a_drain_finishes_the_step),
        cmocka_unit_test(test_a_drain_gives_up_after_its_time),
        cmocka_unit_test(test_a_drain_does_not_wait_for_nobody),
        cmocka_unit_test(test_a_stop_answers_those_who_wait),
        cmocka_unit_test(test_rewind_is_taken_when_the_mixture_is_behind),
        cmocka_unit_test(test_rewind_leads_to_the_same_bytes),
        cmocka_unit_test(test_a_new_lineage_voids_the_partial_step),
        cmocka_unit_test(test_a_made_up_lineage_changes_nothing),
        cmocka_unit_test(test_a_lineage_that_is_no_number_is_none),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
