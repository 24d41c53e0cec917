/* k-means++ over the first steps, through messages: which embeddings begin, whatever order they come in. */
#include "tests/unit/prototype/core_rig.h"

/* 32 embeddings: the 24 of step 0, and of step 1 the six of slot 0 and the first two of slot 1. */
static void seeded_config(struct run_config *c)
{
    static const char *const keys[] = {"run.steps=6", "mixture.init=kmeans++"};
    config_with(c, keys, 2);
}

static struct prototype_core *seeded_core(void)
{
    struct run_config c;
    seeded_config(&c);
    assert_int_equal(run_config_init_steps(&c), 2);
    return core_of(&c);
}

static uint32_t sample_of(uint64_t step, uint32_t slot)
{
    return step == 0 ? ROWS : step == 1 && slot == 0 ? ROWS : step == 1 && slot == 1 ? 2 : 0;
}

static void apply_sampled(struct prototype_core *core, uint64_t step, uint32_t slot, enum stats_encoding encoding)
{
    struct msg m;
    sampled_message(step, slot, encoding, sample_of(step, slot), &m);
    expect(core, &m, MSG_ACK, ACK_APPLIED);
}

/* Whoever sums a subtree concatenates embeddings. */
static void apply_pair(struct prototype_core *core, uint64_t step, uint32_t slot)
{
    struct stats_rows a, b;
    struct msg left, right, m;
    enum reason why;
    sampled_message(step, slot, STATS_ROWS, sample_of(step, slot), &left);
    sampled_message(step, slot + 1, STATS_ROWS, sample_of(step, slot + 1), &right);
    assert_int_equal(stats_decode(&left, K, D, COVARIANCE_DIAGONAL, ROWS, &a, &why, NULL), 0);
    assert_int_equal(stats_decode(&right, K, D, COVARIANCE_DIAGONAL, ROWS, &b, &why, NULL), 0);
    assert_int_equal(stats_rows_add(&a, &b), 0);
    msg_fini(&left);
    msg_fini(&right);
    msg_init(&m, MSG_STATS, "unit");
    m.step = step;
    m.slot = slot;
    m.slots = 2;
    m.encoding = STATS_ROWS;
    const struct {
        const char *name;
        enum dtype dtype;
        uint64_t rows, width;
        const void *data;
    } tensors[] = {{"index", DTYPE_U32, a.R, 0, a.index},
                   {"n", DTYPE_F32, a.R, 0, a.n},
                   {"s1", DTYPE_F32, a.R, D, a.s1},
                   {"s2", DTYPE_F32, a.R, D, a.s2},
                   {"novel", DTYPE_F32, a.V, D, a.novel},
                   {"novel_distance", DTYPE_F32, a.V, 0, a.novel_distance},
                   {"assigned", DTYPE_U32, a.A, 0, a.assigned},
                   {"sample", DTYPE_F32, a.S, D, a.sample}};
    for (size_t i = 0; i < sizeof tensors / sizeof tensors[0]; i++) {
        uint64_t width = tensors[i].width, shape[2] = {tensors[i].rows, width};
        size_t bytes = tensors[i].rows * (width ? width : 1) * 4;
        if (bytes > 0)
            assert_int_equal(msg_add_tensor(&m, tensors[i].name, tensors[i].dtype, width ? 2 : 1, shape,
                                            buf_copy(tensors[i].data, bytes)),
                             0);
    }
    assert_int_equal(msg_add_scalar(&m, "count", a.count) | msg_add_scalar(&m, "loglik", a.loglik), 0);
    stats_rows_fini(&a);
    expect(core, &m, MSG_ACK, ACK_APPLIED);
}

/* Prototypes move when the last embedding is there, to the same ones whatever the order of slots, whoever adds them,
 * and when the server is resumed from a checkpoint in between. */
static void test_seeding_depends_on_the_steps_alone(void **state)
{
    (void)state;
    struct prototype_core *forth = seeded_core(), *back = seeded_core(), *resumed;
    struct prototype_core *pairs = seeded_core();
    struct run_config c;
    struct error e = {0};
    seeded_config(&c);
    for (uint64_t step = 0; step < 4; step++) {
        for (uint32_t slot = 0; slot < SLOTS; slot++)
            apply_sampled(forth, step, slot, STATS_FACTORED);
        for (uint32_t slot = SLOTS; slot-- > 0;)
            apply_sampled(back, step, slot, STATS_DENSE);
        apply_pair(pairs, step, 2);
        apply_pair(pairs, step, 0);
        assert_same_state(forth, back);
        assert_same_state(forth, pairs);
        const struct mixture *m = prototype_core_mixture(forth);
        assert_int_equal(m->seeded, step == 1 ? K : 0);
        assert_true((m->seeding != NULL) == (step == 0));
        struct prototype_core_options o = {.config = &c, .generation = 4};
        assert_int_equal(mixture_clone(m, &o.resumed), 0);
        assert_int_equal(prototype_core_new(&o, &resumed, &e), 0);
        prototype_core_free(&back);
        back = resumed;
    }
    prototype_core_free(&forth);
    prototype_core_free(&back);
    prototype_core_free(&pairs);
}

static void test_seeding_takes_its_embeddings_and_no_others(void **state)
{
    (void)state;
    static const uint32_t counts[2][SLOTS] = {{ROWS, ROWS, ROWS, ROWS}, {ROWS, 2, 0, 0}};
    struct prototype_core *core = seeded_core(), *untouched = seeded_core(), *plain = six_step_core();
    struct msg m;
    for (uint64_t step = 0; step < 2; step++)
        for (uint32_t slot = 0; slot < SLOTS; slot++) {
            for (uint32_t S = 0; S <= ROWS; S++) {
                if (S == counts[step][slot])
                    continue;
                sampled_message(step, slot, STATS_DENSE, S, &m);
                expect(core, &m, MSG_ERROR, REASON_BAD_SHAPE);
            }
            assert_same_state(core, untouched);
            apply_sampled(core, step, slot, STATS_DENSE);
            apply_sampled(untouched, step, slot, STATS_DENSE);
        }
    sampled_message(0, 0, STATS_DENSE, 1, &m);
    expect(plain, &m, MSG_ERROR, REASON_BAD_SHAPE); /* a run without it wants none */
    prototype_core_free(&core);
    prototype_core_free(&untouched);
    prototype_core_free(&plain);
}

/* From a checkpoint in between, and from the start, where nothing is left of what was gathered. */
static void test_seeding_survives_going_back(void **state)
{
    (void)state;
    struct prototype_core *core = seeded_core(), *straight = seeded_core();
    struct outbox out = {0};
    struct mixture *at_one = NULL;
    for (uint64_t step = 0; step < 3; step++)
        for (uint32_t slot = 0; slot < SLOTS; slot++)
            apply_sampled(straight, step, slot, STATS_DENSE);
    for (int round = 0; round < 3; round++) { /* from the start, from step 1, from the start again */
        for (uint64_t step = version_of(core); step < 3; step++) {
            for (uint32_t slot = 0; slot < SLOTS; slot++)
                apply_sampled(core, step, slot, STATS_DENSE);
            if (step == 0 && at_one == NULL)
                assert_int_equal(mixture_clone(prototype_core_mixture(core), &at_one), 0);
        }
        assert_same_state(core, straight);
        assert_int_equal(prototype_core_rewind(core, 10 + (uint64_t)round, round == 0 ? at_one : NULL, &out), 0);
        assert_true(prototype_core_mixture(core)->seeding->gathered == (round == 0 ? 24 : 0));
        outbox_fini(&out);
    }
    prototype_core_free(&core);
    prototype_core_free(&straight);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_seeding_depends_on_the_steps_alone),
        cmocka_unit_test(test_seeding_takes_its_embeddings_and_no_others),
        cmocka_unit_test(test_seeding_survives_going_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
