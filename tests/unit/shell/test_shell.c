/* The shell around a core that counts: messages in and answers out over real sockets, signals, and the way out. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <unistd.h>
#include <cmocka.h>
#include "server/shell/shell.h"
#include "tests/unit/common/scratch.h"

struct toy {
    struct shell shell;
    struct net *net; /* of the client */
    struct net_socket *client;
    unsigned opened, messages, refused, turns, leaving, undelivered;
    uint64_t timers;
    bool stopped;
    int message_rc;                                  /* what the core says to the next message */
    enum { BYE_NONE, BYE_SIGNAL, BYE_GARBAGE } then; /* what the client does after the first answer */
    enum msg_type answer;
    char reason[16];
};

/* ---- the core: step 0 for ever ---- */

static int create(void *core, uint64_t generation, bool resume, struct error *e)
{
    (void)core, (void)resume, (void)e;
    assert_int_equal(generation, 1);
    return 0;
}

static uint64_t zero(void *core)
{
    (void)core;
    return 0;
}

static size_t no_workers(void *core)
{
    (void)core;
    return 0;
}

static bool stopped(void *core)
{
    return ((struct toy *)core)->stopped;
}

static bool never(void *core)
{
    (void)core;
    return false;
}

static bool no_rewind(void *core, uint64_t *step_max)
{
    (void)core, (void)step_max;
    return false;
}

static int stop(void *core, uint64_t now)
{
    (void)now;
    ((struct toy *)core)->stopped = true;
    return 0;
}

static void no_checkpoint(void *core)
{
    (void)core;
}

static const struct incarnation_core toy_core = {.create = create,
                                                 .step = zero,
                                                 .total_steps = zero,
                                                 .workers = no_workers,
                                                 .stopped = stopped,
                                                 .at_end = never,
                                                 .take_rewind = no_rewind,
                                                 .drain = stop,
                                                 .stop = stop,
                                                 .checkpoint = no_checkpoint};

/* ---- the service ---- */

static int answer(struct outbox *out, const struct peer *to, enum msg_type type)
{
    struct msg m;
    msg_init(&m, type, "toy");
    return outbox_to_peer(out, to, &m);
}

static int on_message(void *arg, uint64_t now, const struct peer *from, struct msg *m, struct outbox *out)
{
    struct toy *t = arg;
    (void)now;
    t->messages++;
    assert_int_equal(m->type, MSG_PING);
    return t->message_rc != 0 ? t->message_rc : answer(out, from, MSG_PONG);
}

static int on_refused(void *arg, const struct peer *from, const struct msg *m, enum reason why, const char *detail,
                      struct outbox *out)
{
    (void)m, (void)detail;
    ((struct toy *)arg)->refused++;
    assert_int_equal(why, REASON_BAD_HEADER);
    return answer(out, from, MSG_ERROR);
}

static int on_timer(void *arg, uint64_t now, struct outbox *out)
{
    (void)now, (void)out;
    ((struct toy *)arg)->timers++;
    return 0;
}

static void after_turn(void *arg, uint64_t now)
{
    (void)now;
    ((struct toy *)arg)->turns++;
}

static void on_leaving(void *arg, const char *reason)
{
    struct toy *t = arg;
    t->leaving++;
    snprintf(t->reason, sizeof t->reason, "%s", reason);
    if (t->client)
        net_close(&t->client);
}

static void figures(const void *arg, struct server_figures *f)
{
    (void)arg, (void)f;
}

static void no_metrics(const void *arg, struct exposition *x)
{
    (void)arg, (void)x;
}

/* ---- the client, on the same loop ---- */

static void send_bytes(struct toy *t, const struct msg *m)
{
    struct buf *frames[NET_FRAMES_MAX];
    size_t n = 0;
    if (m != NULL) {
        assert_int_equal(msg_encode(m, frames, &n), 0);
    } else {
        frames[n++] = buf_copy("not a header", 12);
    }
    assert_int_equal(net_send(t->client, frames, n), 0);
    for (size_t i = 0; i < n; i++)
        buf_unref(&frames[i]);
}

static void on_answer(void *arg, struct buf **frames, size_t n)
{
    struct toy *t = arg;
    struct msg m;
    enum reason why;
    assert_int_equal(msg_decode(frames, n, &m, &why, NULL), 0);
    t->answer = m.type;
    msg_fini(&m);
    if (t->then == BYE_GARBAGE) {
        t->then = BYE_SIGNAL;
        send_bytes(t, NULL);
    } else {
        kill(getpid(), SIGTERM);
    }
}

/* The service is open: its sockets are next, so the client's first message waits in ZeroMQ until they are bound. */
static int open_client(void *arg, bool resume, struct error *e)
{
    struct toy *t = arg;
    struct msg ping;
    const struct net_options o = {
        .role = NET_DEALER, .endpoint = t->shell.config->net.prototype, .message_bytes_max = 1 << 16};
    (void)resume;
    t->opened++;
    int rc = net_new(&t->net, e);
    if (rc == 0)
        rc = net_open(t->net, &t->shell.loop, &o, on_answer, t, &t->client, e);
    assert_int_equal(rc, 0);
    msg_init(&ping, MSG_PING, "toy");
    send_bytes(t, &ping);
    return 0;
}

static int refuse_to_open(void *arg, bool resume, struct error *e)
{
    (void)arg, (void)resume;
    return error_set(e, ERR_CONFIG, "no such thing");
}

static int write_nothing(const struct run_config *c, const void *snapshot, struct error *e)
{
    (void)c, (void)snapshot, (void)e;
    return 0;
}

static const struct checkpoint_kind no_kind = {.server = SERVER_PROTOTYPE, .write = write_nothing};

static int run(void **state, struct toy *t, int (*open)(void *, bool, struct error *), struct error *e)
{
    char out[300], requests[300], publications[300];
    const char *set[] = {"run.name=toy", out, requests, publications};
    struct run_config config;
    const struct shell_service service = {.server = SERVER_PROTOTYPE,
                                          .timer_ms = 20,
                                          .request_bytes_max = 1 << 16,
                                          .publish_hwm = 4,
                                          .subscription_bytes_max = 256,
                                          .core = &toy_core,
                                          .checkpoints = &no_kind,
                                          .open = open,
                                          .on_message = on_message,
                                          .on_refused = on_refused,
                                          .on_timer = on_timer,
                                          .after_turn = after_turn,
                                          .on_leaving = on_leaving,
                                          .figures = figures,
                                          .write_metrics = no_metrics};
    snprintf(out, sizeof out, "run.out=%s", (const char *)*state);
    snprintf(requests, sizeof requests, "net.prototype=ipc://%s/requests", (const char *)*state);
    snprintf(publications, sizeof publications, "net.prototype_publish=ipc://%s/publications", (const char *)*state);
    assert_int_equal(run_config_load(&config, NULL, NULL, set, 4, NULL), 0);
    assert_int_equal(shell_init(&t->shell, &service, t, &config, e), 0);
    int rc = shell_run(&t->shell, t, false, e);
    net_free(&t->net);
    shell_fini(&t->shell);
    return rc;
}

static void test_a_message_is_answered_and_a_signal_ends_it(void **state)
{
    struct toy t = {.then = BYE_SIGNAL};
    struct error e = {0};
    assert_int_equal(run(state, &t, open_client, &e), 0);
    assert_int_equal(t.messages, 1);
    assert_int_equal(t.answer, MSG_PONG);
    assert_int_equal(t.leaving, 1);
    assert_string_equal(t.reason, "signal");
    assert_true(t.turns >= 2);
}

static void test_what_is_no_message_is_refused(void **state)
{
    struct toy t = {.then = BYE_GARBAGE};
    struct error e = {0};
    assert_int_equal(run(state, &t, open_client, &e), 0);
    assert_int_equal(t.refused, 1);
    assert_int_equal(t.messages, 1);
    assert_int_equal(t.answer, MSG_ERROR);
}

static void test_a_core_that_fails_ends_the_process(void **state)
{
    struct toy t = {.message_rc = ERR_MEMORY};
    struct error e = {0};
    assert_int_equal(run(state, &t, open_client, &e), ERR_MEMORY);
    assert_int_equal(t.answer, 0);
    assert_string_equal(t.reason, "failure");
}

static void test_a_failed_start_closes_what_it_opened(void **state)
{
    struct toy t = {.then = BYE_NONE};
    struct error e = {0};
    assert_int_equal(run(state, &t, refuse_to_open, &e), ERR_CONFIG);
    assert_string_equal(e.text, "no such thing");
    assert_int_equal(t.leaving, 1);
    assert_int_equal(t.timers, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        scratch_test(test_a_message_is_answered_and_a_signal_ends_it),
        scratch_test(test_what_is_no_message_is_refused),
        scratch_test(test_a_core_that_fails_ends_the_process),
        scratch_test(test_a_failed_start_closes_what_it_opened),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
