/* The core through messages: the wall, refusals that change nothing, duplicates, the order of arrival. */
#include "tests/unit/prototype/core_rig.h"

#include "common/version.h"
#include "proto/config_wire.h"

/* A refused configuration comes with the server's, so that the keys can be named. */
static void expect_keys(struct prototype_core *core)
{
    struct outbox out = {0};
    struct run_config own;
    char keys[200];
    struct msg m;
    msg_init(&m, MSG_HELLO, "unit");
    m.config = 1;
    config_of(&own, "run.steps=6");
    own.mixture.components *= 2;
    assert_int_equal(prototype_core_on_message(core, 0, &anyone, &m, &out), 0);
    assert_int_equal(config_wire_differences(&out.items[0].msg, &own, keys, sizeof keys), 1);
    assert_non_null(strstr(keys, "mixture.components"));
    outbox_fini(&out);
}

/* ---- doors and envelopes ---- */

static void test_wall_refuses_every_other_type(void **state)
{
    (void)state;
    struct prototype_core *core = six_step_core();
    for (int type = MSG_HELLO; type < MSG_TYPE_END; type++) {
        struct msg m;
        if (type == MSG_HELLO || type == MSG_STATS || type == MSG_MIXTURE_GET || type == MSG_PING || type == MSG_REWIND)
            continue;
        msg_init(&m, (enum msg_type)type, "unit");
        expect(core, &m, MSG_ERROR, REASON_WRONG_DOOR);
    }
    assert_int_equal(prototype_core_counters(core)->refused[REASON_WRONG_DOOR], MSG_TYPE_END - 1 - 5);
    assert_int_equal(version_of(core), 0);
    prototype_core_free(&core);
}

static void test_hello_and_ping(void **state)
{
    (void)state;
    struct prototype_core *core = six_step_core();
    struct msg m;
    struct outbox out = {0};
    msg_init(&m, MSG_HELLO, "");
    assert_int_equal(prototype_core_on_message(core, 0, &anyone, &m, &out), 0);
    const struct msg *w = &out.items[0].msg;
    assert_int_equal(w->type, MSG_WELCOME);
    assert_int_equal(w->generation, 3);
    assert_string_equal(w->text, DECANT_VERSION);
    assert_true(w->config != 0 && strcmp(w->run, "unit") == 0);
    assert_true(msg_scalar(w, "components", 0) == K && msg_scalar(w, "dimensions", 0) == D);
    assert_true(msg_scalar(w, "covariance", 9) == COVARIANCE_DIAGONAL && msg_scalar(w, "slots", 0) == SLOTS);
    assert_true(msg_scalar(w, "slot_size", 0) == SLOT_SIZE && msg_scalar(w, "rows_max", 0) == ROWS);
    assert_true(msg_scalar(w, "total_steps", 0) == STEPS && msg_scalar(w, "beta", 0) == 0.5);
    outbox_fini(&out);
    msg_init(&m, MSG_PING, "");
    expect(core, &m, MSG_PONG, 0);
    msg_init(&m, MSG_HELLO, "other");
    expect(core, &m, MSG_ERROR, REASON_WRONG_RUN);
    msg_init(&m, MSG_HELLO, "unit");
    m.config = 1;
    expect(core, &m, MSG_ERROR, REASON_WRONG_CONFIG);
    expect_keys(core);
    prototype_core_free(&core);
}

static void test_total_steps_come_from_the_first_worker(void **state)
{
    (void)state;
    static const double impossible[] = {-1, 0.5, 2e9, 1e300};
    struct run_config c;
    config_of(&c, NULL);
    struct prototype_core *core = core_of(&c);
    struct msg m;
    stats_message(0, 0, STATS_DENSE, &m);
    expect(core, &m, MSG_ERROR, REASON_NOT_READY);
    for (size_t i = 0; i < sizeof impossible / sizeof impossible[0]; i++) {
        msg_init(&m, MSG_HELLO, "unit");
        msg_add_scalar(&m, "total_steps", impossible[i]);
        expect(core, &m, MSG_ERROR, REASON_OUT_OF_RANGE);
    }
    msg_init(&m, MSG_HELLO, "unit");
    msg_add_scalar(&m, "total_steps", 40);
    expect(core, &m, MSG_WELCOME, 0);
    assert_int_equal(prototype_core_total_steps(core), 40);
    msg_init(&m, MSG_HELLO, "unit");
    msg_add_scalar(&m, "total_steps", 41);
    expect(core, &m, MSG_ERROR, REASON_WRONG_CONFIG);
    apply(core, 0, 0, STATS_DENSE);
    prototype_core_free(&core);
}

static void say_hello(struct prototype_core *core, double data, double numerics, enum msg_type answer, uint32_t code)
{
    struct msg m;
    msg_init(&m, MSG_HELLO, "unit");
    m.worker = 5;
    msg_add_scalar(&m, "data", data);
    msg_add_scalar(&m, "numerics", numerics);
    expect(core, &m, answer, code);
}

/* The parameter server admits workers; this one writes down what they tell, until the run begins anew. */
static void test_images_and_arithmetic_are_noted(void **state)
{
    (void)state;
    struct prototype_core *core = six_step_core();
    struct outbox out = {0};
    const struct provenance *p = prototype_core_provenance(core);
    say_hello(core, 0.5, 88, MSG_ERROR, REASON_BAD_VALUE);
    say_hello(core, 77, -1, MSG_ERROR, REASON_BAD_VALUE);
    assert_true(p->data == 0 && p->numerics == 0);
    say_hello(core, 77, 88, MSG_WELCOME, 0);
    assert_true(p->data == 77 && p->numerics == 88 && p->data_before == 0 && p->numerics_other == 0);
    say_hello(core, 78, 89, MSG_WELCOME, 0);
    assert_true(p->data == 78 && p->data_before == 77 && p->numerics == 88 && p->numerics_other == 89);
    assert_int_equal(prototype_core_rewind(core, 4, NULL, &out), 0);
    assert_true(p->data == 0 && p->data_before == 0 && p->numerics == 0 && p->numerics_other == 0);
    outbox_fini(&out);
    prototype_core_free(&core);
}

/* ---- statistics ---- */

struct hostile {
    const char *what;
    void (*spoil)(struct msg *m);
    enum reason why;
};

static void other_run(struct msg *m)
{
    strcpy(m->run, "other");
}
static void no_run(struct msg *m)
{
    m->run[0] = '\0';
}
static void other_shard(struct msg *m)
{
    m->shard = 1;
}
static void other_generation(struct msg *m)
{
    m->generation = 2;
}
static void no_slots(struct msg *m)
{
    m->slots = 0;
}
static void slot_beyond(struct msg *m)
{
    m->slot = SLOTS;
}
static void slots_wrap(struct msg *m)
{
    m->slot = 2;
    m->slots = UINT32_MAX;
}
static void not_a_subtree(struct msg *m)
{
    m->slot = 1;
    m->slots = 2;
}
static void future(struct msg *m)
{
    m->step = 1;
}
static void after_the_end(struct msg *m)
{
    m->step = STEPS;
}
static void no_encoding(struct msg *m)
{
    m->encoding = 77;
}
static void not_finite(struct msg *m)
{
    float nan = __builtin_nanf("");
    memcpy(m->tensors[0].data->data, &nan, sizeof nan);
}
static void negative_mass(struct msg *m)
{
    float bad = -1;
    memcpy(m->tensors[0].data->data, &bad, sizeof bad);
}
static void absurd_loglik(struct msg *m)
{
    for (uint32_t i = 0; i < m->scalar_count; i++)
        if (strcmp(m->scalars[i].name, "loglik") == 0)
            m->scalars[i].value = 1e308;
}
static void too_few_tensors(struct msg *m)
{
    buf_unref(&m->tensors[--m->tensor_count].data);
    buf_unref(&m->tensors[0].data);
    m->tensors[0] = m->tensors[--m->tensor_count];
}
static void wrong_shape(struct msg *m)
{
    m->tensors[1].shape[0]--;
    m->tensors[1].data->size -= D * sizeof(float);
}

static const struct hostile hostiles[] = {
    {"other run", other_run, REASON_WRONG_RUN},
    {"no run", no_run, REASON_WRONG_RUN},
    {"other shard", other_shard, REASON_WRONG_SHARD},
    {"other generation", other_generation, REASON_WRONG_GENERATION},
    {"no slots", no_slots, REASON_OUT_OF_RANGE},
    {"slot beyond", slot_beyond, REASON_OUT_OF_RANGE},
    {"slots wrap", slots_wrap, REASON_OUT_OF_RANGE},
    {"not a subtree", not_a_subtree, REASON_OUT_OF_RANGE},
    {"future step", future, REASON_FUTURE_STEP},
    {"after the end", after_the_end, REASON_OUT_OF_RANGE},
    {"unknown encoding", no_encoding, REASON_BAD_ENCODING},
    {"not finite", not_finite, REASON_NON_FINITE},
    {"negative mass", negative_mass, REASON_BAD_VALUE},
    {"log-likelihood whose sum overflows", absurd_loglik, REASON_BAD_VALUE},
    {"missing tensor", too_few_tensors, REASON_BAD_FIELD},
    {"wrong shape", wrong_shape, REASON_BAD_SHAPE},
};

static void test_refusals_change_nothing(void **state)
{
    (void)state;
    struct prototype_core *core = six_step_core(), *untouched = six_step_core();
    for (size_t i = 0; i < sizeof hostiles / sizeof hostiles[0]; i++) {
        struct msg m;
        uint32_t code;
        uint64_t before = prototype_core_counters(core)->refused[hostiles[i].why];
        stats_message(0, 0, STATS_DENSE, &m);
        hostiles[i].spoil(&m);
        if (send(core, &m, &code) != MSG_ERROR || code != hostiles[i].why)
            fail_msg("%s: code %u (%s)", hostiles[i].what, code, reason_name((enum reason)code));
        assert_int_equal(prototype_core_counters(core)->refused[hostiles[i].why], before + 1);
    }
    assert_same_state(core, untouched);
    for (uint32_t slot = 0; slot < SLOTS; slot++) { /* no refused slot counts as held */
        apply(core, 0, slot, STATS_DENSE);
        apply(untouched, 0, slot, STATS_DENSE);
    }
    assert_int_equal(version_of(core), 1);
    assert_same_state(core, untouched);
    prototype_core_free(&core);
    prototype_core_free(&untouched);
}

static void test_duplicates_and_stale_are_acknowledged(void **state)
{
    (void)state;
    struct prototype_core *core = six_step_core(), *once = six_step_core();
    struct msg m;
    for (uint32_t slot = 0; slot < SLOTS; slot++) {
        apply(once, 0, slot, STATS_DENSE);
        apply(core, 0, slot, STATS_DENSE);
        stats_message(0, slot, STATS_FACTORED, &m);
        expect(core, &m, MSG_ACK, slot < SLOTS - 1 ? ACK_DUPLICATE : ACK_STALE);
    }
    stats_message(0, 1, STATS_ROWS, &m);
    expect(core, &m, MSG_ACK, ACK_STALE);
    assert_int_equal(prototype_core_counters(core)->duplicates, SLOTS - 1);
    assert_int_equal(prototype_core_counters(core)->stale, 2);
    assert_same_state(core, once);
    prototype_core_free(&core);
    prototype_core_free(&once);
}

static void test_partly_held_subtree_overlaps(void **state)
{
    (void)state;
    struct prototype_core *core = six_step_core();
    struct msg m;
    apply(core, 0, 0, STATS_DENSE);
    stats_message(0, 0, STATS_DENSE, &m);
    m.slots = 2;
    expect(core, &m, MSG_ERROR, REASON_OVERLAP);
    prototype_core_free(&core);
}

/* Any order of slots, any encoding, with duplicates in between: the same bytes. */
static void test_arrival_order_does_not_change_a_byte(void **state)
{
    (void)state;
    static const uint32_t orders[][SLOTS] = {{0, 1, 2, 3}, {3, 2, 1, 0}, {2, 0, 3, 1}};
    struct prototype_core *cores[3];
    for (int o = 0; o < 3; o++) {
        cores[o] = six_step_core();
        for (uint64_t step = 0; step < STEPS; step++)
            for (int i = 0; i < SLOTS; i++)
                apply(cores[o], step, orders[(o + (int)step) % 3][i], (enum stats_encoding)(1 + (o + i) % 3));
        assert_int_equal(version_of(cores[o]), STEPS);
    }
    assert_true(prototype_core_mixture(cores[0])->reseeded > 0);
    assert_same_state(cores[0], cores[1]);
    assert_same_state(cores[0], cores[2]);
    struct msg m;
    stats_message(STEPS, 0, STATS_DENSE, &m);
    expect(cores[0], &m, MSG_ERROR, REASON_OUT_OF_RANGE); /* the run is over */
    for (int o = 0; o < 3; o++)
        prototype_core_free(&cores[o]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_wall_refuses_every_other_type),
        cmocka_unit_test(test_hello_and_ping),
        cmocka_unit_test(test_total_steps_come_from_the_first_worker),
        cmocka_unit_test(test_images_and_arithmetic_are_noted),
        cmocka_unit_test(test_refusals_change_nothing),
        cmocka_unit_test(test_duplicates_and_stale_are_acknowledged),
        cmocka_unit_test(test_partly_held_subtree_overlaps),
        cmocka_unit_test(test_arrival_order_does_not_change_a_byte),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
