/* Decoding of monitor messages: frame 0 is u16 event, u32 value in host order; frame 1 the endpoint. */
#include "common/net_event.h"

#include <stdint.h>
#include <string.h>

static const struct {
    uint16_t event;
    const char *name;
} kinds[] = {
    [NET_HANDSHAKE_DONE] = {ZMQ_EVENT_HANDSHAKE_SUCCEEDED, "handshake_done"},
    [NET_KEY_REFUSED] = {ZMQ_EVENT_HANDSHAKE_FAILED_AUTH, "key_refused"},
    [NET_HANDSHAKE_INVALID] = {ZMQ_EVENT_HANDSHAKE_FAILED_PROTOCOL, "handshake_invalid"},
    [NET_HANDSHAKE_CUT] = {ZMQ_EVENT_HANDSHAKE_FAILED_NO_DETAIL, "handshake_cut"},
    [NET_DISCONNECTED] = {ZMQ_EVENT_DISCONNECTED, "disconnected"},
    [NET_ACCEPTED] = {ZMQ_EVENT_ACCEPTED, "accepted"},
    [NET_ACCEPT_FAILED] = {ZMQ_EVENT_ACCEPT_FAILED, "accept_failed"},
};
enum { KINDS = sizeof kinds / sizeof kinds[0] };

static bool decode(struct buf *const *frames, size_t n, uint16_t *event, int32_t *value)
{
    if (n == 0 || frames[0]->size < sizeof *event + sizeof *value)
        return false;
    memcpy(event, frames[0]->data, sizeof *event);
    memcpy(value, (const uint8_t *)frames[0]->data + sizeof *event, sizeof *value);
    return true;
}

int net_event_opened(struct buf *const *frames, size_t n)
{
    uint16_t event;
    int32_t fd;
    bool opened = decode(frames, n, &event, &fd) && (event == ZMQ_EVENT_ACCEPTED || event == ZMQ_EVENT_CONNECTED);
    return opened ? fd : -1;
}

bool net_event_decode(struct buf *const *frames, size_t n, const char *endpoint, struct net_event *out)
{
    uint16_t event;
    int32_t value;
    if (!decode(frames, n, &event, &value))
        return false;
    for (int i = 0; i < KINDS; i++)
        if (kinds[i].event == event) {
            bool has_fd = i == NET_ACCEPTED || i == NET_DISCONNECTED;
            *out = (struct net_event){(enum net_event_kind)i, endpoint, has_fd ? value : -1};
            return true;
        }
    return false;
}

const char *net_event_name(enum net_event_kind kind)
{
    return kinds[kind].name;
}
