/* What waits for Redis: the ring, and the JSON of every event as docs/REDIS.md has it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>
#include "server/prototype/mirror_queue.h"

static int open_queue(void **state)
{
    *state = calloc(1, sizeof(struct mirror_queue));
    return *state ? 0 : -1;
}

static int close_queue(void **state)
{
    free(*state);
    return 0;
}

static void test_without_a_mirror_nothing_happens(void **state)
{
    struct msg m;
    (void)state;
    msg_init(&m, MSG_METRICS, "r");
    mirror_queue_metrics(NULL, &m);
    mirror_event_start(NULL, 1, 1);
    mirror_event_reseed(NULL, 1, 1, 1);
    mirror_event_split(NULL, 1, 1, 2, 3);
    mirror_event_seed(NULL, 1, 1, 2, 3);
    mirror_event_checkpoint(NULL, 1, true);
    mirror_event_rewind(NULL, 1, 1);
    mirror_event_stop(NULL, 1, "complete");
    assert_null(mirror_queue_take(NULL));
}

static void test_the_oldest_make_room(void **state)
{
    struct mirror_queue *q = *state;
    struct msg m;
    assert_null(mirror_queue_take(q));
    msg_init(&m, MSG_METRICS, "r");
    for (m.step = 0; m.step < MIRROR_QUEUE_MAX + 3; m.step++)
        mirror_queue_metrics(q, &m);
    assert_int_equal(q->dropped, 3);
    for (uint64_t step = 3; step < MIRROR_QUEUE_MAX + 3; step++)
        assert_int_equal(mirror_queue_take(q)->step, step);
    assert_null(mirror_queue_take(q));
}

static void takes(struct mirror_queue *q, const char *json)
{
    const struct mirror_record *r = mirror_queue_take(q);
    assert_non_null(r);
    assert_true(r->event);
    assert_string_equal(r->text, json);
}

static void test_events_are_json_in_order(void **state)
{
    struct mirror_queue *q = *state;
    mirror_event_start(q, 0, 1);
    mirror_event_reseed(q, 7, 3, 1048575);
    mirror_event_split(q, 7, 5, 9, 0);
    mirror_event_seed(q, 7, 1000, 1024, 4096);
    mirror_event_checkpoint(q, 8, true);
    mirror_event_checkpoint(q, 9, false);
    mirror_event_rewind(q, 4, 2);
    mirror_event_stop(q, 10, "say \"why\"");
    takes(q, "{\"event\":\"start\",\"step\":0,\"generation\":1}");
    takes(q, "{\"event\":\"reseed\",\"step\":7,\"count\":3,\"first\":1048575}");
    takes(q, "{\"event\":\"split\",\"step\":7,\"kept\":5,\"freed\":9,\"halved\":0}");
    takes(q, "{\"event\":\"seed\",\"step\":7,\"components\":1000,\"of\":1024,\"embeddings\":4096}");
    takes(q, "{\"event\":\"checkpoint\",\"step\":8,\"ok\":true}");
    takes(q, "{\"event\":\"checkpoint\",\"step\":9,\"ok\":false}");
    takes(q, "{\"event\":\"rewind\",\"step\":4,\"generation\":2}");
    takes(q, "{\"event\":\"stop\",\"step\":10,\"reason\":\"say \\\"why\\\"\"}");
    assert_null(mirror_queue_take(q));
}

static void test_an_event_that_cannot_be_told_is_counted(void **state)
{
    struct mirror_queue *q = *state;
    char long_reason[MIRROR_EVENT_MAX] = {0};
    for (size_t i = 0; i + 1 < sizeof long_reason; i++)
        long_reason[i] = 'x';
    mirror_event_stop(q, 10, long_reason);
    mirror_event_stop(q, 10, "\xff not UTF-8");
    assert_null(mirror_queue_take(q));
    assert_int_equal(q->dropped, 2);
}

#define CASE(f) cmocka_unit_test_setup_teardown(f, open_queue, close_queue)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_without_a_mirror_nothing_happens),
        CASE(test_the_oldest_make_room),
        CASE(test_events_are_json_in_order),
        CASE(test_an_event_that_cannot_be_told_is_counted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
