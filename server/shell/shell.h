/* What both servers are around their core: one libuv loop with a request socket, a publication socket, a timer, the
 * signals, the door, the checkpoint writer, the HTTP port, and the incarnation that decides about the process's life.
 * Everything runs on the loop's thread; the thread pool only sees snapshots.
 *
 * Each server is a struct shell_service: what it does differently. The order of a turn is this:
 *
 *   bytes -> msg_decode -> door -> core -> incarnation_end_turn (rewind, send, checkpoint, end) -> after_turn -> close?
 */
#ifndef DECANT_SERVER_SHELL_SHELL_H
#define DECANT_SERVER_SHELL_SHELL_H

#include <stdbool.h>
#include <stdint.h>
#include <uv.h>
#include "common/http_metrics.h"
#include "common/net.h"
#include "proto/msg.h"
#include "proto/run_config.h"
#include "server/shell/checkpoint_writer.h"
#include "server/shell/door.h"
#include "server/shell/incarnation.h"
#include "server/shell/server_metrics.h"

struct shell;

/* One server. All calls are made with shell->arg, on the loop. Those marked so may be NULL. */
struct shell_service {
    enum server server;
    uint64_t timer_ms;
    int64_t request_bytes_max;      /* of a frame that a worker sends */
    int publish_hwm;                /* messages queued for a slow subscriber: it asks for what it missed */
    int64_t subscription_bytes_max; /* of what a subscriber sends */
    const struct incarnation_core *core;
    struct incarnation_patience patience;
    const struct checkpoint_kind *checkpoints;

    /* Opens what is the server's own, once the core is there. */
    int (*open)(void *arg, bool resume, struct error *e);
    int (*on_message)(void *arg, uint64_t now, const struct peer *from, struct msg *m, struct outbox *out);
    /* A message that was not let in, or is none; m carries what could be read. */
    int (*on_refused)(void *arg, const struct peer *from, const struct msg *m, enum reason why, const char *detail,
                      struct outbox *out);
    int (*on_timer)(void *arg, uint64_t now, struct outbox *out);
    void (*on_undelivered)(void *arg, const struct outbox_item *item);        /* or NULL */
    void (*after_turn)(void *arg, uint64_t now);                              /* for those who watch */
    void (*on_written)(void *arg, uint64_t step, const struct error *result); /* or NULL */
    void (*on_leaving)(void *arg, const char *reason);                        /* or NULL: close handles of your own */
    void (*figures)(const void *arg, struct server_figures *f);               /* fills in the core's counters */
    void (*write_metrics)(const void *arg, struct exposition *x);
};

struct shell {
    const struct shell_service *service;
    void *arg;
    const struct run_config *config;
    uv_loop_t loop;
    uv_timer_t timer;
    uv_signal_t terminate, interrupt;
    struct net *net; /* NULL before it is opened */
    struct door door;
    struct net_socket *requests, *publications; /* NULL when closed */
    struct outbox outbox;
    struct http_metrics *http; /* NULL when metrics.SERVER is empty */
    struct step_clock clock;
    struct checkpoint_writer writer;
    struct incarnation incarnation;
    uint64_t signal_ms; /* when the newest signal came */
    int lock;           /* of the run's directory; -1 before it is held */
    bool closing;       /* every handle of the shell is closed or closes */
};

/* The handles, so that a service can add its own to s->loop. 0 or ERR_IO. */
int shell_init(struct shell *s, const struct shell_service *service, void *arg, const struct run_config *config,
               struct error *e);
/* Starts and serves until step T, a signal or an error; returns when the loop has run out. core_arg: of
 * service->core; its outbox must be &s->outbox. 0 when it ended as it should, with everything on disk; ERR_* with *e
 * otherwise. */
int shell_run(struct shell *s, void *core_arg, bool resume, struct error *e);
/* After shell_run, and after the core has been freed. */
void shell_fini(struct shell *s);

/* Milliseconds of the clock that all of this runs by. */
uint64_t shell_now_ms(void);
/* The core's state may have moved on outside a message or timer: sends what is in the outbox. */
void shell_send(struct shell *s);

#endif
