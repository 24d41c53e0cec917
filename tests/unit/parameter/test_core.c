/* The step machine: who is let in, what a contribution does and does not change, and what it reports. */
#include "tests/unit/parameter/core_rig.h"

#include <math.h>
#include <stdlib.h>
#include "common/version.h"
#include "proto/config_wire.h"

/* ---- admission ---- */

static struct msg hello(uint64_t total_steps)
{
    struct msg m = rig_msg(MSG_HELLO, RIG_ALICE);
    snprintf(m.text, sizeof m.text, "host:1");
    if (total_steps > 0)
        msg_add_scalar(&m, "total_steps", (double)total_steps);
    return m;
}

static void test_hello_is_welcomed_and_asked_for_weights(void **state)
{
    (void)state;
    struct rig r = rig_new(NULL);
    struct msg m = hello(0);
    m.run[0] = '\0';
    m.config = run_config_hash(&r.config);
    rig_send(&r, &m);
    const struct msg *welcome = rig_find(&r, MSG_WELCOME);
    assert_int_equal(welcome->generation, RIG_GENERATION);
    assert_int_equal(welcome->config, run_config_hash(&r.config));
    assert_int_equal(welcome->code, 1);
    assert_int_equal(welcome->step, 0);
    assert_string_equal(welcome->run, "rig");
    assert_string_equal(welcome->text, DECANT_VERSION);
    assert_true(msg_scalar(welcome, "total_steps", 0) == RIG_STEPS);
    assert_true(msg_scalar(welcome, "slots", 0) == RIG_SLOTS);
    assert_true(msg_scalar(welcome, "slot_size", 0) == 2);
    rig_init(&r);
    m = hello(RIG_STEPS);
    rig_send(&r, &m);
    assert_int_equal(rig_find(&r, MSG_WELCOME)->code, 0);
    rig_free(&r);
}

static void test_strangers_are_refused(void **state)
{
    (void)state;
    struct rig r = rig_new(NULL);
    struct msg m = hello(0);
    snprintf(m.run, sizeof m.run, "other");
    rig_send(&r, &m);
    rig_expect_refused(&r, REASON_WRONG_RUN);
    m = hello(0);
    m.config = 1;
    rig_send(&r, &m);
    rig_expect_refused(&r, REASON_WRONG_CONFIG);
    struct run_config own = r.config;
    char keys[200];
    own.run.slots = 77;
    assert_int_equal(config_wire_differences(rig_find(&r, MSG_ERROR), &own, keys, sizeof keys), 1);
    assert_non_null(strstr(keys, "not 77"));
    m = hello(0);
    m.shard = 1;
    rig_send(&r, &m);
    rig_expect_refused(&r, REASON_WRONG_SHARD);
    m = rig_msg(MSG_WEIGHTS_GET, RIG_ALICE);
    m.run[0] = '\0';
    rig_send(&r, &m);
    rig_expect_refused(&r, REASON_WRONG_RUN);
    m = rig_msg(MSG_LEASE_REQUEST, 0);
    m.want = 1;
    rig_send(&r, &m);
    rig_expect_refused(&r, REASON_BAD_FIELD);
    assert_int_equal(parameter_core_workers(r.core), 0);
    rig_free(&r);
}

static void test_an_old_generation_may_only_say_hello(void **state)
{
    (void)state;
    struct rig r = rig_new(NULL);
    struct msg m = rig_msg(MSG_PING, RIG_ALICE);
    m.generation = RIG_GENERATION - 1;
    rig_send(&r, &m);
    rig_expect_refused(&r, REASON_WRONG_GENERATION);
    m = hello(0);
    m.generation = RIG_GENERATION - 1;
    rig_send(&r, &m);
    assert_int_equal(rig_count(&r, MSG_WELCOME), 1);
    m = rig_msg(MSG_PING, RIG_ALICE);
    m.generation = RIG_GENERATION;
    rig_send(&r, &m);
    assert_int_equal(rig_find(&r, MSG_PONG)->generation, RIG_GENERATION);
    rig_free(&r);
}

static void test_what_belongs_elsewhere_came_to_the_wrong_door(void **state)
{
    (void)state;
    static const enum msg_type types[] = {MSG_STATS, MSG_MIXTURE_GET, MSG_WEIGHTS, MSG_ACK, MSG_STOP, MSG_TYPE_END};
    struct rig r = rig_new(NULL);
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++) {
        struct msg m = rig_msg(types[i], RIG_ALICE);
        rig_send(&r, &m);
        rig_expect_refused(&r, REASON_WRONG_DOOR);
    }
    struct msg m = rig_msg(MSG_ERROR, RIG_ALICE);
    rig_send(&r, &m);
    assert_int_equal(r.out.count, 0);
    rig_free(&r);
}

static void test_total_steps_come_from_the_first_worker_that_tells(void **state)
{
    (void)state;
    struct rig r = rig_new("run.steps=0");
    static const double bad[] = {-1.0, 0.5, 1e300, NAN, INFINITY};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct msg m = hello(0);
        msg_add_scalar(&m, "total_steps", bad[i]);
        rig_send(&r, &m);
        rig_expect_refused(&r, REASON_BAD_VALUE);
    }
    rig_init(&r);
    rig_request(&r, RIG_ALICE, 1);
    assert_int_equal(rig_leased(&r), 0);
    struct msg m = hello(7);
    rig_send(&r, &m);
    assert_true(msg_scalar(rig_find(&r, MSG_WELCOME), "total_steps", 0) == 7);
    assert_int_equal(rig_leased(&r), 1);
    m = hello(8);
    rig_send(&r, &m);
    rig_expect_refused(&r, REASON_WRONG_CONFIG);
    m = hello(7);
    rig_send(&r, &m);
    assert_int_equal(rig_count(&r, MSG_WELCOME), 1);
    rig_free(&r);
}

static struct msg hello_with_data(double data)
{
    struct msg m = rig_msg(MSG_HELLO, RIG_BOB);
    msg_add_scalar(&m, "data", data);
    return m;
}

static void test_other_images_are_refused(void **state)
{
    (void)state;
    struct rig r = rig_new(NULL);
    const double told[] = {0, 77, 0, 77};
    for (size_t i = 0; i < 4; i++) {
        struct msg m = hello_with_data(told[i]);
        rig_send(&r, &m);
        assert_int_equal(rig_count(&r, MSG_WELCOME), 1);
    }
    struct msg other = hello_with_data(78);
    rig_send(&r, &other);
    rig_expect_refused(&r, REASON_WRONG_CONFIG);
    struct msg no_number = hello_with_data(0.5);
    rig_send(&r, &no_number);
    rig_expect_refused(&r, REASON_BAD_VALUE);
    rig_free(&r);
}

static void test_other_arithmetic_is_refused_unless_admitted(void **state)
{
    (void)state;
    for (int admitted = 0; admitted < 2; admitted++) {
        struct rig r = rig_new(admitted ? "run.numerics=any" : NULL);
        struct msg first = rig_msg(MSG_HELLO, RIG_ALICE), other = rig_msg(MSG_HELLO, RIG_BOB);
        msg_add_scalar(&first, "numerics", 5);
        msg_add_scalar(&other, "numerics", 6);
        rig_send(&r, &first);
        assert_int_equal(rig_count(&r, MSG_WELCOME), 1);
        rig_send(&r, &other);
        if (admitted)
            assert_int_equal(rig_count(&r, MSG_WELCOME), 1);
        else
            rig_expect_refused(&r, REASON_WRONG_CONFIG);
        rig_free(&r);
    }
}

/* What the workers told is in the checkpoint, and a core that is resumed from it holds the next ones to it. */
static void test_checkpoints_keep_what_workers_told(void **state)
{
    (void)state;
    struct rig r = rig_new(NULL), resumed = rig_new(NULL);
    struct encoder_state s;
    parameter_core_set_numerics(r.core, 9);
    struct msg m = hello_with_data(77);
    msg_add_scalar(&m, "numerics", 5);
    rig_send(&r, &m);
    rig_init(&r);
    rig_run_to(&r, 2);
    assert_true(parameter_core_take_checkpoint(r.core, &s));
    assert_int_equal(s.provenance.data, 77);
    assert_int_equal(s.provenance.numerics, 5);
    assert_int_equal(s.provenance.server_numerics, 9);
    assert_int_equal(parameter_core_resume(resumed.core, &s), 0);
    struct msg other = hello_with_data(78), same = hello_with_data(77);
    rig_send(&resumed, &other);
    rig_expect_refused(&resumed, REASON_WRONG_CONFIG);
    rig_send(&resumed, &same);
    assert_int_equal(rig_count(&resumed, MSG_WELCOME), 1);
    rig_free(&r);
    rig_free(&resumed);
}

/* ---- initial weights ---- */

static void test_the_first_init_is_taken_and_published(void **state)
{
    (void)state;
    struct rig r = rig_new(NULL);
    rig_request(&r, RIG_BOB, 1);
    assert_int_equal(r.out.count, 0);
    rig_init(&r);
    size_t weights = rig_index(&r, MSG_WEIGHTS), lease = rig_index(&r, MSG_LEASE);
    assert_true(weights < lease);
    assert_int_equal(r.out.items[weights].kind, OUT_PUBLISH);
    assert_string_equal(r.out.items[weights].topic, "weights");
    float expected[RIG_P], w[2 * RIG_P + RIG_Q];
    rig_fill(expected, RIG_P, 1, 1);
    rig_weights(&r, w);
    assert_memory_equal(w, expected, sizeof expected);
    assert_memory_equal(w + RIG_P, expected, sizeof expected);
    rig_free(&r);
}

static void test_later_inits_are_duplicates_or_wrong(void **state)
{
    (void)state;
    struct rig r = rig_begun();
    struct msg m = rig_init_message("weight");
    rig_send(&r, &m);
    rig_expect_ack(&r, ACK_DUPLICATE);
    m = rig_init_message("other");
    rig_send(&r, &m);
    rig_expect_refused(&r, REASON_WRONG_CONFIG);
    rig_free(&r);
}

static void test_a_broken_init_is_refused_and_still_wanted(void **state)
{
    (void)state;
    struct rig r = rig_new(NULL);
    struct msg m = rig_init_message("weight");
    ((float *)(void *)m.tensors[1].data->data)[3] = NAN;
    rig_send(&r, &m);
    rig_expect_refused(&r, REASON_NON_FINITE);
    m = rig_init_message("weight");
    m.tensors[1].shape[0]--;
    rig_send(&r, &m);
    rig_expect_refused(&r, REASON_BAD_SHAPE);
    m = rig_init_message("weight");
    m.tensors[0].data->data[0] = '[';
    rig_send(&r, &m);
    rig_expect_refused(&r, REASON_BAD_VALUE);
    m = rig_init_message("a.name.that.is.too.long.for.a.checkpoint.tensor.with.a.prefix");
    rig_send(&r, &m);
    rig_expect_refused(&r, REASON_BAD_VALUE);
    m = rig_msg(MSG_INIT, RIG_ALICE);
    rig_send(&r, &m);
    rig_expect_refused(&r, REASON_BAD_FIELD);
    rig_contribute(&r, 0, 0, 1);
    rig_expect_refused(&r, REASON_NOT_READY);
    m = rig_msg(MSG_WEIGHTS_GET, RIG_ALICE);
    rig_send(&r, &m);
    rig_expect_refused(&r, REASON_NOT_READY);
    rig_init(&r);
    rig_free(&r);
}

/* ---- contributions ---- */

static void test_order_and_subtrees_do_not_change_a_byte(void **state)
{
    (void)state;
    struct rig r = rig_begun();
    for (uint32_t slot = RIG_SLOTS; slot-- > 0;)
        rig_contribute(&r, 0, slot, 1);
    rig_contribute(&r, 1, 2, 2);
    rig_contribute(&r, 1, 1, 1);
    rig_contribute(&r, 1, 0, 1);
    rig_contribute(&r, 2, 0, 4);
    assert_int_equal(parameter_core_step(r.core), 3);
    rig_assert_undisturbed(&r);
    rig_free(&r);
}

/* A sender in this process may still hold its buffer: it must not become the accumulator. */
static void test_a_gradient_that_others_hold_is_copied(void **state)
{
    (void)state;
    struct rig r = rig_begun();
    struct msg m = rig_gradient(RIG_ALICE, 0, 0, 1);
    struct buf *held = buf_ref(m.tensors[0].data);
    float before[RIG_P];
    memcpy(before, held->data, sizeof before);
    rig_send(&r, &m);
    rig_expect_ack(&r, ACK_APPLIED);
    rig_contribute(&r, 0, 1, 1);
    assert_memory_equal(held->data, before, sizeof before);
    buf_unref(&held);
    rig_contribute(&r, 0, 2, 2);
    rig_assert_undisturbed(&r);
    rig_free(&r);
}

static void test_duplicates_and_stale_ones_change_nothing_and_are_counted(void **state)
{
    (void)state;
    struct rig r = rig_begun();
    rig_contribute(&r, 0, 1, 1);
    rig_expect_ack(&r, ACK_APPLIED);
    rig_contribute(&r, 0, 1, 1);
    rig_expect_ack(&r, ACK_DUPLICATE);
    rig_contribute(&r, 0, 0, 2);
    rig_expect_refused(&r, REASON_OVERLAP);
    rig_contribute(&r, 0, 0, 1);
    rig_contribute(&r, 0, 0, 2);
    rig_expect_ack(&r, ACK_DUPLICATE);
    rig_contribute(&r, 0, 2, 2);
    rig_contribute(&r, 0, 2, 1);
    rig_expect_ack(&r, ACK_STALE);
    rig_run_to(&r, 3);
    struct step_report report;
    assert_true(parameter_core_take_report(r.core, &report));
    assert_int_equal(report.counters.duplicates, 2);
    assert_int_equal(report.counters.stale, 1);
    assert_int_equal(report.counters.refused[REASON_OVERLAP], 1);
    rig_assert_undisturbed(&r);
    rig_free(&r);
}

static void test_a_contribution_out_of_place_is_refused(void **state)
{
    (void)state;
    struct rig r = rig_begun();
    static const uint32_t places[][2] = {{0, 0}, {4, 1}, {1, 2}, {0, 3}, {0, 8}, {INT32_MAX, INT32_MAX}};
    for (size_t i = 0; i < sizeof places / sizeof places[0]; i++) {
        struct msg m = rig_gradient(RIG_ALICE, 0, 0, 1);
        m.slot = places[i][0];
        m.slots = places[i][1];
        rig_send(&r, &m);
        rig_expect_refused(&r, REASON_OUT_OF_RANGE);
    }
    rig_contribute(&r, 1, 0, 1);
    rig_expect_refused(&r, REASON_FUTURE_STEP);
    assert_int_equal(rig_find(&r, MSG_ERROR)->step, 1);
    rig_assert_undisturbed(&r);
    rig_free(&r);
}

static void test_a_malformed_contribution_is_refused(void **state)
{
    (void)state;
    static const enum reason expected[] = {REASON_NON_FINITE, REASON_NON_FINITE, REASON_NON_FINITE, REASON_BAD_SHAPE,
                                           REASON_BAD_DTYPE,  REASON_BAD_SHAPE,  REASON_BAD_VALUE,  REASON_BAD_FIELD};
    struct rig r = rig_begun();
    for (size_t i = 0; i < sizeof expected / sizeof expected[0]; i++) {
        struct msg m = rig_gradient(RIG_ALICE, 0, 0, 1);
        float *grad = (float *)(void *)m.tensors[0].data->data, *buffers = (float *)(void *)m.tensors[1].data->data;
        double *metrics = (double *)(void *)m.tensors[2].data->data;
        if (i == 0)
            grad[RIG_P - 1] = NAN;
        else if (i == 1)
            buffers[0] = -INFINITY;
        else if (i == 2)
            metrics[0] = NAN;
        else if (i == 3)
            m.tensors[0].shape[0] = RIG_P - 1;
        else if (i == 4)
            m.tensors[2].dtype = DTYPE_F32;
        else if (i == 5)
            m.tensors[2].shape[0] = METRIC_END + 1;
        else if (i == 6)
            metrics[0] = -1e300;
        else
            m.tensors[1].name[0] = 'x';
        rig_send(&r, &m);
        rig_expect_refused(&r, expected[i]);
        assert_int_equal(rig_count(&r, MSG_ACK), 0);
    }
    rig_assert_undisturbed(&r);
    rig_free(&r);
}

static void test_bytes_that_do_not_decode_are_answered_with_the_reason(void **state)
{
    (void)state;
    struct rig r = rig_new(NULL);
    struct peer from = rig_peer(RIG_ALICE);
    struct msg m = rig_msg(MSG_GRADIENT, RIG_ALICE);
    m.step = 9;
    assert_int_equal(parameter_core_on_undecodable(r.core, &from, &m, REASON_BAD_HEADER, "cut off", &r.out), 0);
    rig_expect_refused(&r, REASON_BAD_HEADER);
    assert_int_equal(rig_find(&r, MSG_ERROR)->step, 9);
    assert_non_null(strstr(rig_find(&r, MSG_ERROR)->text, "cut off"));
    rig_free(&r);
}

/* Somebody was quicker with a part of the sum: the sum is void, and what is still missing goes to whoever wants it. */
static void test_an_overlapping_sum_frees_the_rest(void **state)
{
    (void)state;
    struct rig r = rig_begun();
    rig_request(&r, RIG_BOB, RIG_SLOTS);
    assert_int_equal(rig_count(&r, MSG_LEASE), 1); /* all of them at once */
    assert_int_equal(rig_find(&r, MSG_LEASE)->slots, RIG_SLOTS);
    rig_contribute(&r, 0, 0, 1); /* by Alice */
    rig_request(&r, RIG_ALICE, RIG_SLOTS);
    assert_int_equal(rig_leased(&r), 0);
    struct msg sum = rig_gradient(RIG_BOB, 0, 0, 2);
    rig_send(&r, &sum);
    rig_expect_refused(&r, REASON_OVERLAP);
    assert_int_equal(rig_find(&r, MSG_LEASE)->worker, RIG_ALICE);
    assert_int_equal(rig_find(&r, MSG_LEASE)->slot, 1);
    assert_int_equal(rig_leased(&r), 1);
    rig_free(&r);
}

/* ---- reports ---- */

static void test_a_report_says_what_happened(void **state)
{
    (void)state;
    struct rig r = rig_begun();
    struct step_report report;
    rig_request(&r, RIG_ALICE, 1);
    r.now += 300;
    rig_run_to(&r, 2);
    assert_false(parameter_core_take_report(r.core, &report));
    rig_run_to(&r, 3);
    assert_int_equal(rig_count(&r, MSG_METRICS), 1);
    assert_string_equal(r.out.items[rig_index(&r, MSG_METRICS)].topic, "metrics");
    assert_true(msg_scalar(rig_find(&r, MSG_METRICS), "loss", 0) == 3.0);
    assert_true(parameter_core_take_report(r.core, &report));
    assert_int_equal(report.step, 3);
    assert_true(report.loss == 3.0 && report.consistency == 2.0 && report.entropy == 1.0);
    assert_true(report.augment == 0.125 && report.backward == 0.5);
    assert_true(fabs(report.step_ms - 100.0) < 1e-9 && fabs(report.images_per_s - 80.0) < 1e-9);
    assert_true(report.workers == 1.0 && report.epoch < 0.0 && report.grad_norm > 0.0);
    rig_free(&r);
}

static void test_a_report_leaves_out_what_is_unknown_or_not_a_number(void **state)
{
    (void)state;
    struct step_report report = {.step = 7, .epoch = -1.0, .loss = 2.5, .grad_norm = NAN};
    char *text = step_report_to_json(&report);
    assert_non_null(strstr(text, "\"step\":7"));
    assert_non_null(strstr(text, "\"loss\":2.5"));
    assert_null(strstr(text, "epoch"));
    assert_null(strstr(text, "stale"));
    assert_null(strstr(text, "grad_norm"));
    assert_null(strstr(text, "refused"));
    free(text);
    struct msg m = rig_msg(MSG_METRICS, 0);
    step_report_to_msg(&report, &m);
    assert_int_equal(m.step, 7);
    assert_true(msg_scalar(&m, "loss", 0) == 2.5);
    assert_true(msg_scalar(&m, "grad_norm", -1) == -1 && msg_scalar(&m, "epoch", -1) == -1);
    report.epoch = 0.5;
    report.counters.stale = 4;
    report.counters.refused[REASON_NON_FINITE] = 2;
    text = step_report_to_json(&report);
    assert_non_null(strstr(text, "\"epoch\":0.5"));
    assert_non_null(strstr(text, "\"stale\":4"));
    assert_non_null(strstr(text, "\"refused\":{\"non_finite\":2}"));
    free(text);
}

/* Parts of the loss that a run does not have are 0 in what workers send, or not sent, and not in the report. */
static void test_a_report_has_the_terms_that_the_loss_has(void **state)
{
    (void)state;
    double metrics[GRADIENT_METRICS_MAX] = {8, 4, 0, 32, 1, 1, 1, 1};
    struct step_report report = {.step = 7};
    step_report_set_metrics(&report, metrics, 4);
    char *text = step_report_to_json(&report);
    assert_non_null(strstr(text, "\"entropy\":0.0"));
    assert_null(strstr(text, "mean_entropy"));
    assert_null(strstr(text, "coding_rate"));
    assert_null(strstr(text, "feature_rate"));
    free(text);
    metrics[8] = 20;
    metrics[9] = 6;
    metrics[10] = 3;
    step_report_set_metrics(&report, metrics, 4);
    text = step_report_to_json(&report);
    assert_non_null(strstr(text, "\"mean_entropy\":5.0"));
    assert_non_null(strstr(text, "\"coding_rate\":1.5"));
    assert_non_null(strstr(text, "\"feature_rate\":0.75"));
    free(text);
    struct msg m = rig_msg(MSG_METRICS, 0);
    step_report_to_msg(&report, &m);
    assert_true(msg_scalar(&m, "mean_entropy", 0) == 5 && msg_scalar(&m, "coding_rate", 0) == 1.5);
    assert_true(msg_scalar(&m, "feature_rate", 0) == 0.75);
    assert_true(msg_scalar(&m, "augment_share", 0) == 0.25);
    msg_fini(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_hello_is_welcomed_and_asked_for_weights),
        cmocka_unit_test(test_strangers_are_refused),
        cmocka_unit_test(test_an_old_generation_may_only_say_hello),
        cmocka_unit_test(test_what_belongs_elsewhere_came_to_the_wrong_door),
        cmocka_unit_test(test_total_steps_come_from_the_first_worker_that_tells),
        cmocka_unit_test(test_other_images_are_refused),
        cmocka_unit_test(test_other_arithmetic_is_refused_unless_admitted),
        cmocka_unit_test(test_checkpoints_keep_what_workers_told),
        cmocka_unit_test(test_the_first_init_is_taken_and_published),
        cmocka_unit_test(test_later_inits_are_duplicates_or_wrong),
        cmocka_unit_test(test_a_broken_init_is_refused_and_still_wanted),
        cmocka_unit_test(test_order_and_subtrees_do_not_change_a_byte),
        cmocka_unit_test(test_a_gradient_that_others_hold_is_copied),
        cmocka_unit_test(test_duplicates_and_stale_ones_change_nothing_and_are_counted),
        cmocka_unit_test(test_a_contribution_out_of_place_is_refused),
        cmocka_unit_test(test_a_malformed_contribution_is_refused),
        cmocka_unit_test(test_bytes_that_do_not_decode_are_answered_with_the_reason),
        cmocka_unit_test(test_an_overlapping_sum_frees_the_rest),
        cmocka_unit_test(test_a_report_says_what_happened),
        cmocka_unit_test(test_a_report_leaves_out_what_is_unknown_or_not_a_number),
        cmocka_unit_test(test_a_report_has_the_terms_that_the_loss_has),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
