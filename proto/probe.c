/* A DEALER, a deadline, and a loop that ends with the first answer. */
#include "proto/probe.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <uv.h>
#include "common/net.h"
#include "common/net_address.h"
#include "proto/keys.h"

struct probe {
    uv_loop_t loop;
    uv_timer_t deadline;
    struct net_socket *socket;
    enum msg_type wanted; /* PONG or WELCOME */
    bool answered;
    struct error failure; /* of the answer; code 0 when it is the one wanted */
    bool with_keys;
    const char *hint; /* after a failed handshake; NULL before */
    struct probe_answer *answer;
};

const char *probe_line(const struct probe_answer *a, char out[PROBE_LINE_MAX])
{
    bool known = a->server != SERVER_UNKNOWN;
    snprintf(out, PROBE_LINE_MAX, "ok run=%s generation=%" PRIu64 " step=%" PRIu64 "%s%s", a->run, a->generation,
             a->step, known ? " server=" : "", known ? server_name(a->server) : "");
    return out;
}

int probe_endpoint(const char *endpoint, char out[PROBE_ENDPOINT_MAX])
{
    static const char *const everywhere[] = {"tcp://*:", "tcp://0.0.0.0:", "tcp://[::]:"};
    const char *port = NULL;
    char text[NET_ADDRESS_TEXT];
    struct net_addresses found;
    int length;
    for (size_t i = 0; i < sizeof everywhere / sizeof everywhere[0]; i++)
        if (strncmp(endpoint, everywhere[i], strlen(everywhere[i])) == 0)
            port = endpoint + strlen(everywhere[i]);
    if (port)
        length = snprintf(out, PROBE_ENDPOINT_MAX, "tcp://127.0.0.1:%s", port);
    else if (strncmp(endpoint, "tcp://", 6) == 0 && net_address_is_interface(endpoint + 6) &&
             net_resolve(endpoint + 6, NET_TO_BIND, &found, NULL) == 0)
        length = snprintf(out, PROBE_ENDPOINT_MAX, "tcp://%s", net_address_text(&found.at[0], text));
    else
        length = snprintf(out, PROBE_ENDPOINT_MAX, "%s", endpoint);
    return length < PROBE_ENDPOINT_MAX ? 0 : ERR_RANGE;
}

/* ---- the answer ---- */

/* Only the prototype server's WELCOME has the scalar `components`. */
static void take_welcome(const struct msg *m, struct probe_answer *out)
{
    double total = msg_scalar(m, "total_steps", 0);
    out->server = isnan(msg_scalar(m, "components", NAN)) ? SERVER_PARAMETER : SERVER_PROTOTYPE;
    out->total_steps = total > 0 && total < 9e15 ? (uint64_t)total : 0;
}

static void take_answer(struct probe *p, const struct msg *m)
{
    struct probe_answer *a = p->answer;
    if (m->type == MSG_ERROR) {
        error_set(&p->failure, ERR_FORMAT, "it refused: %s (%.200s)", reason_name((enum reason)m->code), m->text);
        return;
    }
    snprintf(a->run, sizeof a->run, "%s", m->run);
    a->generation = m->generation;
    a->step = m->step;
    a->config = m->config;
    if (m->type == MSG_WELCOME)
        take_welcome(m, a);
}

static void on_message(void *arg, struct buf **frames, size_t n)
{
    struct probe *p = arg;
    struct msg m;
    enum reason why;
    struct error e = {0};
    if (p->answered)
        return;
    int rc = msg_decode(frames, n, &m, &why, &e);
    if (rc == 0 && m.type != p->wanted && m.type != MSG_ERROR) {
        msg_fini(&m);
        return; /* a lease or a stop may come between */
    }
    p->answered = true;
    if (rc == 0) {
        take_answer(p, &m);
        msg_fini(&m);
    } else {
        error_set(&p->failure, ERR_FORMAT, "its answer is not of our protocol: %.300s", e.text);
    }
    uv_stop(&p->loop);
}

static void on_event(void *arg, const struct net_event *event)
{
    struct probe *p = arg;
    if (event->kind == NET_HANDSHAKE_DONE || event->kind == NET_DISCONNECTED)
        return;
    p->hint = keys_hint(event, p->with_keys);
    if (keys_hopeless(event))
        uv_stop(&p->loop);
}

static void on_deadline(uv_timer_t *timer)
{
    uv_stop(timer->loop);
}

/* ---- the question ---- */

static int send_question(struct probe *p, enum msg_type question)
{
    struct buf *frames[1 + MSG_TENSORS_MAX];
    struct msg m;
    size_t n = 0;
    msg_init(&m, question, "");
    int rc = msg_encode(&m, frames, &n);
    if (rc == 0)
        rc = net_send(p->socket, frames, n);
    for (size_t i = 0; i < n; i++)
        buf_unref(&frames[i]);
    msg_fini(&m);
    return rc;
}

static int wait_for_answer(struct probe *p, const char *endpoint, uint64_t timeout_ms, struct error *e)
{
    uint64_t started = uv_hrtime();
    uv_timer_start(&p->deadline, on_deadline, timeout_ms, 0);
    uv_run(&p->loop, UV_RUN_DEFAULT);
    p->answer->seconds = (double)(uv_hrtime() - started) * 1e-9;
    if (!p->answered && p->hint)
        return error_set(e, ERR_CLOSED, "%.150s: %s", endpoint, p->hint);
    if (!p->answered)
        return error_set(e, ERR_NOT_FOUND, "%s: no answer within %.3g s; is the server up, and is this its address?",
                         endpoint, (double)timeout_ms / 1000);
    if (p->failure.code != 0)
        return error_set(e, p->failure.code, "%.150s: %.300s", endpoint, p->failure.text);
    return 0;
}

static int ask(struct probe *p, struct net *net, const char *endpoint, const struct net_curve *keys,
               enum msg_type question, uint64_t timeout_ms, struct error *e)
{
    const struct net_options options = {.role = NET_DEALER,
                                        .endpoint = endpoint,
                                        .message_bytes_max = MSG_HEADER_MAX,
                                        .curve = keys,
                                        .on_event = on_event,
                                        .event_arg = p};
    p->with_keys = keys && keys->secret_key[0] != '\0';
    int rc = net_open(net, &p->loop, &options, on_message, p, &p->socket, e);
    if (rc == 0 && (rc = send_question(p, question)) != 0)
        error_set(e, rc, "%s: the question could not be sent", endpoint);
    return rc == 0 ? wait_for_answer(p, endpoint, timeout_ms, e) : rc;
}

int probe_ask(const char *endpoint, const struct net_curve *keys, enum msg_type question, uint64_t timeout_ms,
              struct probe_answer *out, struct error *e)
{
    ASSERT(question == MSG_PING || question == MSG_HELLO);
    struct probe p = {.wanted = question == MSG_PING ? MSG_PONG : MSG_WELCOME, .answer = out};
    char address[PROBE_ENDPOINT_MAX];
    struct net *net;
    *out = (struct probe_answer){.server = SERVER_UNKNOWN};
    if (probe_endpoint(endpoint, address) != 0)
        return error_set(e, ERR_RANGE, "%.80s...: the endpoint is too long", endpoint);
    int rc = uv_loop_init(&p.loop);
    if (rc != 0)
        return error_set(e, ERR_IO, "no event loop: %s", uv_strerror(rc));
    uv_timer_init(&p.loop, &p.deadline);
    rc = net_new(&net, e);
    if (rc == 0)
        rc = ask(&p, net, address, keys, question, timeout_ms, e);
    net_close(&p.socket);
    uv_close((uv_handle_t *)&p.deadline, NULL);
    uv_run(&p.loop, UV_RUN_DEFAULT);
    uv_loop_close(&p.loop);
    net_free(&net);
    return rc;
}
