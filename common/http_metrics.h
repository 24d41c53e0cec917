/* A small HTTP server for people who watch: /metrics in the Prometheus text format and /healthz, one line of JSON
 * with 200 or 503. It runs on the owner's libuv loop: libmicrohttpd has no thread of its own, its epoll descriptor
 * wakes the loop, and pages are made in the turn that asks for them, so that they may read whatever the loop owns.
 *
 * GET and HEAD only (405), no other path (404). At most HTTP_CONNECTIONS_MAX connections, of which
 * HTTP_PER_ADDRESS_MAX from one address: one more ends the oldest of them, so that whoever asks and reads is served
 * while others hold what they can. Each ends after HTTP_TIMEOUT_S without a byte and after HTTP_DEADLINE_S in any case,
 * and has HTTP_CONNECTION_BYTES of memory. There is no authentication: bind it to an address that only your monitoring
 * reaches. */
#ifndef DECANT_COMMON_HTTP_METRICS_H
#define DECANT_COMMON_HTTP_METRICS_H

#include <jansson.h>
#include <stdbool.h>
#include <uv.h>
#include "common/error.h"
#include "common/exposition.h"

enum {
    HTTP_CONNECTIONS_MAX = 64,
    HTTP_PER_ADDRESS_MAX =
        48, /* leaves room for others: a scraper still gets in while one machine holds as many as it may */
    HTTP_TIMEOUT_S = 3,
    HTTP_DEADLINE_S = 10,        /* of a connection, whatever it does: scrapers connect anew */
    HTTP_CONNECTION_BYTES = 8192 /* request line and headers of any scraper fit many times */
};

struct http_metrics_options {
    const char *address; /* of common/net_address.h, "HOST:PORT"; a name: all its addresses */
    void (*metrics)(void *arg, struct exposition *x);
    /* The object for /healthz, a new reference, or NULL when memory ran out; *ok: 200, else 503. */
    json_t *(*health)(void *arg, bool *ok);
    void *arg;
};

struct http_metrics;

/* ERR_CONFIG for a malformed address, ERR_IO when it cannot be listened on. */
int http_metrics_open(uv_loop_t *loop, const struct http_metrics_options *o, struct http_metrics **out,
                      struct error *e);
unsigned http_metrics_port(const struct http_metrics *h);
void http_metrics_close(struct http_metrics **h); /* NULL-safe; memory is released on the loop */

#endif
