/* The core in stream mode by an exact clock: when a version and a checkpoint are due, of what moment a snapshot is,
 * and who is told that it is on disk. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "server/prototype/core.h"

enum { K = 4, D = 2, NOW = 1000, CONTRIBUTIONS = 3, VERSION_MS = 50, CHECKPOINT_MS = 400, KEEP = 8 };

static const struct peer one = {.size = 1, .id = {7}}, two = {.size = 1, .id = {8}};

static struct prototype_core *new_core(void)
{
    const char *const set[] = {"run.mode=stream",       "run.name=unit",          "mixture.components=4",
                               "mixture.dimensions=2",  "stream.contributions=3", "stream.version_ms=50",
                               "stream.window=8",       "stream.keep=8",          "stream.checkpoint_ms=400",
                               "run.checkpoint_every=0"};
    struct prototype_core *core;
    struct run_config c;
    struct error e = {0};
    if (run_config_load(&c, NULL, NULL, set, sizeof set / sizeof set[0], &e) != 0)
        fail_msg("%s", e.text);
    struct prototype_core_options o = {.config = &c, .generation = 3};
    assert_int_equal(prototype_core_new(&o, &core, &e), 0);
    return core;
}

static uint64_t version_of(const struct prototype_core *core)
{
    return prototype_core_mixture(core)->view->version;
}

/* Sends m and drops it; the answer's scalars are looked at by name. */
static struct msg ask(struct prototype_core *core, const struct peer *from, struct msg *m, uint64_t now)
{
    struct outbox out = {0};
    assert_int_equal(prototype_core_on_message(core, now, from, m, &out), 0);
    msg_fini(m);
    assert_true(out.count >= 1 && out.items[0].kind == OUT_PEER);
    struct msg answer = out.items[0].msg;
    assert_int_equal(answer.tensor_count, 0);
    outbox_fini(&out);
    return answer;
}

static uint64_t greet(struct prototype_core *core, const struct peer *from)
{
    struct msg hello;
    msg_init(&hello, MSG_HELLO, "");
    struct msg welcome = ask(core, from, &hello, NOW);
    assert_int_equal(welcome.type, MSG_WELCOME);
    assert_int_equal((int)msg_scalar(&welcome, "mode", 0), MODE_STREAM);
    return welcome.worker;
}

static struct msg contribute(struct prototype_core *core, const struct peer *from, uint64_t name, uint64_t seq,
                             uint64_t now)
{
    const float h[D] = {0.6f, 0.8f}, gamma[1] = {1};
    const uint32_t start[2] = {0, 1}, index[1] = {(uint32_t)(seq % K)};
    struct responsibilities g = {.N = 1, .start = start, .index = index, .gamma = gamma};
    struct stats_extra extra = {.loglik = -1};
    struct msg m;
    msg_init(&m, MSG_STATS, "unit");
    m.worker = name;
    m.seq = seq;
    assert_int_equal(stats_encode(h, &g, K, D, COVARIANCE_DIAGONAL, &extra, &m), 0);
    return ask(core, from, &m, now);
}

static void apply(struct prototype_core *core, const struct peer *from, uint64_t name, uint64_t seq, uint64_t now)
{
    struct msg answer = contribute(core, from, name, seq, now);
    assert_int_equal(answer.type, MSG_ACK);
    assert_int_equal(answer.code, ACK_APPLIED);
    assert_int_equal((uint64_t)msg_scalar(&answer, "applied", 0), seq);
}

static void tick(struct prototype_core *core, uint64_t now)
{
    struct outbox out = {0};
    assert_int_equal(prototype_core_on_timer(core, now, &out), 0);
    outbox_fini(&out);
}

/* A snapshot is due: takes it, and returns its version and how many contributions its ledger has. */
static uint64_t take(struct prototype_core *core, uint64_t *contributions)
{
    struct mixture *snapshot;
    struct ledger *ledger;
    assert_true(prototype_core_take_checkpoint(core, &snapshot, &ledger));
    uint64_t version = snapshot->view->version;
    *contributions = ledger->contributions;
    mixture_free(&snapshot);
    ledger_free(&ledger);
    return version;
}

static void take_none(struct prototype_core *core)
{
    struct mixture *snapshot;
    struct ledger *ledger;
    assert_false(prototype_core_take_checkpoint(core, &snapshot, &ledger));
}

static void test_versions_by_count_and_by_time(void **state)
{
    (void)state;
    struct prototype_core *core = new_core();
    uint64_t name = greet(core, &one);
    for (uint64_t seq = 1; seq <= CONTRIBUTIONS; seq++) {
        assert_int_equal(version_of(core), 0);
        apply(core, &one, name, seq, NOW);
    }
    assert_int_equal(version_of(core), 1);
    tick(core, NOW + 4 * VERSION_MS); /* nothing is pending */
    assert_int_equal(version_of(core), 1);
    uint64_t first = NOW + 4 * VERSION_MS;
    uint64_t other = greet(core, &two); /* the first one has used nearly half of what it may keep */
    apply(core, &two, other, 1, first);
    apply(core, &two, other, 2, first + VERSION_MS - 1);
    tick(core, first + VERSION_MS - 1);
    assert_int_equal(version_of(core), 1);
    tick(core, first + VERSION_MS);
    assert_int_equal(version_of(core), 2);
    assert_true(prototype_core_mixture(core)->view->beta == 1);
    prototype_core_free(&core);
}

static void test_a_snapshot_is_of_a_moment_when_nothing_is_pending(void **state)
{
    (void)state;
    struct prototype_core *core = new_core();
    uint64_t name = greet(core, &one), contributions;
    apply(core, &one, name, 1, NOW);
    take_none(core);
    tick(core, NOW + CHECKPOINT_MS - 1); /* a version by now, and no checkpoint yet */
    take_none(core);
    apply(core, &one, name, 2, NOW + CHECKPOINT_MS - 1);
    tick(core, NOW + CHECKPOINT_MS);
    assert_int_equal(version_of(core), 2); /* before its time, for the checkpoint */
    assert_int_equal(take(core, &contributions), 2);
    assert_int_equal(contributions, 2);
    take_none(core);
    prototype_core_free(&core);
}

static void test_one_snapshot_at_a_time_and_its_news(void **state)
{
    (void)state;
    struct prototype_core *core = new_core();
    uint64_t a = greet(core, &one), b = greet(core, &two), contributions;
    tick(core, NOW);
    apply(core, &one, a, 1, NOW);
    tick(core, NOW + CHECKPOINT_MS);
    take(core, &contributions);
    apply(core, &one, a, 2, NOW + CHECKPOINT_MS);
    apply(core, &two, b, 1, NOW + CHECKPOINT_MS);
    tick(core, NOW + 3 * CHECKPOINT_MS);
    take_none(core); /* the first is not on disk */
    struct outbox out = {0};
    assert_int_equal(prototype_core_on_written(core, &out), 0);
    assert_int_equal(out.count, 1); /* b has nothing in it */
    const struct msg *news = &out.items[0].msg;
    assert_true(peer_equal(&out.items[0].peer, &one));
    assert_int_equal(news->type, MSG_ACK);
    assert_int_equal(news->code, ACK_DURABLE);
    assert_int_equal(news->seq, 1);
    assert_int_equal(news->worker, a);
    outbox_fini(&out);
    tick(core, NOW + 3 * CHECKPOINT_MS); /* from here on the next one's time runs */
    take_none(core);
    tick(core, NOW + 4 * CHECKPOINT_MS);
    take(core, &contributions);
    assert_int_equal(contributions, 3);
    prototype_core_free(&core);
}

static void test_half_of_what_may_be_kept_asks_for_a_checkpoint(void **state)
{
    (void)state;
    struct prototype_core *core = new_core();
    uint64_t name = greet(core, &one), contributions;
    for (uint64_t seq = 1; seq < KEEP / 2; seq++) {
        apply(core, &one, name, seq, NOW);
        take_none(core);
    }
    apply(core, &one, name, KEEP / 2, NOW);
    take(core, &contributions);
    assert_int_equal(contributions, KEEP / 2);
    for (uint64_t seq = KEEP / 2 + 1; seq <= KEEP; seq++)
        apply(core, &one, name, seq, NOW);
    struct msg refused = contribute(core, &one, name, KEEP + 1, NOW); /* none of it is on disk */
    assert_int_equal(refused.type, MSG_ERROR);
    assert_int_equal(refused.code, REASON_NOT_READY);
    assert_int_equal((int)msg_scalar(&refused, "credit", 0), KEEP);
    assert_int_equal(prototype_core_counters(core)->refused[REASON_NOT_READY], 1);
    assert_int_equal(prototype_core_counters(core)->held_back, 1);
    struct outbox out = {0};
    assert_int_equal(prototype_core_on_written(core, &out), 0);
    outbox_fini(&out);
    apply(core, &one, name, KEEP + 1, NOW);
    take(core, &contributions); /* there is much again, so that nobody has to wait for the time */
    assert_int_equal(contributions, KEEP + 1);
    prototype_core_free(&core);
}

static void test_stopping_makes_a_version_of_the_rest(void **state)
{
    (void)state;
    struct prototype_core *core = new_core();
    uint64_t name = greet(core, &one), contributions;
    apply(core, &one, name, 1, NOW);
    prototype_core_drain(core, NOW); /* nobody's step waits for a stream */
    assert_true(prototype_core_stopped(core));
    assert_int_equal(version_of(core), 1);
    assert_int_equal(take(core, &contributions), 1);
    assert_int_equal(contributions, 1);
    struct msg refused = contribute(core, &one, name, 2, NOW);
    assert_int_equal(refused.code, REASON_STOPPING);
    prototype_core_free(&core);
}

static void test_nothing_new_needs_no_checkpoint(void **state)
{
    (void)state;
    struct prototype_core *core = new_core();
    tick(core, NOW);
    tick(core, NOW + 2 * CHECKPOINT_MS);
    take_none(core);
    prototype_core_stop(core);
    take_none(core);
    prototype_core_free(&core);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_versions_by_count_and_by_time),
        cmocka_unit_test(test_a_snapshot_is_of_a_moment_when_nothing_is_pending),
        cmocka_unit_test(test_one_snapshot_at_a_time_and_its_news),
        cmocka_unit_test(test_half_of_what_may_be_kept_asks_for_a_checkpoint),
        cmocka_unit_test(test_stopping_makes_a_version_of_the_rest),
        cmocka_unit_test(test_nothing_new_needs_no_checkpoint),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
