/* Buffers to and from ZeroMQ's messages, the large ones without a copy; what it holds of these is counted. */
#include <stdlib.h>
#include <string.h>
#include "common/net_internal.h"

/* A large frame on its way. */
struct sent {
    struct buf *b;
    struct net *net;
};

static void release_received(void *data, void *hint)
{
    (void)data;
    zmq_msg_close(hint);
    free(hint);
}

/* A large frame stays where ZeroMQ put it. Consumes msg in every case. */
static struct buf *hold_frame(zmq_msg_t *msg)
{
    zmq_msg_t *held = malloc(sizeof *held);
    struct buf *b = NULL;
    if (held) {
        zmq_msg_init(held);
        zmq_msg_move(held, msg);
        b = buf_wrap(zmq_msg_data(held), zmq_msg_size(held), release_received, held);
        if (!b)
            release_received(NULL, held);
    }
    zmq_msg_close(msg);
    return b;
}

struct buf *net_take_frame(zmq_msg_t *msg)
{
    if (zmq_msg_size(msg) >= NET_ZERO_COPY_MIN)
        return hold_frame(msg);
    struct buf *b = buf_copy(zmq_msg_data(msg), zmq_msg_size(msg));
    zmq_msg_close(msg);
    return b;
}

static void release_sent(void *data, void *hint)
{
    struct sent *sent = hint;
    (void)data;
    if (atomic_fetch_sub(&sent->b->queued, 1) == 1)
        atomic_fetch_sub(&sent->net->queued_bytes, sent->b->size);
    buf_unref(&sent->b);
    free(sent);
}

/* A large frame is passed on as it is. */
static int pass_to_zmq(struct net *net, struct buf *b, zmq_msg_t *msg)
{
    struct sent *sent = malloc(sizeof *sent);
    if (!sent || zmq_msg_init_data(msg, b->data, b->size, release_sent, sent)) {
        free(sent);
        return -1;
    }
    *sent = (struct sent){buf_ref(b), net};
    if (atomic_fetch_add(&b->queued, 1) == 0)
        atomic_fetch_add(&net->queued_bytes, b->size);
    return 0;
}

static int frame_to_zmq(struct net *net, struct buf *b, zmq_msg_t *msg)
{
    if (b->size >= NET_ZERO_COPY_MIN)
        return pass_to_zmq(net, b, msg);
    if (zmq_msg_init_size(msg, b->size))
        return -1;
    if (b->size > 0)
        memcpy(zmq_msg_data(msg), b->data, b->size);
    return 0;
}

void net_close_frames(zmq_msg_t *msgs, size_t n)
{
    for (size_t i = 0; i < n; i++)
        zmq_msg_close(&msgs[i]);
}

int net_frames_to_zmq(struct net *net, struct buf *const *frames, size_t n, zmq_msg_t *msgs, size_t *bytes)
{
    *bytes = 0;
    for (size_t i = 0; i < n; i++) {
        if (frame_to_zmq(net, frames[i], &msgs[i])) {
            net_close_frames(msgs, i);
            return -1;
        }
        *bytes += frames[i]->size;
    }
    return 0;
}
