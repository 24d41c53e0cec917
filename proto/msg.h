/* Messages and their wire form: the only place that knows it. See docs/PROTOCOL.md for the format byte for byte.
 *
 * A message is one MessagePack map (the header frame, at most MSG_HEADER_MAX bytes) followed by one raw little-endian
 * frame for each entry of its "tensors". In memory it is a `struct msg`; cores read and write only this struct.
 *
 *   struct msg m;
 *   msg_init(&m, MSG_ACK, run);  m.step = 7;  m.slot = 2;  m.code = ACK_APPLIED;
 *   outbox_to_peer(out, peer, &m);                       // takes m over
 */
#ifndef DECANT_PROTO_MSG_H
#define DECANT_PROTO_MSG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "common/buf.h"
#include "common/error.h"
#include "common/safetensors.h"
#include "proto/server.h"

enum {
    PROTO_VERSION = 1,
    MSG_HEADER_MAX = 4096, /* bytes: ten times the largest header we send */
    MSG_TENSORS_MAX = 8,
    MSG_SCALARS_MAX = 24,
    MSG_TEXT_MAX = 256,
    MSG_RUN_MAX = 64,
    PEER_ID_MAX = 32,                       /* routing ids we accept; ZeroMQ's own are 5 bytes */
    PING_EVERY_MS = 1000,                   /* a worker's heartbeat */
    WORKER_SILENCE_MS = 10 * PING_EVERY_MS, /* ten missed: the servers forget the worker */
};

/* Which door accepts what: P = parameter server, M = prototype (mixture) server, w = worker, s = any subscriber. */
enum msg_type {
    MSG_HELLO = 1,     /* w->P,M  worker, config, text=host:pid                       -> WELCOME | ERROR */
    MSG_WELCOME,       /* P,M->w  generation, step, config, text = version; P: code = 1 when it wants INIT; M in stream
                        * mode: worker = a fresh name */
    MSG_INIT,          /* w->P    manifest (U8 JSON), params F32 (P), buffers F32 (Q) -> ACK | ERROR */
    MSG_LEASE_REQUEST, /* w->P    worker, want = slots wanted at most                 -> LEASE (maybe later) | STOP */
    MSG_LEASE,         /* P->w    step, slot, slots, scalars: timeout_ms */
    MSG_GRADIENT,      /* w->P    step, slot, slots, want; grad F32 (P), buffers F32 (Q), metrics F64 (n) -> ACK */
    MSG_STATS,         /* w->M    step, slot, slots, encoding + its tensors, see proto/stats.h           -> ACK */
    MSG_ACK,           /* P,M->w  of INIT, GRADIENT, STATS: step, slot, slots, code = enum ack_code */
    MSG_ERROR,         /* P,M->*  refused: code = enum reason, text; step/slot of the refused message when known */
    MSG_WEIGHTS_GET,   /* w->P    -> WEIGHTS of the current step */
    MSG_WEIGHTS,       /* P->w,s  step; student F32 (P), buffers F32 (Q), teacher F32 (P) or scalars ema, check */
    MSG_MIXTURE_GET,   /* any->M  step = version wanted, or seq = 1 for the newest    -> MIXTURE full | ERROR */
    MSG_MIXTURE,       /* M->w,s  see proto/mixture_wire.h */
    MSG_PING,          /* any->P,M -> PONG ; a worker's heartbeat: worker, step, scalars of its rates */
    MSG_PONG,          /* P,M->w  step, generation */
    MSG_METRICS,       /* P,M->s  step, scalars */
    MSG_STOP,          /* P->w,s  step; code = enum stop_code */
    MSG_REWIND,        /* w->P,M  generation = the addressee's; step = where the other server stands; M: code = enum
                        * rewind_code                                               -> ACK | ERROR */
    MSG_TYPE_END
};

enum ack_code {
    ACK_APPLIED = 0,
    ACK_DUPLICATE = 1,
    ACK_STALE = 2,  /* its step is over: nothing was needed */
    ACK_DURABLE = 3 /* stream mode: the sender's contributions up to seq are in a checkpoint */
};
enum stop_code { STOP_FINISHED = 0, STOP_DRAINED = 1 };

/* Why the prototype server should go back: the pair is apart, or the version of `step` is wanted, M is one ahead of it
 * and seems not to hold it. */
enum rewind_code { REWIND_APART = 0, REWIND_UNHELD = 1 };

/* Why a message was refused; the number is on the wire, the name (reason_name) in logs, metrics and docs. */
enum reason {
    REASON_BAD_HEADER = 1,
    REASON_BAD_VERSION,
    REASON_BAD_TYPE,
    REASON_WRONG_DOOR,
    REASON_WRONG_RUN,
    REASON_WRONG_CONFIG,
    REASON_WRONG_SHARD,
    REASON_WRONG_GENERATION,
    REASON_BAD_FIELD,
    REASON_BAD_SHAPE,
    REASON_BAD_DTYPE,
    REASON_BAD_ENCODING,
    REASON_BAD_VALUE,
    REASON_NON_FINITE,
    REASON_OUT_OF_RANGE,
    REASON_TOO_LARGE,
    REASON_FUTURE_STEP,
    REASON_NOT_READY,
    REASON_UNKNOWN_VERSION,
    REASON_OVERLAP,
    REASON_STOPPING,
    REASON_FORBIDDEN, /* the sender's key may not do this, or is not listed any more */
    REASON_EXPIRED,   /* stream mode: such a client was forgotten, and what it sends may have been applied */
    REASON_END
};
const char *reason_name(enum reason r); /* "wrong_door" ...; "unknown" outside the list */
/* Whether a healthy run may see this refusal, because it depends on who was quicker: the server is not ready yet or is
 * stopping, the version is not there yet, or a part of the sum has arrived from a worker that was given its slots when
 * the lease had run out. Nothing is lost by it, and the sender goes on. */
bool reason_is_passing(enum reason r);
const char *msg_type_name(enum msg_type t); /* "gradient" ... */

struct msg_tensor {
    char name[24];
    enum dtype dtype;
    uint32_t rank;
    uint64_t shape[TENSOR_RANK_MAX];
    struct buf *data; /* size == product(shape) * dtype_size; aligned for dtype after decoding */
};

struct msg_scalar {
    char name[24];
    double value;
};

struct msg {
    enum msg_type type;
    uint32_t shard; /* which shard of the mixture or the parameters; 0 today */
    char run[MSG_RUN_MAX];
    uint64_t config;      /* run_config_hash of the sender */
    uint64_t generation;  /* of the server that sent it, or that the sender believes in; 0 = unknown */
    uint64_t worker;      /* random id of the worker, 0 = not a worker; stream mode: name of the client */
    uint64_t step;        /* or mixture version */
    uint32_t slot, slots; /* contributions: the subtree [slot, slot+slots) */
    uint64_t seq;
    uint32_t code;
    uint32_t want;
    uint32_t encoding; /* enum stats_encoding, enum mixture_encoding */
    char text[MSG_TEXT_MAX];
    struct msg_scalar scalars[MSG_SCALARS_MAX];
    uint32_t scalar_count;
    struct msg_tensor tensors[MSG_TENSORS_MAX];
    uint32_t tensor_count;
};

void msg_init(struct msg *m, enum msg_type type, const char *run); /* all zero otherwise */
void msg_fini(struct msg *m);                                      /* drops the tensors */
/* Adds a tensor; takes over `data` (also on failure). 0, ERR_RANGE (too many, size mismatch). */
int msg_add_tensor(struct msg *m, const char *name, enum dtype dtype, uint32_t rank, const uint64_t *shape,
                   struct buf *data);
int msg_add_scalar(struct msg *m, const char *name, double value);
/* The tensor of that name and dtype, else NULL and *why = REASON_BAD_FIELD (absent) / REASON_BAD_DTYPE. */
const struct msg_tensor *msg_tensor(const struct msg *m, const char *name, enum dtype dtype, enum reason *why);
/* Same with a given shape (REASON_BAD_SHAPE), for F32/F64 also all finite (REASON_NON_FINITE). */
const struct msg_tensor *msg_tensor_checked(const struct msg *m, const char *name, enum dtype dtype, uint32_t rank,
                                            const uint64_t *shape, enum reason *why);
double msg_scalar(const struct msg *m, const char *name, double otherwise);

/* Header + tensor frames. frames: room for 1 + MSG_TENSORS_MAX; new references. 0 or ERR_*. */
int msg_encode(const struct msg *m, struct buf **frames, size_t *n);
/* Checks lengths, depth, types, names, shapes, frame sizes; unknown header keys are skipped (so that versions can
 * grow). 0, or ERR_FORMAT with *why and *e; *out is then empty but carries type/step/slot if they could be read. */
int msg_decode(struct buf *const *frames, size_t n, struct msg *out, enum reason *why, struct error *e);

/* ---- what cores append outgoing messages to ---- */
struct peer { /* a routing id */
    uint8_t size;
    uint8_t id[PEER_ID_MAX];
    uint64_t owner; /* a hash of the sender's public key; 0 without keys. Not part of the address */
};
bool peer_equal(const struct peer *a, const struct peer *b);

enum out_kind { OUT_PEER, OUT_PUBLISH, OUT_SERVER };
struct outbox_item {
    enum out_kind kind;
    struct peer peer;   /* of OUT_PEER */
    enum server server; /* of OUT_SERVER */
    char topic[16];     /* of OUT_PUBLISH: "weights", "mixture", "metrics", "stop" */
    struct msg msg;
};
struct outbox {
    struct outbox_item *items;
    size_t count, room;
};
void outbox_fini(struct outbox *o);
/* All take the message over (moved, not copied) and fail with ERR_MEMORY only. */
int outbox_to_peer(struct outbox *o, const struct peer *p, struct msg *m);
int outbox_publish(struct outbox *o, const char *topic, struct msg *m);
int outbox_to_server(struct outbox *o, enum server to, struct msg *m);
void outbox_clear(struct outbox *o); /* drops items, keeps room */

#endif
