/* A request is [routing id, "", "1.0", request id, domain, address, identity, mechanism, credentials]; the answer
 * [routing id, "", "1.0", request id, status, text, user, metadata]. Both stay within the process. */
#include "common/zap.h"

#include <stdio.h>
#include <string.h>

enum { ROUTING, DELIMITER, VERSION, REQUEST, DOMAIN, ADDRESS, IDENTITY, MECHANISM, KEY, REQUEST_FRAMES };
enum { STATUS = REQUEST + 1, TEXT, USER, METADATA, ANSWER_FRAMES };
enum { KEY_BYTES = 32, ADDRESS_MAX = 64 };

static bool is_text(const struct buf *b, const char *text)
{
    return b->size == strlen(text) && memcmp(b->data, text, b->size) == 0;
}

static bool is_curve(struct buf *const *frames, size_t n)
{
    return n == REQUEST_FRAMES && is_text(frames[VERSION], "1.0") && is_text(frames[DOMAIN], NET_ZAP_DOMAIN) &&
           is_text(frames[MECHANISM], "CURVE") && frames[KEY]->size == KEY_BYTES;
}

static void answer(struct zap *z, struct buf *const *frames, const char *status, const char *text, const char *user)
{
    struct buf *out[ANSWER_FRAMES];
    const char *const texts[] = {status, text, user, ""};
    bool complete = true;
    for (int i = 0; i <= REQUEST; i++)
        out[i] = buf_ref(frames[i]);
    for (int i = STATUS; i < ANSWER_FRAMES; i++) {
        out[i] = buf_copy(texts[i - STATUS], strlen(texts[i - STATUS]));
        complete = complete && out[i] != NULL;
    }
    if (complete)
        (void)net_send(z->socket, out, ANSWER_FRAMES); /* a lost answer ends the handshake, and it is tried again */
    for (int i = 0; i < ANSWER_FRAMES; i++)
        buf_unref(&out[i]);
}

static void on_request(void *arg, struct buf **frames, size_t n)
{
    struct zap *z = arg;
    char key[NET_KEY_TEXT], address[ADDRESS_MAX];
    if (n <= REQUEST)
        return;
    if (!is_curve(frames, n)) {
        answer(z, frames, "400", "not a CURVE handshake", "");
        return;
    }
    zmq_z85_encode(key, frames[KEY]->data, KEY_BYTES);
    snprintf(address, sizeof address, "%.*s", (int)frames[ADDRESS]->size, (const char *)frames[ADDRESS]->data);
    if (z->decide(z->arg, key, address))
        answer(z, frames, "200", "OK", key);
    else
        answer(z, frames, "400", "this key is not on the list", "");
}

int zap_open(struct zap *z, struct net *n, uv_loop_t *loop, zap_decide *decide, void *arg, struct error *e)
{
    struct net_options o = {
        .role = NET_ROUTER, .endpoint = "inproc://zeromq.zap.01", .message_bytes_max = 1024, .hwm = 1024};
    *z = (struct zap){.decide = decide, .arg = arg};
    return net_open(n, loop, &o, on_request, z, &z->socket, e);
}

void zap_close(struct zap *z)
{
    net_close(&z->socket);
}
