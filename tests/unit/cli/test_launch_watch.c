/* Whose progress the launcher shows: a server that speaks at our address may be another run's. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "cli/launch_watch.h"
#include "common/files.h"

enum { EVERY_MS = 10, ROUNDS_MAX = 2000, FOREIGN = 4 /* kinds of message that are not this run's */ };

struct stage {
    struct run_config config;
    uv_loop_t loop;
    uv_timer_t timer;
    struct net *net;
    struct net_socket *server;
    struct launch_watch watch;
    unsigned rounds;
};

/* METRICS of a parameter server: kind 0..3 differ from this run in one thing, kind 4 is its own. */
static void publish(struct stage *s, unsigned kind)
{
    struct msg m;
    struct buf *frames[NET_FRAMES_MAX];
    size_t n = 0;
    msg_init(&m, MSG_METRICS, kind == 0 ? "another" : s->config.run.name);
    m.config = run_config_hash(&s->config) + (kind == 1);
    m.generation = kind == 2 ? 6 : kind == 3 ? 8 : 7;
    m.step = 100 + kind;
    assert_int_equal(msg_add_scalar(&m, "loss", 1), 0);
    frames[0] = buf_copy("metrics", 7);
    assert_int_equal(msg_encode(&m, frames + 1, &n), 0);
    assert_int_equal(net_send(s->server, frames, n + 1), 0);
    for (size_t i = 0; i <= n; i++)
        buf_unref(&frames[i]);
    msg_fini(&m);
}

/* Foreign ones until the end, since a publication may be lost before the subscription has come; then our own. */
static void on_tick(uv_timer_t *timer)
{
    struct stage *s = timer->data;
    bool seen = s->watch.progress.trained;
    if (seen || ++s->rounds == ROUNDS_MAX) {
        uv_close((uv_handle_t *)&s->timer, NULL);
        net_close(&s->server);
        launch_watch_close(&s->watch);
        return;
    }
    for (unsigned kind = 0; kind < FOREIGN; kind++)
        publish(s, kind);
    if (s->rounds > 50)
        publish(s, FOREIGN);
}

static void ignore(void *arg, struct buf **frames, size_t n)
{
    (void)arg;
    (void)frames;
    (void)n;
}

static void test_only_this_runs_servers_are_listened_to(void **state)
{
    struct stage *s = calloc(1, sizeof *s);
    char command[1200];
    struct error e;
    const struct file_part generation = {"7\n", 2};
    FILE *log = tmpfile();
    (void)state;
    assert_int_equal(run_config_load(&s->config, NULL, NULL, NULL, 0, &e), 0);
    strcpy(s->config.run.out, "/tmp/decant-test-XXXXXX");
    assert_non_null(mkdtemp(s->config.run.out));
    snprintf(command, sizeof command, "%s/generation-parameter", s->config.run.out);
    assert_int_equal(file_write_atomic(command, &generation, 1, &e), 0);
    snprintf(s->config.net.parameter_publish, sizeof s->config.net.parameter_publish, "ipc://%.200s/p",
             s->config.run.out);
    const struct net_options o = {
        .role = NET_XPUB, .endpoint = s->config.net.parameter_publish, .hwm = 100, .message_bytes_max = 1000};
    uv_loop_init(&s->loop);
    assert_int_equal(net_new(&s->net, &e), 0);
    assert_int_equal(net_open(s->net, &s->loop, &o, ignore, NULL, &s->server, &e), 0);
    assert_int_equal(launch_watch_open(&s->watch, &s->loop, &s->config, true, log, &e), 0);
    uv_timer_init(&s->loop, &s->timer);
    s->timer.data = s;
    uv_timer_start(&s->timer, on_tick, EVERY_MS, EVERY_MS);
    uv_run(&s->loop, UV_RUN_DEFAULT);
    assert_true(s->watch.progress.trained); /* its own were heard */
    assert_int_equal(s->watch.progress.first_step, 100 + FOREIGN);
    assert_int_equal(s->watch.progress.step, 100 + FOREIGN); /* and no others */
    launch_watch_fini(&s->watch);
    net_free(&s->net);
    uv_loop_close(&s->loop);
    snprintf(command, sizeof command, "rm -rf '%s'", s->config.run.out);
    assert_int_equal(system(command), 0);
    fclose(log);
    free(s);
}

/* While images are loaded there is no step to be told of. */
static void test_loading_is_told(void **state)
{
    struct launch_watch w = {0};
    uv_loop_t loop;
    char line[128] = "";
    (void)state;
    uv_loop_init(&loop);
    w.loop = &loop;
    w.log = tmpfile();
    w.opened_ms = w.shown_ms = uv_now(&loop);
    launch_watch_loading(&w, 10, 40); /* too soon */
    w.opened_ms = w.shown_ms = uv_now(&loop) - 20000;
    launch_watch_loading(&w, 50, 40);
    assert_int_equal(ftell(w.log), 0);
    launch_watch_loading(&w, 10, 40);
    w.shown_ms = w.opened_ms;
    w.progress.step = 1;
    launch_watch_loading(&w, 20, 40);
    rewind(w.log);
    assert_non_null(fgets(line, sizeof line, w.log));
    assert_string_equal(line, "loading images: 25 % of 40, 1m00s left\n");
    assert_null(fgets(line, sizeof line, w.log));
    fclose(w.log);
    uv_loop_close(&loop);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_loading_is_told),
                                       cmocka_unit_test(test_only_this_runs_servers_are_listened_to)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
