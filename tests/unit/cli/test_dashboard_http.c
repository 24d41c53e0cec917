/* Whom the dashboard's server answers, and with what: raw requests over a socket. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>
#include "cli/dashboard_http.h"
#include "cli/dashboard_page.h"

static const char *const topics[] = {"state-a", "shape-a"};

static void test_hosts(void **state)
{
    const struct dashboard_gate here = {.loopback = true, .names = {"gpu.lab"}, .name_count = 1},
                                open = {.loopback = false};
    static const char *const good[] = {"localhost",   "LOCALHOST:8420", "127.0.0.1:1", "127.8.9.1",
                                       "[::1]:65535", "[::1]",          "gpu.lab",     "GPU.lab:80"};
    static const char *const bad[] = {"",
                                      "evil.example",
                                      "evil.example:8420",
                                      "localhost.evil.example",
                                      "127.0.0.1.evil.example",
                                      "10.0.0.1",
                                      "[::2]",
                                      "[::1",
                                      "[::1]x",
                                      "localhost:",
                                      "localhost:80x",
                                      "localhost:80:80",
                                      "2130706433",
                                      "0x7f.1",
                                      "127.1",
                                      ":8420",
                                      "gpu.lab.evil",
                                      "localhost\r\n"};
    (void)state;
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++)
        if (!dashboard_gate_host(&here, good[i]))
            fail_msg("refused '%s'", good[i]);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        if (dashboard_gate_host(&here, bad[i]))
            fail_msg("let '%s' in", bad[i]);
    assert_false(dashboard_gate_host(&here, NULL));
    assert_true(dashboard_gate_host(&open, "10.0.0.1:8420") && dashboard_gate_host(&open, "[fd00::2]:1"));
    assert_false(dashboard_gate_host(&open, "evil.example") || dashboard_gate_host(&open, "gpu.lab"));
}

static void test_origins(void **state)
{
    (void)state;
    assert_true(dashboard_gate_origin(NULL, "localhost:8420"));
    assert_true(dashboard_gate_origin("http://localhost:8420", "localhost:8420"));
    assert_false(dashboard_gate_origin("http://localhost:8421", "localhost:8420"));
    assert_false(dashboard_gate_origin("https://localhost:8420", "localhost:8420"));
    assert_false(dashboard_gate_origin("null", "localhost:8420"));
    assert_false(dashboard_gate_origin("", "localhost"));
    assert_false(dashboard_gate_origin("http://evil.example", "localhost:8420"));
    assert_true(dashboard_gate_loopback("127.0.0.1:8420") && dashboard_gate_loopback("[::1]:0"));
    assert_false(dashboard_gate_loopback("0.0.0.0:8420") || dashboard_gate_loopback("gpu.lab:8420"));
}

/* ---- the server ---- */

static int setup(void **state)
{
    const struct dashboard_http_options o = {
        .address = "127.0.0.1:0", .topics = topics, .topic_count = 2, .gate = {.loopback = true}};
    struct dashboard_http *h = NULL;
    int rc = dashboard_http_open(&o, &h, NULL);
    *state = h;
    return rc;
}

static int teardown(void **state)
{
    struct dashboard_http *h = *state;
    dashboard_http_close(&h);
    return 0;
}

static int connect_to(const struct dashboard_http *h)
{
    const struct sockaddr_in to = {.sin_family = AF_INET,
                                   .sin_port = htons((uint16_t)dashboard_http_port(h)),
                                   .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    const struct timeval patience = {.tv_sec = 30};
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    assert_true(fd >= 0 && setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience) == 0);
    assert_int_equal(connect(fd, (const struct sockaddr *)&to, sizeof to), 0);
    return fd;
}

/* Reads until the text has come, the answer ends, or patience is lost. */
static bool read_until(int fd, char *out, size_t room, const char *text)
{
    size_t used = 0;
    out[0] = '\0';
    while (used + 1 < room && strstr(out, text) == NULL) {
        ssize_t n = recv(fd, out + used, room - 1 - used, 0);
        if (n <= 0)
            return false;
        used += (size_t)n;
        out[used] = '\0';
    }
    return strstr(out, text) != NULL;
}

/* The status of a request; its head and body are in out. */
static int ask(const struct dashboard_http *h, const char *line, const char *headers, char *out, size_t room)
{
    char request[512];
    int fd = connect_to(h);
    int n = snprintf(request, sizeof request, "%s HTTP/1.1\r\nConnection: close\r\n%s\r\n", line, headers);
    assert_int_equal(send(fd, request, (size_t)n, MSG_NOSIGNAL), n);
    read_until(fd, out, room, "never in it \001");
    close(fd);
    return strncmp(out, "HTTP/1.1 ", 9) == 0 ? atoi(out + 9) : -1;
}

#define HOST "Host: 127.0.0.1:8420\r\n"

static void test_statuses(void **state)
{
    char out[65536];
    assert_int_equal(ask(*state, "GET /", HOST, out, sizeof out), 200);
    assert_int_equal(ask(*state, "HEAD /", HOST, out, sizeof out), 200);
    assert_null(strstr(out, "<html"));
    assert_int_equal(ask(*state, "GET /", "Host: evil.example\r\n", out, sizeof out), 421);
    assert_null(strstr(out, "<html"));
    assert_int_equal(ask(*state, "GET /", HOST "Origin: http://evil.example\r\n", out, sizeof out), 403);
    assert_int_equal(ask(*state, "GET /", HOST "Origin: http://127.0.0.1:8420\r\n", out, sizeof out), 200);
    assert_int_equal(ask(*state, "POST /", HOST "Content-Length: 0\r\n", out, sizeof out), 405);
    assert_non_null(strstr(out, "Allow: GET, HEAD"));
    assert_int_equal(ask(*state, "DELETE /data.json", HOST, out, sizeof out), 405);
    assert_int_equal(ask(*state, "OPTIONS /", HOST, out, sizeof out), 405);
}

static void test_paths(void **state)
{
    static const char *const paths[] = {"GET /../../etc/passwd", "GET /%2e%2e/%2e%2e/etc/passwd",
                                        "GET //etc/passwd",      "GET /index.html",
                                        "GET /events/x",         "GET /config.ini"};
    char out[4096];
    for (size_t i = 0; i < sizeof paths / sizeof paths[0]; i++) {
        assert_int_equal(ask(*state, paths[i], HOST, out, sizeof out), 404);
        assert_null(strstr(out, "root:"));
    }
}

static void test_page_has_its_policy(void **state)
{
    char one[65536], two[65536], nonce[33];
    assert_int_equal(ask(*state, "GET /", HOST, one, sizeof one), 200);
    const char *policy = strstr(one, "script-src 'nonce-");
    assert_non_null(strstr(one, "Content-Security-Policy: default-src 'none'"));
    assert_non_null(strstr(one, "X-Content-Type-Options: nosniff"));
    assert_non_null(policy);
    snprintf(nonce, sizeof nonce, "%.32s", policy + strlen("script-src 'nonce-"));
    char tag[64];
    snprintf(tag, sizeof tag, "<script nonce=\"%s\">", nonce);
    assert_non_null(strstr(one, tag));
    assert_null(strstr(one, "@NONCE@"));
    assert_int_equal(ask(*state, "GET /", HOST, two, sizeof two), 200);
    assert_null(strstr(two, tag)); /* another one each time */
}

/* The page asks nobody else, and writes no markup. */
static void test_page_is_self_contained(void **state)
{
    static const char *const never[] = {
        "innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "src=", "@import", "url("};
    size_t size;
    char *page = dashboard_page("n", &size);
    (void)state;
    assert_non_null(page);
    assert_int_equal(strlen(page), size);
    for (size_t i = 0; i < sizeof never / sizeof never[0]; i++)
        assert_null(strstr(page, never[i]));
    for (const char *at = page; (at = strstr(at, "http://")) != NULL; at++) /* names of namespaces only */
        assert_int_equal(strncmp(at, "http://www.w3.org/", 18), 0);
    assert_null(strstr(page, "https://"));
    free(page);
}

static void test_data(void **state)
{
    char out[4096];
    assert_int_equal(ask(*state, "GET /data.json", HOST, out, sizeof out), 200);
    assert_non_null(strstr(out, "\r\n\r\n{}\n"));
    assert_int_equal(dashboard_http_set(*state, 1, json_pack("{s:s}", "x", "</script>")), 0);
    assert_int_equal(dashboard_http_set(*state, 0, NULL), ERR_MEMORY);
    assert_int_equal(ask(*state, "GET /data.json", HOST, out, sizeof out), 200);
    assert_non_null(strstr(out, "\r\n\r\n{\"shape-a\":{\"x\":\"</script>\"}}\n"));
}

static int open_stream(const struct dashboard_http *h)
{
    static const char request[] = "GET /events HTTP/1.1\r\n" HOST "\r\n";
    int fd = connect_to(h);
    assert_int_equal(send(fd, request, sizeof request - 1, MSG_NOSIGNAL), sizeof request - 1);
    return fd;
}

static void test_stream(void **state)
{
    char out[4096];
    assert_int_equal(dashboard_http_set(*state, 0, json_pack("{s:i}", "step", 1)), 0);
    int fd = open_stream(*state);
    assert_true(read_until(fd, out, sizeof out, "event: state-a\ndata: {\"step\":1}\n\n"));
    assert_non_null(strstr(out, "text/event-stream"));
    assert_int_equal(dashboard_http_set(*state, 0, json_pack("{s:i}", "step", 2)), 0);
    assert_int_equal(dashboard_http_set(*state, 0, json_pack("{s:i}", "step", 3)), 0);
    dashboard_http_wake(*state);
    assert_true(read_until(fd, out, sizeof out, "{\"step\":3}\n\n"));
    for (int i = 0; i < 20 * DASHBOARD_BEAT_TICKS; i++) { /* it waits again between two */
        dashboard_http_wake(*state);
        usleep(2000);
    }
    assert_true(read_until(fd, out, sizeof out, ": still here\n\n"));
    close(fd);
}

/* A topic larger than what the socket takes at once reaches a slow reader whole. */
static void test_large_topic(void **state)
{
    enum { SIZE = 2 << 20 };
    char *text = malloc(SIZE + 1), *out = malloc(2 * SIZE);
    assert_true(text && out);
    memset(text, 'y', SIZE);
    text[SIZE] = '\0';
    assert_int_equal(dashboard_http_set(*state, 0, json_pack("{s:s}", "y", text)), 0);
    int fd = open_stream(*state);
    usleep(100000); /* the sender is held up */
    assert_true(read_until(fd, out, 2 * SIZE, "y\"}"));
    size_t count = 0;
    for (const char *p = strstr(out, "{\"y\":\""); *p; p++)
        count += *p == 'y';
    assert_true(count >= SIZE + 1);
    close(fd);
    free(text);
    free(out);
}

static void test_streams_are_bounded(void **state)
{
    int fds[DASHBOARD_STREAMS_MAX];
    char out[4096];
    for (int i = 0; i < DASHBOARD_STREAMS_MAX; i++) {
        fds[i] = open_stream(*state);
        assert_true(read_until(fds[i], out, sizeof out, "retry: "));
    }
    assert_int_equal(ask(*state, "GET /events", HOST, out, sizeof out), 503);
    assert_int_equal(ask(*state, "GET /", HOST, out, sizeof out), 200);
    for (int i = 0; i < DASHBOARD_STREAMS_MAX; i++)
        close(fds[i]);
    for (int tries = 0; tries < 3000; tries++) { /* who has gone is found out, and makes room */
        dashboard_http_wake(*state);
        int fd = open_stream(*state);
        bool let_in = read_until(fd, out, sizeof out, "\r\n\r\n") && strstr(out, " 200 ") != NULL;
        close(fd);
        if (let_in)
            return;
        usleep(10000);
    }
    fail_msg("no room again");
}

/* Closing ends streams that wait for news. */
static void test_close_with_a_stream(void **state)
{
    struct dashboard_http *h = *state;
    char out[4096];
    int fd = open_stream(h);
    assert_true(read_until(fd, out, sizeof out, "retry: "));
    dashboard_http_close(&h);
    *state = NULL;
    while (recv(fd, out, sizeof out, 0) > 0)
        ;
    close(fd);
    assert_null(h);
}

static void test_addresses(void **state)
{
    static const char *const bad[] = {"", "8420", ":8420", "127.0.0.1:", "127.0.0.1:http", "no.such.host.invalid:1"};
    struct dashboard_http *h;
    struct error e;
    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        const struct dashboard_http_options o = {.address = bad[i], .topics = topics, .topic_count = 2};
        assert_int_equal(dashboard_http_open(&o, &h, &e), ERR_CONFIG);
        assert_null(h);
    }
    const struct dashboard_http_options elsewhere = {.address = "192.0.2.1:1", .topics = topics, .topic_count = 2};
    assert_int_equal(dashboard_http_open(&elsewhere, &h, &e), ERR_IO);
    assert_non_null(strstr(e.text, "--listen"));
}

#define SERVER_TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_hosts),
        cmocka_unit_test(test_origins),
        cmocka_unit_test(test_page_is_self_contained),
        cmocka_unit_test(test_addresses),
        SERVER_TEST(test_statuses),
        SERVER_TEST(test_paths),
        SERVER_TEST(test_page_has_its_policy),
        SERVER_TEST(test_data),
        SERVER_TEST(test_stream),
        SERVER_TEST(test_large_topic),
        SERVER_TEST(test_streams_are_bounded),
        SERVER_TEST(test_close_with_a_stream),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
