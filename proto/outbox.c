/* The queue of outgoing messages that the cores append to and the shells empty. */
#include "proto/msg.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

bool peer_equal(const struct peer *a, const struct peer *b)
{
    return a->size == b->size && memcmp(a->id, b->id, a->size) == 0;
}

/* A cleared item at the end, or NULL when memory ran out. */
static struct outbox_item *append(struct outbox *o, enum out_kind kind)
{
    if (o->count == o->room) {
        size_t room = o->room ? 2 * o->room : 16;
        struct outbox_item *items = realloc(o->items, room * sizeof *items);
        if (!items)
            return NULL;
        o->items = items;
        o->room = room;
    }
    struct outbox_item *item = &o->items[o->count++];
    item->kind = kind;
    item->peer.size = 0;
    item->topic[0] = 0;
    return item;
}

/* Moves the message into the item. The caller's is empty afterwards, even if there was no item: it is released then. */
static int move(struct outbox_item *item, struct msg *m)
{
    if (!item) {
        msg_fini(m);
        return ERR_MEMORY;
    }
    item->msg = *m;
    m->tensor_count = 0;
    return 0;
}

int outbox_to_peer(struct outbox *o, const struct peer *p, struct msg *m)
{
    ASSERT(p->size <= PEER_ID_MAX);
    struct outbox_item *item = append(o, OUT_PEER);
    if (item)
        item->peer = *p;
    return move(item, m);
}

int outbox_publish(struct outbox *o, const char *topic, struct msg *m)
{
    struct outbox_item *item = append(o, OUT_PUBLISH);
    if (item)
        snprintf(item->topic, sizeof item->topic, "%s", topic);
    return move(item, m);
}

int outbox_to_server(struct outbox *o, enum server to, struct msg *m)
{
    struct outbox_item *item = append(o, OUT_SERVER);
    if (item)
        item->server = to;
    return move(item, m);
}

void outbox_clear(struct outbox *o)
{
    for (size_t i = 0; i < o->count; i++)
        msg_fini(&o->items[i].msg);
    o->count = 0;
}

void outbox_fini(struct outbox *o)
{
    outbox_clear(o);
    free(o->items);
    *o = (struct outbox){0};
}
