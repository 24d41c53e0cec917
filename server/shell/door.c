/* Opening, the watched list, and the questions: may this key connect, may this message be, does this connection
 * stay. */
#include "server/shell/door.h"

#include <inttypes.h>
#include <string.h>
#include "common/files.h"
#include "common/limits.h"
#include "common/net_address.h"

enum {
    LOOK_MS = 1000,             /* between two looks at the list of keys, and at connections */
    PACE_MS = 10000,            /* between two log lines of one kind */
    DESCRIPTORS_RESERVED = 192, /* 64 for HTTP, as many for the libraries, the rest for files */
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
                         "keys with `decant keygen` and set keys.directory, or set net.insecure = true (--insecure) if "
                         "this network is closed to others",
                         endpoint);
    log_warn("event=insecure endpoint=%s hint=\"no keys: whoever reaches this address can change the run\"", endpoint);
    return 0;
}

/* ---- the list ---- */

static bool is_listed(const void *arg, const char *key)
{
    return allow_list_find(&((const struct door *)arg)->list, key) != NULL;
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
    size_t cut = guests_cut_keys(&d->publications.guests, is_listed, d);
    d->counters.cut_off += cut;
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

static void on_failed_handshake(struct door *d, const struct net_event *event)
{
    d->counters.handshakes_failed++;
    if (log_due(&d->pace_handshakes, uv_now(d->loop), PACE_MS))
        log_warn("event=handshake_failed kind=%s endpoint=%s count=%" PRIu64 " hint=\"%s\"",
                 net_event_name(event->kind), event->endpoint, d->counters.handshakes_failed,
                 d->keys ? "somebody connects without keys, or with another public key of ours"
                         : "somebody connects with keys, and we have none, or it is no client of ours");
}

static void on_no_room(struct door *d, const struct net_event *event)
{
    guests_make_room(&d->requests.guests);
    guests_make_room(&d->publications.guests);
    if (log_due(&d->pace_room, uv_now(d->loop), PACE_MS))
        log_error(
            "event=accept_failed endpoint=%s hint=\"no descriptor left: who connects and says nothing is cut off; "
            "raise ulimit -n\"",
            event->endpoint);
}

void door_on_event(void *side, const struct net_event *event)
{
    struct door_side *s = side;
    switch (event->kind) {
    case NET_ACCEPTED:
        guests_accept(&s->guests, event->fd, uv_now(s->door->loop));
        return;
    case NET_ACCEPT_FAILED:
        on_no_room(s->door, event);
        return;
    case NET_DISCONNECTED:
        guests_leave(&s->guests, event->fd);
        return;
    case NET_HANDSHAKE_INVALID:
    case NET_HANDSHAKE_CUT:
        on_failed_handshake(s->door, event);
        return;
    case NET_KEY_REFUSED: /* counted when it was refused */
    case NET_HANDSHAKE_DONE:
        return;
    }
}

/* ---- what they may send ---- */

bool door_lets(struct door *d, const struct net_sender *from, const struct msg *m)
{
    guests_hear(&d->requests.guests, from->fd, from->user, uv_now(d->loop));
    if (!d->guarded)
        return true;
    return role_may_send(role_of(d, from->user), d->server, m);
}

enum { SUBSCRIBES = 1 /* first byte of what an XPUB receives; the topic follows */ };

void door_on_subscription(struct door *d, const struct net_sender *from, const struct buf *frame)
{
    struct guests *g = &d->publications.guests;
    bool known = from->user[0] != '\0';
    guests_hear(g, from->fd, from->user, uv_now(d->loop));
    if (!known || frame->size == 0 || frame->data[0] != SUBSCRIBES)
        return;
    enum role role = role_of(d, from->user);
    if (role_may_subscribe(role, d->server, frame->data + 1, frame->size - 1))
        return;
    uint64_t before = g->cut[CUT_ROLE];
    guests_cut(g, from->fd, CUT_ROLE);
    if (role == ROLE_NONE) { /* it connected before it was revoked, and subscribes only now */
        d->counters.cut_off += g->cut[CUT_ROLE] - before;
        g->cut[CUT_ROLE] = before;
    } else if (log_due(&d->pace_subscriptions, uv_now(d->loop), PACE_MS)) {
        log_warn("event=subscription_refused key=\"%s\" role=%s hint=\"only workers may subscribe to weights\"",
                 from->user, role_name(role));
    }
}

const char *door_refusal(const struct door *d, const struct net_sender *from)
{
    return role_of(d, from->user) == ROLE_NONE
               ? "this key is not on the server's list any more, it was revoked: ask whoever runs the server"
               : "the role of this key does not include that";
}

/* ---- who stays ---- */

static uint64_t all_cut(const struct door *d)
{
    uint64_t sum = 0;
    for (int why = 0; why < GUEST_CUTS; why++)
        sum += d->requests.guests.cut[why] + d->publications.guests.cut[why];
    return sum;
}

static uint64_t cut_for(const struct door *d, enum guest_cut why)
{
    return d->requests.guests.cut[why] + d->publications.guests.cut[why];
}

static void say_cuts(struct door *d)
{
    uint64_t cut = all_cut(d);
    if (cut == d->cut_said || !log_due(&d->pace_cuts, uv_now(d->loop), PACE_MS))
        return;
    d->cut_said = cut;
    log_warn(
        "event=connections_cut crowd=%" PRIu64 " silent=%" PRIu64 " stalled=%" PRIu64 " role=%" PRIu64
        " queued_bytes=%zu hint=\"so many connections were too many, said nothing, or did not read what they asked "
        "for\"",
        cut_for(d, CUT_CROWD), cut_for(d, CUT_SILENT), cut_for(d, CUT_STALLED), cut_for(d, CUT_ROLE),
        net_queued_bytes(d->net));
}

static void on_look(uv_timer_t *timer)
{
    struct door *d = timer->data;
    bool hurry = net_queued_bytes(d->net) > DOOR_QUEUED_BYTES_MAX / 2;
    guests_look(&d->requests.guests, uv_now(d->loop), hurry);
    guests_look(&d->publications.guests, uv_now(d->loop), hurry);
    say_cuts(d);
}

/* Files, the HTTP port and what a process has open from the start come first; the sockets share what is left. */
static size_t guests_max(void)
{
    size_t limit = limits_descriptors();
    return limit > DESCRIPTORS_RESERVED + 2 ? (limit - DESCRIPTORS_RESERVED) / 2 : 1;
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
    *d = (struct door){.server = which, .loop = loop, .net = n};
    d->requests.door = d->publications.door = d;
    guests_init(&d->requests.guests, guests_max());
    guests_init(&d->publications.guests, guests_max());
    uv_timer_init(loop, &d->look);
    d->look.data = d;
    d->looking = true;
    uv_timer_start(&d->look, on_look, LOOK_MS, LOOK_MS);
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
    if (d->looking)
        uv_close((uv_handle_t *)&d->look, NULL);
    d->polling = d->looking = false;
}

void door_fini(struct door *d)
{
    allow_list_fini(&d->list);
    list_guard_forget(&d->guard);
    guests_fini(&d->requests.guests);
    guests_fini(&d->publications.guests);
}
