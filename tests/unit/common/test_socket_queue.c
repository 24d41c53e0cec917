/* What the kernel holds of a stream socket is told as it is, and only local sockets are let hold more. */
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <sys/socket.h>
#include <unistd.h>
#include "common/socket_queue.h"

static int queue_of(int fd)
{
    int bytes = 0;
    socklen_t size = sizeof bytes;
    assert_int_equal(getsockopt(fd, SOL_SOCKET, SO_SNDBUF, &bytes, &size), 0);
    return bytes;
}

static void test_what_waits_is_told(void **state)
{
    int pair[2];
    char bytes[5000] = {0};
    size_t queued;
    uint64_t before, after;
    (void)state;
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
    assert_true(socket_queue(pair[0], &queued, &before));
    assert_int_equal(queued, 0);
    assert_int_equal(write(pair[0], bytes, sizeof bytes), sizeof bytes);
    assert_true(socket_queue(pair[0], &queued, &after));
    assert_true(queued >= sizeof bytes && after != before);
    assert_int_equal(read(pair[1], bytes, sizeof bytes), sizeof bytes);
    assert_true(socket_queue(pair[0], &queued, &after));
    assert_int_equal(queued, 0);
    close(pair[0]);
    close(pair[1]);
    assert_false(socket_queue(pair[0], &queued, &after));
}

static void test_a_local_queue_grows_once(void **state)
{
    int pair[2];
    (void)state;
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
    int fresh = queue_of(pair[0]);
    socket_queue_widen(pair[0], 2 * fresh);
    int wide = queue_of(pair[0]);
    assert_true(wide > fresh);
    assert_int_equal(queue_of(pair[1]), fresh);
    socket_queue_widen(pair[0], fresh / 2); /* never less than there was */
    assert_int_equal(queue_of(pair[0]), wide);
    close(pair[0]);
    close(pair[1]);
}

/* ZeroMQ may have closed the descriptor meanwhile, and somebody else opened it. */
static void test_other_descriptors_are_left_alone(void **state)
{
    int tcp = socket(AF_INET, SOCK_STREAM, 0), pipes[2];
    (void)state;
    int fresh = queue_of(tcp);
    socket_queue_widen(tcp, 2 * fresh);
    assert_int_equal(queue_of(tcp), fresh);
    assert_int_equal(pipe(pipes), 0);
    socket_queue_widen(pipes[1], 1 << 20);
    socket_queue_widen(-1, 1 << 20);
    close(tcp);
    close(pipes[0]);
    close(pipes[1]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_waits_is_told),
        cmocka_unit_test(test_a_local_queue_grows_once),
        cmocka_unit_test(test_other_descriptors_are_left_alone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
