/* What the core publishes: deltas, snapshots, and that whoever follows them holds the mixture. */
#include "tests/unit/prototype/core_rig.h"

static uint64_t tensor_bytes(const struct msg *m)
{
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < m->tensor_count; i++)
        bytes += m->tensors[i].data->size;
    return bytes;
}

/* One slot a step, whose embeddings touch components 1 and 3. */
static void two_rows_message(uint64_t step, uint32_t components, struct msg *m)
{
    float h[ROWS * D] = {0}, gamma[ROWS];
    uint32_t start[ROWS + 1] = {0}, index[ROWS];
    for (uint32_t i = 0; i < ROWS; i++) {
        h[i * D + i % D] = 1;
        gamma[i] = 1;
        index[i] = 1 + 2 * (i % 2);
        start[i + 1] = i + 1;
    }
    struct responsibilities g = {.N = ROWS, .start = start, .index = index, .gamma = gamma};
    struct stats_extra x = {.loglik = -3};
    msg_init(m, MSG_STATS, "unit");
    m->worker = 5;
    m->step = step;
    m->slots = 1;
    assert_int_equal(stats_encode(h, &g, components, D, COVARIANCE_DIAGONAL, &x, m), 0);
}

/* What is published of versions that touch two rows each, over more than two periods: tensors of two rows always when
 * there are many components; when there are few, a full message now and then, which the deltas outweigh. */
static void check_published(const char *components, uint32_t count, uint32_t fulls_wanted)
{
    enum { VERSIONS = 2 * MIXTURE_FULL_EVERY + 2, DELTA_BYTES = 2 * 4 * (2 * D + 3) };
    const char *const set[] = {"run.name=unit",  "run.slots=1",          "run.slot_size=3",
                               components,       "mixture.dimensions=4", "loss.block=4",
                               "run.steps=1000", "mixture.source=views", "mixture.balance=0"};
    struct run_config c;
    struct error e = {0};
    assert_int_equal(run_config_load(&c, NULL, NULL, set, sizeof set / sizeof set[0], &e), 0);
    struct prototype_core *core = core_of(&c);
    uint32_t fulls = 0;
    for (uint64_t step = 0; step < VERSIONS; step++) {
        struct outbox out = {0};
        struct msg m;
        two_rows_message(step, count, &m);
        assert_int_equal(prototype_core_on_message(core, 0, &anyone, &m, &out), 0);
        msg_fini(&m);
        for (size_t i = 0; i < out.count; i++) {
            const struct outbox_item *item = &out.items[i];
            if (item->kind != OUT_PUBLISH || item->msg.type != MSG_MIXTURE)
                continue;
            bool full = item->msg.encoding == MIXTURE_FULL;
            fulls += full;
            assert_int_equal(tensor_bytes(&item->msg), full ? count * 4 * (2 * D + 2) : DELTA_BYTES);
            assert_true(!full || item->msg.step % MIXTURE_FULL_EVERY == 0);
        }
        outbox_fini(&out);
    }
    assert_int_equal(fulls, fulls_wanted);
    prototype_core_free(&core);
}

static void test_deltas_of_few_rows_stay_deltas(void **state)
{
    (void)state;
    check_published("mixture.components=12", 12, 2);
    check_published("mixture.components=1000", 1000, 0);
}

/* A subscriber that applies every publication holds what MIXTURE_GET says, for the newest and the version before. */
static void test_publications_and_snapshots_agree(void **state)
{
    (void)state;
    struct prototype_core *core = six_step_core();
    struct mixture_view *follower, *asked;
    enum reason why;
    assert_int_equal(mixture_view_new(K, D, COVARIANCE_DIAGONAL, &follower), 0);
    assert_int_equal(mixture_view_new(K, D, COVARIANCE_DIAGONAL, &asked), 0);
    mixture_view_copy(follower, prototype_core_mixture(core)->view);
    for (uint64_t step = 0; step < STEPS; step++) {
        struct outbox out = {0};
        struct msg m;
        for (uint32_t slot = 0; slot < SLOTS; slot++) {
            stats_message(step, slot, STATS_ROWS, &m);
            assert_int_equal(prototype_core_on_message(core, 0, &anyone, &m, &out), 0);
            msg_fini(&m);
        }
        bool published = false, metrics = false;
        for (size_t i = 0; i < out.count; i++) {
            const struct outbox_item *item = &out.items[i];
            if (item->kind == OUT_PUBLISH && item->msg.type == MSG_MIXTURE) {
                assert_string_equal(item->topic, "mixture");
                assert_int_equal(mixture_apply(follower, &item->msg, &why), 0);
                published = true;
            }
            metrics |= item->kind == OUT_PUBLISH && item->msg.type == MSG_METRICS;
        }
        assert_true(published);
        assert_int_equal(metrics, (step + 1) % 2 == 0);
        assert_int_equal(prototype_core_take_metrics(core, &m), metrics); /* handed over beside the publication, */
        if (metrics) {
            assert_int_equal(m.step, step + 1);
            assert_true(msg_scalar(&m, "version", 0) == (double)(step + 1));
            assert_int_equal(m.tensor_count, 0);
        }
        assert_false(prototype_core_take_metrics(core, &m)); /* and once */
        outbox_fini(&out);
        for (uint64_t back = 0; back < 2; back++) {
            msg_init(&m, MSG_MIXTURE_GET, "unit");
            m.step = step + 1 - back;
            assert_int_equal(prototype_core_on_message(core, 0, &anyone, &m, &out), 0);
            assert_int_equal(out.items[0].msg.type, MSG_MIXTURE);
            assert_int_equal(out.items[0].msg.encoding, MIXTURE_FULL);
            assert_int_equal(mixture_apply(asked, &out.items[0].msg, &why), 0);
            assert_int_equal(asked->version, step + 1 - back);
            if (back == 0) {
                assert_memory_equal(asked->mean, follower->mean, K * D * sizeof(float));
                assert_memory_equal(asked->variance, follower->variance, K * D * sizeof(float));
                assert_memory_equal(asked->log_const, follower->log_const, K * sizeof(float));
            }
            outbox_fini(&out);
            out = (struct outbox){0};
        }
    }
    struct msg m;
    msg_init(&m, MSG_MIXTURE_GET, "unit");
    m.step = STEPS + 1;
    expect(core, &m, MSG_ERROR, REASON_UNKNOWN_VERSION);
    msg_init(&m, MSG_MIXTURE_GET, "unit");
    m.step = STEPS - 2;
    expect(core, &m, MSG_ERROR, REASON_UNKNOWN_VERSION);
    msg_init(&m, MSG_MIXTURE_GET, "unit");
    m.seq = 1;
    expect(core, &m, MSG_MIXTURE, 0);
    mixture_view_free(&follower);
    mixture_view_free(&asked);
    prototype_core_free(&core);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_deltas_of_few_rows_stay_deltas),
        cmocka_unit_test(test_publications_and_snapshots_agree),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
