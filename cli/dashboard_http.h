/* The HTTP server of `decant dashboard`: the page, and what it follows, pushed by server-sent events.
 *
 *   GET /            the page
 *   GET /events      a stream of events, one for each topic as often as it changes; at once the newest of each
 *   GET /data.json   the newest of all topics as one object, for scripts
 *   GET ...          whatever else `more` knows
 *
 * It runs on a thread of libmicrohttpd's own, so that a slow Redis does not hold it up; topics are set from another.
 * GET and HEAD only (405), hosts and origins that the gate lets through (421, 403), nothing else (404). Memory is
 * bounded: DASHBOARD_CONNECTIONS_MAX connections of DASHBOARD_CONNECTION_BYTES, of which DASHBOARD_STREAMS_MAX streams
 * (503), which share one copy of each topic and skip what they are too slow for. Who takes no byte for
 * DASHBOARD_TIMEOUT_S is cut off. */
#ifndef DECANT_CLI_DASHBOARD_HTTP_H
#define DECANT_CLI_DASHBOARD_HTTP_H

#include <jansson.h>
#include "cli/dashboard_gate.h"
#include "common/error.h"

enum {
    DASHBOARD_CONNECTIONS_MAX = 64,
    DASHBOARD_PER_ADDRESS_MAX = 48, /* as in common/http_metrics.h; of the loopback all come from one */
    DASHBOARD_STREAMS_MAX = 16,
    DASHBOARD_CONNECTION_BYTES = 16384,
    DASHBOARD_TIMEOUT_S = 15,
    DASHBOARD_TOPICS_MAX = 8,
    DASHBOARD_BEAT_TICKS = 5, /* every so many calls of dashboard_http_wake a stream without news gets a comment */
};

/* An answer to a path that is none of these. */
struct dashboard_answer {
    unsigned status;  /* of HTTP; 0: the path is unknown */
    const char *type; /* of its content */
    char *body;       /* malloc'd, taken over */
    size_t size;
};

struct dashboard_http_options {
    const char *address;       /* "HOST:PORT", "[V6]:PORT"; port 0 lets the system choose */
    const char *const *topics; /* names of events; DASHBOARD_TOPICS_MAX at most */
    size_t topic_count;
    struct dashboard_gate gate;
    /* NULL, or asked on the server's thread, after the gate: so it must not take long. */
    void (*more)(void *arg, const char *path, struct dashboard_answer *out);
    void *more_arg;
};

struct dashboard_http;

/* What o points to must stay. ERR_CONFIG for an address that is none, ERR_IO when it cannot be listened on. */
int dashboard_http_open(const struct dashboard_http_options *o, struct dashboard_http **out, struct error *e);
unsigned dashboard_http_port(const struct dashboard_http *h);
/* Consumes object; NULL means that building it failed. 0 or ERR_MEMORY, then the topic keeps what it had. */
int dashboard_http_set(struct dashboard_http *h, size_t topic, json_t *object);
/* Sends on what was set. To be called about once a second. */
void dashboard_http_wake(struct dashboard_http *h);
void dashboard_http_close(struct dashboard_http **closing); /* NULL-safe */

#endif
