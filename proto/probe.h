/* One question to a server and its answer, for health checks and diagnosis: blocks until the answer or a deadline, on a
 * loop and a context of its own, and changes nothing at the server.
 *
 *   struct probe_answer a;
 *   if (probe_ask("tcp://127.0.0.1:5701", NULL, MSG_PING, 3000, &a, &e) == 0)
 *       puts(probe_line(&a, line));     // "ok run=mine generation=3 step=120"
 *
 * A server that is down cannot be told from one that is not reachable: both stay silent. Giving up takes up to a second
 * more than the deadline, because ZeroMQ keeps trying to deliver the question while it lingers. */
#ifndef DECANT_PROTO_PROBE_H
#define DECANT_PROTO_PROBE_H

#include <stddef.h>
#include <stdint.h>
#include "common/error.h"
#include "common/net.h"
#include "proto/msg.h"

enum { PROBE_TIMEOUT_MS = 3000 /* the default of health checks */, PROBE_LINE_MAX = 160, PROBE_ENDPOINT_MAX = 256 };

struct probe_answer {
    char run[MSG_RUN_MAX];
    uint64_t generation, step, config;
    enum server server;   /* which server it is: only the answer to HELLO tells, otherwise SERVER_UNKNOWN */
    uint64_t total_steps; /* likewise; 0 while the server does not know */
    double seconds;       /* until the answer */
};

/* keys: from proto/keys.h; NULL for none. question: MSG_PING, or MSG_HELLO to learn more. endpoint as a client or
 * the server itself writes it: what is bound on all addresses ("tcp://0.0.0.0:5701", "tcp://" "*:5701") is asked on the
 * loopback, what is bound on an interface on its first address. ERR_NOT_FOUND when nobody answers in time, ERR_CLOSED
 * when the handshake fails, with a hint; ERR_FORMAT when the answer is a refusal or not in our format, ERR_IO for an
 * endpoint that cannot be connected to. */
int probe_ask(const char *endpoint, const struct net_curve *keys, enum msg_type question, uint64_t timeout_ms,
              struct probe_answer *out, struct error *e);
/* The endpoint that probe_ask connects to. ERR_RANGE when it is too long. */
int probe_endpoint(const char *endpoint, char out[PROBE_ENDPOINT_MAX]);
/* "ok run=NAME generation=N step=N", and " server=KIND" when that is known. Returns out. */
const char *probe_line(const struct probe_answer *a, char out[PROBE_LINE_MAX]);

#endif
