/* Opening, the watched list, and the two questions: may this key connect, may this message be.
 *
 * A revoked subscriber. ZeroMQ cannot drop one peer of a bound socket, but it tells the descriptor that a subscription
 * came through. Shutting that down ends the connection, and the next handshake is refused. A descriptor may belong to
 * somebody else by then, so the address of its other end has to be the same. */
#include "server/shell/door.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include "common/files.h"
#include "common/net_address.h"

enum {
    LOOK_MS = 1000,  /* between two looks at the list of keys */
    PACE_MS = 10000, /* between two log lines of one kind */
};

struct door_subscriber {
    char key[NET_KEY_TEXT];
    int fd;
    struct sockaddr_storage peer;
    socklen_t peer_size;
};

/* ---- where a server may listen ---- */

static bool is_tcp(const char *endpoint)
{
    return strncmp(endpoint, "tcp://", 6) == 0;
}

int door_is_local(const char *endpoint, bool *local, struct error *e)
{
    struct net_addresses found;
    struct error why = {0};
    *local = strncmp(endpoint, "ipc://", 6) == 0 || strncmp(endpoint, "inproc://", 9) == 0;
    if (!is_tcp(endpoint))
        return 0;
    int rc = net_resolve(endpoint + 6, NET_TO_BIND, &found, &why);
    if (rc != 0)
        return error_set(e, rc, "%s: %s", endpoint, why.text);
    *local = true;
    for (size_t i = 0; i < found.count; i++)
        *local = *local && net_address_is_loopback(&found.at[i]);
    return 0;
}

static int check_exposure(const struct run_config *c, const char *endpoint, struct error *e)
{
    bool local;
    int rc = door_is_local(endpoint, &local, e);
    if (rc != 0 || local)
        return rc;
    if (!c->net.insecure)
        return error_set(e, ERR_CONFIG,
                         "%s is open to other machines and there are no keys, so anybody could change the run; make "
                         "keys with `decant keygen` and set keys.directory, or give --insecure if this network is "
                         "closed to others",
                         endpoint);
    log_warn("event=insecure endpoint=%s hint=\"no keys: whoever reaches this address can change the run\"", endpoint);
    return 0;
}

/* ---- the list ---- */

/* True when it was ended now. */
static bool cut_off(struct door *d, int fd)
{
    bool ended = shutdown(fd, SHUT_RDWR) == 0;
    d->counters.cut_off += ended;
    return ended;
}

static bool is_still_there(const struct door_subscriber *s)
{
    struct sockaddr_storage peer = {0};
    socklen_t size = sizeof peer;
    return getpeername(s->fd, (struct sockaddr *)&peer, &size) == 0 && size == s->peer_size &&
           memcmp(&peer, &s->peer, size) == 0;
}

/* Keeps the subscribers that are there and listed. Returns how many were ended. */
static size_t cut_subscribers(struct door *d)
{
    size_t cut = 0, kept = 0;
    for (size_t i = 0; i < d->subscriber_count; i++) {
        const struct door_subscriber *s = &d->subscribers[i];
        if (!is_still_there(s))
            continue;
        if (allow_list_find(&d->list, s->key))
            d->subscribers[kept++] = *s;
        else
            cut += cut_off(d, s->fd);
    }
    d->subscriber_count = kept;
    return cut;
}

static void on_confirm(uv_timer_t *timer);

static void reload(struct door *d)
{
    struct allow_list list;
    struct error e = {0};
    if (allow_list_read(d->path, &list, &e) != 0) {
        list_guard_forget(&d->guard);
        log_error("event=allow_list_unreadable cause=\"%s\" hint=\"the former list stays in force\"", e.text);
        return;
    }
    enum list_verdict verdict = list_guard_offer(&d->guard, &d->list, &list, uv_now(d->loop));
    if (verdict == LIST_WAITS)
        log_error(
            "event=allow_list_unconfirmed path=%s retry_s=%d hint=\"nobody who works is left on it; the former list "
            "stays in force, and this one follows if it is still the same then. To confirm it now, add this last "
            "line: " ALLOW_CONFIRMED "\"",
            d->path, LIST_CONFIRM_MS / 1000);
    if (verdict != LIST_TAKEN) {
        uint64_t waited = uv_now(d->loop) - d->guard.since_ms;
        uv_timer_start(&d->confirm, on_confirm, waited < LIST_CONFIRM_MS ? LIST_CONFIRM_MS - waited : 0, 0);
        return;
    }
    uv_timer_stop(&d->confirm);
    size_t cut = cut_subscribers(d);
    log_info("event=allow_list_read keys=%zu subscribers_cut=%zu", d->list.count, cut);
}

static void on_confirm(uv_timer_t *timer)
{
    reload(timer->data);
}

static void on_list_changed(uv_fs_poll_t *poll, int status, const uv_stat_t *before, const uv_stat_t *after)
{
    (void)status;
    (void)before;
    (void)after;
    reload(poll->data);
}

static int watch_list(struct door *d, struct error *e)
{
    int rc = uv_fs_poll_init(d->loop, &d->poll);
    if (rc == 0) {
        uv_timer_init(d->loop, &d->confirm);
        d->poll.data = d->confirm.data = d;
        d->polling = true;
        rc = uv_fs_poll_start(&d->poll, on_list_changed, d->path, LOOK_MS);
    }
    return rc == 0 ? 0 : error_set(e, ERR_IO, "%s: cannot watch it: %s", d->path, uv_strerror(rc));
}

/* ---- who may connect ---- */

/* Whoever has the server's own secret may at least ask how it is: `decant-parameter health` does. */
static enum role role_of(const struct door *d, const char *key)
{
    const struct allow_entry *found = allow_list_find(&d->list, key);
    if (found)
        return found->role;
    return strcmp(key, d->own_key) == 0 ? ROLE_VIEWER : ROLE_NONE;
}

static bool may_connect(void *arg, const char *key, const char *address)
{
    struct door *d = arg;
    enum role role = role_of(d, key);
    if (role != ROLE_NONE) {
        log_debug("event=key_accepted key=\"%s\" role=%s address=%s", key, role_name(role), address);
        return true;
    }
    d->counters.keys_refused++;
    if (log_due(&d->pace_keys, uv_now(d->loop), PACE_MS))
        log_warn("event=key_refused key=\"%s\" address=%s count=%" PRIu64 " hint=\"not in %s\"", key, address,
                 d->counters.keys_refused, d->path);
    return false;
}

void door_on_event(void *door, const struct net_event *event)
{
    struct door *d = door;
    if (event->kind != NET_HANDSHAKE_INVALID && event->kind != NET_HANDSHAKE_CUT)
        return; /* refused keys were counted when they were refused */
    d->counters.handshakes_failed++;
    if (log_due(&d->pace_handshakes, uv_now(d->loop), PACE_MS))
        log_warn("event=handshake_failed kind=%s endpoint=%s count=%" PRIu64 " hint=\"%s\"",
                 net_event_name(event->kind), event->endpoint, d->counters.handshakes_failed,
                 d->keys ? "somebody connects without keys, or with another public key of ours"
                         : "somebody connects with keys, and we have none, or it is no client of ours");
}

/* ---- what they may send ---- */

bool door_lets(struct door *d, const struct net_sender *from, const struct msg *m)
{
    if (!d->guarded)
        return true;
    return role_may_send(role_of(d, from->user), d->server, m);
}

static struct door_subscriber *subscriber_slot(struct door *d, int fd)
{
    for (size_t i = 0; i < d->subscriber_count; i++)
        if (d->subscribers[i].fd == fd)
            return &d->subscribers[i];
    if (d->subscriber_count == d->subscriber_room) {
        size_t room = d->subscriber_room ? 2 * d->subscriber_room : 16;
        struct door_subscriber *grown = realloc(d->subscribers, room * sizeof *grown);
        if (!grown)
            return NULL;
        d->subscribers = grown;
        d->subscriber_room = room;
    }
    return &d->subscribers[d->subscriber_count++];
}

void door_on_subscriber(struct door *d, const struct net_sender *from)
{
    struct door_subscriber new = {.fd = from->fd, .peer_size = sizeof new.peer};
    if (from->user[0] == '\0' || getpeername(from->fd, (struct sockaddr *)&new.peer, &new.peer_size) != 0)
        return;
    if (!allow_list_find(&d->list, from->user)) { /* it connected before it was revoked, and subscribes only now */
        (void)cut_off(d, from->fd);
        return;
    }
    memcpy(new.key, from->user, sizeof new.key);
    struct door_subscriber *slot = subscriber_slot(d, from->fd);
    if (slot)
        *slot = new;
    else
        log_error("event=subscriber_unnoted reason=memory hint=\"revoking its key does not end its subscription\"");
}

/* ---- life ---- */

static int open_with_keys(struct door *d, struct net *n, const struct run_config *c, struct error *e)
{
    int rc = path_format(d->path, sizeof d->path, "%s/allowed", c->keys.directory);
    if (rc != 0)
        return error_set(e, ERR_CONFIG, "keys.directory: the path is too long");
    struct error cause = {0};
    if (allow_list_read(d->path, &d->list, &cause) != 0)
        return error_set(e, ERR_CONFIG, "%s; it lists who may connect, and `decant keygen` writes it", cause.text);
    rc = keys_of_server(c->keys.directory, d->server, &d->curve, e);
    memcpy(d->own_key, d->curve.public_key, sizeof d->own_key);
    if (rc == 0)
        rc = zap_open(&d->zap, n, d->loop, may_connect, d, e);
    if (rc == 0)
        rc = watch_list(d, e);
    if (rc == 0 && d->list.count == 0)
        log_warn(
            "event=allow_list_empty path=%s hint=\"nobody may connect; `decant keygen --out %s worker` adds somebody\"",
            d->path, c->keys.directory);
    if (rc == 0)
        log_info("event=keys public_key=\"%s\" allowed=%zu path=%s", d->curve.public_key, d->list.count, d->path);
    return rc;
}

int door_open(struct door *d, struct net *n, uv_loop_t *loop, const struct run_config *c, enum server which,
              struct error *e)
{
    bool parameter = which == SERVER_PARAMETER;
    const char *requests = parameter ? c->net.parameter : c->net.prototype;
    const char *publications = parameter ? c->net.parameter_publish : c->net.prototype_publish;
    *d = (struct door){.server = which, .loop = loop};
    if (c->keys.directory[0] == '\0') {
        int rc = check_exposure(c, requests, e);
        return rc == 0 ? check_exposure(c, publications, e) : rc;
    }
    d->guarded = is_tcp(requests);
    d->keys = d->guarded || is_tcp(publications);
    return d->keys ? open_with_keys(d, n, c, e) : 0;
}

void door_opened(struct door *d)
{
    keys_wipe(&d->curve);
}

void door_close(struct door *d)
{
    door_opened(d);
    zap_close(&d->zap);
    if (d->polling) {
        uv_close((uv_handle_t *)&d->poll, NULL);
        uv_close((uv_handle_t *)&d->confirm, NULL);
    }
    d->polling = false;
}

void door_fini(struct door *d)
{
    allow_list_fini(&d->list);
    list_guard_forget(&d->guard);
    free(d->subscribers);
    d->subscribers = NULL;
}
