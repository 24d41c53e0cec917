/* Which connections stay, with socket pairs in the place of ZeroMQ's connections. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include "server/shell/guests.h"

enum { PAIRS_MAX = 300 };

struct fixture {
    struct guests guests;
    int ours[PAIRS_MAX], theirs[PAIRS_MAX];
    size_t pairs;
};

static int open_fixture(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    guests_init(&f->guests, 4);
    *state = f;
    return 0;
}

static int close_fixture(void **state)
{
    struct fixture *f = *state;
    for (size_t i = 0; i < f->pairs; i++) {
        close(f->ours[i]);
        close(f->theirs[i]);
    }
    guests_fini(&f->guests);
    free(f);
    return 0;
}

/* A connection that came then. Returns its number. */
static size_t come(struct fixture *f, uint64_t now)
{
    int ends[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, ends), 0);
    f->ours[f->pairs] = ends[0];
    f->theirs[f->pairs] = ends[1];
    guests_accept(&f->guests, ends[0], now);
    return f->pairs++;
}

static bool is_cut(const struct fixture *f, size_t i)
{
    char c;
    return recv(f->theirs[i], &c, 1, MSG_DONTWAIT | MSG_PEEK) == 0;
}

static void test_one_too_many_ends_the_oldest_that_said_nothing(void **state)
{
    struct fixture *f = *state;
    size_t a = come(f, 0), b = come(f, 1), c = come(f, 2), d = come(f, 3);
    guests_hear(&f->guests, f->ours[a], "", 4);
    size_t e = come(f, 5);
    assert_true(is_cut(f, b) && !is_cut(f, a) && !is_cut(f, c) && !is_cut(f, d) && !is_cut(f, e));
    guests_hear(&f->guests, f->ours[c], "", 6);
    guests_hear(&f->guests, f->ours[d], "", 6);
    guests_hear(&f->guests, f->ours[e], "", 6);
    size_t late = come(f, 7); /* everybody else is proven */
    assert_true(is_cut(f, late) && !is_cut(f, a) && !is_cut(f, e));
    assert_int_equal(f->guests.cut[CUT_CROWD], 2);
    assert_int_equal(f->guests.count, 4);
    guests_leave(&f->guests, f->ours[a]);
    assert_false(is_cut(f, come(f, 8)));
}

static void test_one_host_has_fewer_than_all(void **state)
{
    struct fixture *f = *state;
    guests_init(&f->guests, GUESTS_MAX);
    for (uint64_t i = 0; i < GUESTS_UNPROVEN_MAX; i++)
        come(f, i);
    assert_int_equal(f->guests.cut[CUT_CROWD], 0);
    come(f, GUESTS_UNPROVEN_MAX);
    assert_true(is_cut(f, 0) && !is_cut(f, 1));
    guests_make_room(&f->guests);
    assert_int_equal(f->guests.count, GUESTS_UNPROVEN_MAX * 3 / 4);
    assert_true(is_cut(f, GUESTS_UNPROVEN_MAX / 4) && !is_cut(f, GUESTS_UNPROVEN_MAX / 4 + 1));
}

static void test_silence_has_an_end(void **state)
{
    struct fixture *f = *state;
    size_t silent = come(f, 0), proven = come(f, 0);
    guests_hear(&f->guests, f->ours[proven], "", 1);
    guests_look(&f->guests, GUESTS_SILENT_MS - 1, false);
    assert_false(is_cut(f, silent));
    guests_look(&f->guests, GUESTS_SILENT_MS, false);
    assert_true(is_cut(f, silent) && !is_cut(f, proven));
    assert_int_equal(f->guests.cut[CUT_SILENT], 1);
}

static void fill(const struct fixture *f, size_t i)
{
    static const char block[4096];
    while (send(f->ours[i], block, sizeof block, MSG_NOSIGNAL) > 0)
        ;
}

static void test_who_does_not_read_is_cut(void **state)
{
    struct fixture *f = *state;
    char block[65536];
    size_t stalled = come(f, 0), slow = come(f, 0), idle = come(f, 0);
    for (size_t i = 0; i < 3; i++)
        guests_hear(&f->guests, f->ours[i], "", 0);
    fill(f, stalled);
    fill(f, slow);
    guests_look(&f->guests, 1000, false); /* the first look at what is queued */
    guests_look(&f->guests, 1000 + GUESTS_STALLED_HURRY_MS, false);
    assert_false(is_cut(f, stalled) || f->guests.count != 3);
    assert_true(recv(f->theirs[slow], block, sizeof block, 0) > 0);
    guests_look(&f->guests, 1000 + GUESTS_STALLED_HURRY_MS, true);
    assert_int_equal(f->guests.cut[CUT_STALLED], 1);
    guests_look(&f->guests, 1000 + GUESTS_STALLED_MS, false);
    assert_int_equal(f->guests.cut[CUT_STALLED], 1);
    assert_false(is_cut(f, idle));
    guests_look(&f->guests, 1000 + GUESTS_STALLED_HURRY_MS + GUESTS_STALLED_MS, false);
    assert_int_equal(f->guests.cut[CUT_STALLED], 2);
    assert_int_equal(f->guests.count, 1);
}

/* Its descriptor may belong to somebody else by now. */
static void test_only_what_was_accepted_is_shut_down(void **state)
{
    struct fixture *f = *state;
    size_t gone = come(f, 0);
    int other[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, other), 0);
    assert_int_equal(dup2(other[0], f->ours[gone]), f->ours[gone]);
    guests_look(&f->guests, GUESTS_SILENT_MS, false);
    assert_int_equal(f->guests.count, 0);
    assert_int_equal(f->guests.cut[CUT_SILENT], 0);
    assert_int_equal(send(other[1], "x", 1, MSG_NOSIGNAL), 1); /* still open */
    guests_accept(&f->guests, open("/dev/null", O_RDONLY | O_CLOEXEC), 0);
    guests_accept(&f->guests, -1, 0);
    assert_int_equal(f->guests.count, 0);
    close(other[0]);
    close(other[1]);
}

/* Messages and connections are told of by different ways. */
static void test_who_is_heard_first_is_known(void **state)
{
    struct fixture *f = *state;
    size_t a = come(f, 0);
    guests_leave(&f->guests, f->ours[a]);
    guests_hear(&f->guests, f->ours[a], "key", 1);
    guests_accept(&f->guests, f->ours[a], 2);
    assert_int_equal(f->guests.count, 1);
    guests_look(&f->guests, 1 + GUESTS_SILENT_MS, false);
    assert_false(is_cut(f, a));
    guests_hear(&f->guests, -1, "", 1);
    assert_int_equal(f->guests.count, 1);
}

static bool is_b(const void *arg, const char *key)
{
    return strcmp(key, arg) == 0;
}

static void test_keys_that_are_gone(void **state)
{
    struct fixture *f = *state;
    size_t a = come(f, 0), b = come(f, 0), none = come(f, 0);
    guests_hear(&f->guests, f->ours[a], "a", 0);
    guests_hear(&f->guests, f->ours[b], "b", 0);
    assert_int_equal(guests_cut_keys(&f->guests, is_b, "b"), 1);
    assert_true(is_cut(f, a) && !is_cut(f, b) && !is_cut(f, none));
    guests_cut(&f->guests, f->ours[b], CUT_ROLE);
    assert_true(is_cut(f, b));
    assert_int_equal(f->guests.cut[CUT_ROLE], 1);
    assert_string_equal(guest_cut_name(CUT_ROLE), "role");
}

#define CASE(f) cmocka_unit_test_setup_teardown(f, open_fixture, close_fixture)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(test_one_too_many_ends_the_oldest_that_said_nothing),
        CASE(test_one_host_has_fewer_than_all),
        CASE(test_silence_has_an_end),
        CASE(test_who_does_not_read_is_cut),
        CASE(test_only_what_was_accepted_is_shut_down),
        CASE(test_who_is_heard_first_is_known),
        CASE(test_keys_that_are_gone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
