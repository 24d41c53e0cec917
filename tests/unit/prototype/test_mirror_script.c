/* What the mirror writes, without a Redis: commands in order, what is left out, and the wire form itself. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>
#include <string.h>
#include "server/prototype/mirror_batch.h"
#include "server/prototype/mirror_script.h"

static void test_wire_form_is_resp(void **state)
{
    (void)state;
    struct redis_command c;
    redis_command_init(&c);
    for (int again = 0; again < 2; again++) {
        redis_command_begin(&c, "SET");
        redis_command_text(&c, "");
        redis_command_bytes(&c, "a\0\r\nb", 5);
        assert_int_equal(redis_command_end(&c), 0);
        static const char want[] = "*3\r\n$3\r\nSET\r\n$0\r\n\r\n$5\r\na\0\r\nb\r\n";
        assert_int_equal(c.wire_size, sizeof want - 1);
        assert_memory_equal(c.wire, want, sizeof want - 1);
    }
    redis_command_fini(&c);
}

struct fixture {
    struct run_config config;
    struct prototype_core *core;
    struct mirror_state state;
    struct mirror_known known[8];
    struct mirror_queue queue;
    struct redis_command command;
};

static int open_fixture(void **state)
{
    static const char *const set[] = {"run.name=m",   "mixture.components=8", "mixture.dimensions=4",
                                      "loss.block=4", "run.steps=5",          "mixture.balance=0"};
    struct fixture *f = calloc(1, sizeof *f);
    struct error e;
    assert_int_equal(run_config_load(&f->config, NULL, NULL, set, 6, &e), 0);
    struct prototype_core_options o = {.config = &f->config, .generation = 1};
    assert_int_equal(prototype_core_new(&o, &f->core, &e), 0);
    assert_int_equal(mirror_state_init(&f->state, 8, 4, COVARIANCE_DIAGONAL), 0);
    redis_command_init(&f->command);
    *state = f;
    return 0;
}

static int close_fixture(void **state)
{
    struct fixture *f = *state;
    prototype_core_free(&f->core);
    mirror_state_fini(&f->state);
    redis_command_fini(&f->command);
    free(f);
    return 0;
}

/* How many commands of a whole script contain text; *last: whether the final one does. */
static int count_commands(struct fixture *f, const char *text, bool *last)
{
    struct mirror_script s;
    int n = 0;
    mirror_script_begin(
        &s,
        &(struct mirror_script_options){
            .run = "m", .state = &f->state, .queue = &f->queue, .ttl_s = 15, .started = "2026-01-01T00:00:00.000Z"});
    while (mirror_script_next(&s, &f->command)) {
        assert_int_equal(redis_command_end(&f->command), 0);
        *last = memmem(f->command.wire, f->command.wire_size, text, strlen(text)) != NULL;
        n += *last;
    }
    return n;
}

static void test_full_sync_writes_all_then_nothing_is_left(void **state)
{
    struct fixture *f = *state;
    bool last;
    mirror_state_take(&f->state, f->core, NULL, f->known, true);
    assert_int_equal(f->state.moved, 8);
    assert_int_equal(count_commands(f, "decant:m:prototype:", &last), 8);
    assert_int_equal(count_commands(f, "$4\r\nmean", &last), 8);
    assert_int_equal(count_commands(f, "$7\r\nversion", &last), 1);
    assert_true(last);
    assert_int_equal(count_commands(f, "ZADD", &last), 1); /* no neighbours yet: by_weight alone */
    mirror_state_acknowledged(&f->state, f->known);
    mirror_state_take(&f->state, f->core, NULL, f->known, false);
    assert_int_equal(f->state.count, 0);
    assert_int_equal(count_commands(f, "decant:m:prototype:", &last), 0);
    assert_int_equal(count_commands(f, "$7\r\nversion", &last), 1);
}

static void test_new_neighbours_are_written_without_vectors(void **state)
{
    struct fixture *f = *state;
    bool last;
    uint32_t nearest[8] = {1, 0, 3, 2, 5, 4, 7, 6};
    float cosine[8] = {0.5f, 0.5f, 0.4f, 0.4f, 0.3f, 0.3f, 0.2f, 0.2f};
    struct diagnostics d = {.version = 0, .K = 8, .nearest = nearest, .cosine = cosine, .unique = {100, 50, 25, 12.5}};
    mirror_state_take(&f->state, f->core, NULL, f->known, true);
    mirror_state_acknowledged(&f->state, f->known);
    mirror_state_take(&f->state, f->core, &d, f->known, false);
    assert_int_equal(f->state.count, 8);
    assert_int_equal(f->state.moved, 0);
    assert_int_equal(count_commands(f, "$4\r\nmean", &last), 0);
    assert_int_equal(count_commands(f, "nearest_cosine", &last), 8);
    assert_int_equal(count_commands(f, "decant:m:by_nearest", &last), 1);
    assert_int_equal(count_commands(f, "unique_0025", &last), 1);
    mirror_state_acknowledged(&f->state, f->known);
    mirror_state_take(&f->state, f->core, &d, f->known, false);
    assert_int_equal(f->state.count, 0);
}

/* Usage decays with every step: what only did that takes turns. */
static void test_usage_alone_takes_turns(void **state)
{
    struct fixture *f = *state;
    uint32_t seen[8] = {0};
    mirror_state_take(&f->state, f->core, NULL, f->known, true);
    mirror_state_acknowledged(&f->state, f->known);
    f->state.refresh_max = 3;
    for (int update = 0; update < 8; update++) {
        for (int k = 0; k < 8; k++)
            f->known[k].usage = 0.9f; /* far from what it is */
        mirror_state_take(&f->state, f->core, NULL, f->known, false);
        assert_int_equal(f->state.count, 3);
        assert_int_equal(f->state.moved, 0);
        for (uint32_t i = 0; i < f->state.count; i++)
            seen[f->state.rows[i].k]++;
    }
    for (int k = 0; k < 8; k++)
        assert_int_equal(seen[k], 3);
    f->known[5].updated_step = 99; /* a row that moved never waits */
    mirror_state_take(&f->state, f->core, NULL, f->known, false);
    assert_int_equal(f->state.count, 4);
    f->state.refresh_max = UINT32_MAX;
    mirror_state_take(&f->state, f->core, NULL, f->known, false);
    assert_int_equal(f->state.count, 8);
}

static void test_prices_and_splits_are_shown_where_there_are_any(void **state)
{
    struct fixture *f = *state;
    bool last;
    mirror_state_take(&f->state, f->core, NULL, f->known, true);
    assert_int_equal(count_commands(f, "price", &last), 0);
    assert_int_equal(count_commands(f, "splits", &last), 0);
    prototype_core_free(&f->core);
    f->config.mixture.balance = 0.1;
    f->config.mixture.merge_distance = 0.1;
    struct prototype_core_options o = {.config = &f->config, .generation = 1};
    assert_int_equal(prototype_core_new(&o, &f->core, NULL), 0);
    mirror_state_take(&f->state, f->core, NULL, f->known, true);
    assert_int_equal(count_commands(f, "$5\r\nprice\r\n", &last), 8);
    assert_int_equal(count_commands(f, "$12\r\nprice_spread\r\n", &last), 1);
    assert_int_equal(count_commands(f, "$6\r\nsplits\r\n", &last), 1);
}

/* A tied covariance is one key, and no field of a prototype. */
static void test_a_shared_matrix_is_written_once(void **state)
{
    struct fixture *f = *state;
    bool last;
    prototype_core_free(&f->core);
    mirror_state_fini(&f->state);
    f->config.mixture.covariance = COVARIANCE_TIED;
    struct prototype_core_options o = {.config = &f->config, .generation = 1};
    assert_int_equal(prototype_core_new(&o, &f->core, NULL), 0);
    assert_int_equal(mirror_state_init(&f->state, 8, 4, COVARIANCE_TIED), 0);
    mirror_state_take(&f->state, f->core, NULL, f->known, true);
    assert_memory_equal(f->state.variance, prototype_core_mixture(f->core)->view->variance, 16 * sizeof(float));
    assert_int_equal(count_commands(f, "decant:m:whitening\r\n$64\r\n", &last), 1);
    assert_int_equal(count_commands(f, "$4\r\nmean", &last), 8);
    assert_int_equal(count_commands(f, "variance_shape", &last), 0);
    assert_int_equal(count_commands(f, "$4\r\ntied", &last), 1);
}

static bool holds(const struct redis_command *c, const char *text)
{
    return memmem(c->wire, c->wire_size, text, strlen(text)) != NULL;
}

static void test_batch_is_one_command_with_its_fence(void **state)
{
    (void)state;
    struct redis_command batch, set;
    redis_command_init(&batch);
    redis_command_init(&set);
    redis_command_begin(&set, "SET");
    redis_command_text(&set, "key");
    redis_command_bytes(&set, "a\0b", 3);
    mirror_batch_begin(&batch, "m", 7, "2026-01-01T00:00:00.000Z");
    mirror_batch_add(&batch, &set);
    mirror_batch_add(&batch, &set);
    assert_int_equal(redis_command_end(&batch), 0);
    /* EVAL, script, 2, key, live, generation, start, and twice: 3, SET, key, value */
    assert_memory_equal(batch.wire, "*15\r\n$4\r\nEVAL\r\n", 15);
    assert_true(holds(
        &batch, "$1\r\n2\r\n$8\r\ndecant:m\r\n$13\r\ndecant:m:live\r\n$1\r\n7\r\n$24\r\n2026-01-01T00:00:00.000Z\r\n"
                "$1\r\n3\r\n$3\r\nSET\r\n$3\r\nkey\r\n$3\r\na"));
    assert_true(mirror_batch_superseded("SUPERSEDED 8"));
    assert_false(mirror_batch_superseded("OOM command not allowed"));
    redis_command_fini(&batch);
    redis_command_fini(&set);
}

static void test_records_are_sent_once(void **state)
{
    struct fixture *f = *state;
    bool last;
    struct msg m;
    msg_init(&m, MSG_METRICS, "m");
    msg_add_scalar(&m, "loglik", -1);
    mirror_queue_metrics(&f->queue, &m);
    mirror_event_start(&f->queue, 0, 1);
    mirror_state_take(&f->state, f->core, NULL, f->known, false);
    assert_int_equal(count_commands(f, "XADD", &last), 1);
    assert_int_equal(f->queue.count, 0);
    assert_int_equal(count_commands(f, "PUBLISH", &last), 0);
}

#define CASE(f) cmocka_unit_test_setup_teardown(f, open_fixture, close_fixture)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_wire_form_is_resp),
        cmocka_unit_test(test_batch_is_one_command_with_its_fence),
        CASE(test_usage_alone_takes_turns),
        CASE(test_full_sync_writes_all_then_nothing_is_left),
        CASE(test_new_neighbours_are_written_without_vectors),
        CASE(test_prices_and_splits_are_shown_where_there_are_any),
        CASE(test_a_shared_matrix_is_written_once),
        CASE(test_records_are_sent_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
