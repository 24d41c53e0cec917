/* The HTTP door, asked over a real socket from another thread while the loop runs here: pages, refusals, the limit of
 * connections, and addresses that are none. */
#include <arpa/inet.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <cmocka.h>
#include "common/http_metrics.h"
#include "common/net_address.h"

struct door {
    uv_loop_t loop;
    struct http_metrics *http;
    unsigned port;
    bool ok;          /* what /healthz says */
    unsigned scrapes; /* how often the metrics were asked for: the loop's */
    /* the client's thread */
    void (*client)(struct door *d);
    uv_thread_t thread;
    uv_async_t done;
    char answer[4096];
};

static void metrics(void *arg, struct exposition *x)
{
    struct door *d = arg;
    exposition_single(x, "app_scrapes_total", "counter", "Scrapes.", ++d->scrapes);
}

static json_t *health(void *arg, bool *ok)
{
    const struct door *d = arg;
    *ok = d->ok;
    return json_pack("{s:s}", "status", d->ok ? "ok" : "failing");
}

/* From 127.0.0.HOST. */
static int client_connect(const struct door *d, uint32_t host)
{
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)d->port)},
                       from = {.sin_family = AF_INET};
    const struct timeval patience = {.tv_sec = 20};
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    from.sin_addr.s_addr = htonl(INADDR_LOOPBACK - 1 + host);
    if (bind(fd, (const struct sockaddr *)&from, sizeof from) != 0 ||
        connect(fd, (const struct sockaddr *)&to, sizeof to) != 0) {
        close(fd);
        return -1;
    }
    return fd;
}

/* Sends a request and reads all of the answer into d->answer. */
static void ask(struct door *d, const char *request)
{
    size_t got = 0;
    ssize_t n = 1;
    int fd = client_connect(d, 1);
    d->answer[0] = '\0';
    if (fd >= 0 && send(fd, request, strlen(request), MSG_NOSIGNAL) == (ssize_t)strlen(request))
        while (n > 0 && got < sizeof d->answer - 1) {
            n = recv(fd, d->answer + got, sizeof d->answer - 1 - got, 0);
            got += n > 0 ? (size_t)n : 0;
        }
    d->answer[got] = '\0';
    if (fd >= 0)
        close(fd);
}

static void run_client(void *arg)
{
    struct door *d = arg;
    d->client(d);
    uv_async_send(&d->done);
}

static void on_done(uv_async_t *done)
{
    struct door *d = done->data;
    http_metrics_close(&d->http);
    uv_close((uv_handle_t *)done, NULL);
}

/* A door with that address; the client's questions run on a thread, and the loop ends after them. */
static void with_door(struct door *d, const char *address, void (*client)(struct door *d))
{
    struct error e = {0};
    uv_loop_init(&d->loop);
    const struct http_metrics_options o = {.address = address, .metrics = metrics, .health = health, .arg = d};
    if (http_metrics_open(&d->loop, &o, &d->http, &e) != 0)
        fail_msg("%s", e.text);
    d->port = http_metrics_port(d->http);
    d->client = client;
    d->done.data = d;
    uv_async_init(&d->loop, &d->done, on_done);
    assert_int_equal(uv_thread_create(&d->thread, run_client, d), 0);
    uv_run(&d->loop, UV_RUN_DEFAULT);
    uv_thread_join(&d->thread);
    assert_int_equal(uv_loop_close(&d->loop), 0);
    assert_null(d->http);
}

#define GET(path) "GET " path " HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"

static void get_metrics(struct door *d)
{
    ask(d, GET("/metrics"));
    ask(d, GET("/metrics"));
}

static void test_metrics_are_made_when_asked_for(void **state)
{
    (void)state;
    struct door d = {0};
    with_door(&d, "127.0.0.1:0", get_metrics);
    assert_non_null(strstr(d.answer, "HTTP/1.1 200 OK\r\n"));
    assert_non_null(strstr(d.answer, "Content-Type: text/plain; version=0.0.4"));
    assert_non_null(strstr(d.answer, "\napp_scrapes_total 2\n"));
    assert_non_null(strstr(d.answer, "\nprocess_resident_memory_bytes "));
}

static void get_health(struct door *d)
{
    ask(d, GET("/healthz"));
}

static void test_health_has_a_status(void **state)
{
    (void)state;
    struct door d = {.ok = true};
    with_door(&d, "localhost:0", get_health);
    assert_non_null(strstr(d.answer, "HTTP/1.1 200 OK\r\n"));
    assert_non_null(strstr(d.answer, "\r\n\r\n{\"status\":\"ok\"}\n"));
    d = (struct door){.ok = false};
    with_door(&d, "*:0", get_health);
    assert_non_null(strstr(d.answer, "HTTP/1.1 503 "));
    assert_non_null(strstr(d.answer, "{\"status\":\"failing\"}\n"));
}

static void ask_for_more(struct door *d)
{
    ask(d, GET("/etc/passwd"));
    if (strstr(d->answer, "HTTP/1.1 404 ") == NULL)
        return;
    ask(d, "POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc");
    if (strstr(d->answer, "HTTP/1.1 405 ") == NULL || strstr(d->answer, "Allow: GET, HEAD") == NULL)
        return;
    ask(d, "\x01\x02 nonsense\r\n\r\n");
    ask(d, "HEAD /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
}

static void test_nothing_else_is_served(void **state)
{
    (void)state;
    struct door d = {0};
    with_door(&d, "127.0.0.1:0", ask_for_more);
    assert_non_null(strstr(d.answer, "HTTP/1.1 200 OK\r\n"));
    assert_string_equal(strstr(d.answer, "\r\n\r\n"), "\r\n\r\n"); /* HEAD: no body */
}

/* More connections than are taken, from two addresses, all of them silent; when they are gone the door is open again.
 */
static void crowd(struct door *d)
{
    int fds[2 * HTTP_CONNECTIONS_MAX];
    for (uint32_t i = 0; i < sizeof fds / sizeof fds[0]; i++)
        fds[i] = client_connect(d, 2 + i % 2);
    if (send(fds[0], "GET /metrics HTTP/1.1\r\nX: ", 26, MSG_NOSIGNAL) == 26)
        usleep(100000); /* for the loop to take as many as it will */
    for (size_t i = 0; i < sizeof fds / sizeof fds[0]; i++)
        if (fds[i] >= 0)
            close(fds[i]);
    ask(d, GET("/healthz"));
}

static void test_a_crowd_goes_by(void **state)
{
    (void)state;
    struct door d = {.ok = true};
    with_door(&d, "127.0.0.1:0", crowd);
    assert_non_null(strstr(d.answer, "HTTP/1.1 200 OK\r\n"));
}

/* As many as one address may have, none of which ever ends a request; then the same address asks. */
static void drip_and_ask(struct door *d)
{
    int fds[HTTP_PER_ADDRESS_MAX];
    for (size_t i = 0; i < HTTP_PER_ADDRESS_MAX; i++) {
        fds[i] = client_connect(d, 1);
        if (send(fds[i], "GET /he", 7, MSG_NOSIGNAL) != 7)
            return;
    }
    for (int i = 0; i < 3; i++)
        ask(d, GET("/healthz"));
    for (size_t i = 0; i < HTTP_PER_ADDRESS_MAX; i++)
        close(fds[i]);
}

static void test_who_holds_all_places_locks_nobody_out(void **state)
{
    (void)state;
    struct door d = {.ok = true};
    with_door(&d, "127.0.0.1:0", drip_and_ask);
    assert_non_null(strstr(d.answer, "HTTP/1.1 200 OK\r\n"));
}

enum { DRIPS_MAX = 30 * 1000 / (HTTP_TIMEOUT_S * 250) }; /* half a minute of them */

/* A byte now and then, always before the time-out. */
static void drip(struct door *d)
{
    char c;
    int fd = client_connect(d, 1);
    (void)send(fd, "GET /healthz HTTP/1.1\r\nX: ", 26, MSG_NOSIGNAL);
    for (int i = 0; i < DRIPS_MAX && d->answer[0] == '\0'; i++) {
        usleep(HTTP_TIMEOUT_S * 250000);
        if (send(fd, "x", 1, MSG_NOSIGNAL) != 1 || recv(fd, &c, 1, MSG_DONTWAIT) == 0)
            strcpy(d->answer, "cut");
    }
    close(fd);
}

static void test_dripping_comes_to_an_end(void **state)
{
    (void)state;
    struct door d = {.ok = true};
    with_door(&d, "127.0.0.1:0", drip);
    assert_string_equal(d.answer, "cut");
}

/* Every address of a name, as far as this machine has them. */
static void ask_each_address(struct door *d)
{
    struct net_addresses to;
    if (net_resolve("lo:0", NET_TO_BIND, &to, NULL) != 0)
        return;
    for (size_t i = 0; i < to.count; i++) {
        int fd = socket(to.at[i].socket.ss_family, SOCK_STREAM, 0);
        net_address_set_port(&to.at[i], d->port);
        if (connect(fd, (const struct sockaddr *)&to.at[i].socket, to.at[i].size) == 0)
            d->scrapes++;
        close(fd);
    }
    d->ok = d->scrapes == to.count;
    ask(d, GET("/healthz"));
}

static void test_all_addresses_of_a_name_are_listened_on(void **state)
{
    (void)state;
    static const char *const names[] = {"lo:0", "*:0"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        struct door d = {.ok = false};
        with_door(&d, names[i], ask_each_address);
        assert_non_null(strstr(d.answer, "HTTP/1.1 200 OK\r\n"));
    }
}

static void assert_refused(const char *address, int code)
{
    uv_loop_t loop;
    struct http_metrics *http;
    struct error e = {0};
    uv_loop_init(&loop);
    const struct http_metrics_options o = {.address = address, .metrics = metrics, .health = health};
    assert_int_equal(http_metrics_open(&loop, &o, &http, &e), code);
    assert_null(http);
    assert_non_null(strstr(e.text, address));
    assert_int_equal(uv_loop_close(&loop), 0);
    http_metrics_close(&http);
}

static void test_addresses_that_are_none(void **state)
{
    (void)state;
    assert_refused("9100", ERR_CONFIG);
    assert_refused(":9100", ERR_CONFIG);
    assert_refused("127.0.0.1:", ERR_CONFIG);
    assert_refused("127.0.0.1:port", ERR_CONFIG);
    assert_refused("192.0.2.1:0", ERR_IO); /* nobody's: TEST-NET */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_metrics_are_made_when_asked_for),
        cmocka_unit_test(test_health_has_a_status),
        cmocka_unit_test(test_nothing_else_is_served),
        cmocka_unit_test(test_a_crowd_goes_by),
        cmocka_unit_test(test_who_holds_all_places_locks_nobody_out),
        cmocka_unit_test(test_dripping_comes_to_an_end),
        cmocka_unit_test(test_all_addresses_of_a_name_are_listened_on),
        cmocka_unit_test(test_addresses_that_are_none),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
