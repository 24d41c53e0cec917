/* One array, looked through: it is short, and the events are few. */
#include "server/shell/guests.h"

#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include "common/socket_queue.h"

enum { QUEUED_MIN = 4096 /* bytes in the kernel's queue below which nobody is said not to read */ };

const char *guest_cut_name(enum guest_cut why)
{
    static const char *const names[GUEST_CUTS] = {
        [CUT_CROWD] = "crowd", [CUT_SILENT] = "silent", [CUT_STALLED] = "stalled", [CUT_ROLE] = "role"};
    return names[why];
}

void guests_init(struct guests *g, size_t max)
{
    *g = (struct guests){.max = max < GUESTS_MAX ? max : GUESTS_MAX};
}

void guests_fini(struct guests *g)
{
    free(g->all);
    *g = (struct guests){0};
}

/* ---- one guest ---- */

static struct guest *find(struct guests *g, int fd)
{
    for (size_t i = 0; i < g->count; i++)
        if (g->all[i].fd == fd)
            return &g->all[i];
    return NULL;
}

static void drop(struct guests *g, struct guest *one)
{
    *one = g->all[--g->count];
}

static bool inode_of(int fd, ino_t *inode)
{
    struct stat st;
    if (fd < 0 || fstat(fd, &st) != 0 || !S_ISSOCK(st.st_mode))
        return false;
    *inode = st.st_ino;
    return true;
}

/* True when it was ended now. */
static bool end(const struct guest *one)
{
    ino_t inode;
    return inode_of(one->fd, &inode) && inode == one->inode && shutdown(one->fd, SHUT_RDWR) == 0;
}

static void cut(struct guests *g, struct guest *one, enum guest_cut why)
{
    g->cut[why] += end(one);
    drop(g, one);
}

/* ---- too many ---- */

static bool same_host(const struct net_address *a, const struct net_address *b)
{
    struct net_address x = *a, y = *b;
    if (a->size == 0 || a->size != b->size)
        return a->size == b->size; /* those of this machine's file system are one host */
    net_address_set_port(&x, 0);
    net_address_set_port(&y, 0);
    return memcmp(&x.socket, &y.socket, x.size) == 0;
}

/* The oldest that has said nothing, of that host or of all (NULL), and how many there are. */
static struct guest *oldest_unproven(struct guests *g, const struct net_address *host, size_t *count)
{
    struct guest *first = NULL;
    *count = 0;
    for (size_t i = 0; i < g->count; i++) {
        struct guest *one = &g->all[i];
        if (one->proven || (host && !same_host(&one->from, host)))
            continue;
        ++*count;
        if (!first || one->since_ms < first->since_ms)
            first = one;
    }
    return first;
}

static bool grow(struct guests *g)
{
    if (g->count < g->room)
        return true;
    size_t room = g->room ? 2 * g->room : 16;
    struct guest *grown = realloc(g->all, room * sizeof *grown);
    if (!grown)
        return false;
    g->all = grown;
    g->room = room;
    return true;
}

/* A newcomer that is not noted, for want of memory, is ended: nobody would watch it. */
void guests_accept(struct guests *g, int fd, uint64_t now_ms)
{
    struct guest new = {.fd = fd, .since_ms = now_ms, .moved_ms = now_ms, .from.size = sizeof new.from.socket};
    struct guest *known = find(g, fd);
    size_t unproven;
    if (!inode_of(fd, &new.inode) || (known && known->inode == new.inode))
        return; /* closed again already, or heard before */
    if (known)
        drop(g, known);
    if (getpeername(fd, (struct sockaddr *)&new.from.socket, &new.from.size) != 0 ||
        (new.from.socket.ss_family != AF_INET &&new.from.socket.ss_family != AF_INET6))
        new.from.size = 0;
    struct guest *first = oldest_unproven(g, &new.from, &unproven);
    if (unproven >= GUESTS_UNPROVEN_MAX)
        cut(g, first, CUT_CROWD);
    first = g->count >= g->max ? oldest_unproven(g, NULL, &unproven) : NULL;
    if (first)
        cut(g, first, CUT_CROWD);
    if (g->count >= g->max || !grow(g))
        g->cut[CUT_CROWD] += end(&new);
    else
        g->all[g->count++] = new;
}

static int by_age(const void *a, const void *b)
{
    uint64_t x = ((const struct guest *)a)->since_ms, y = ((const struct guest *)b)->since_ms;
    return x < y ? -1 : x > y;
}

void guests_make_room(struct guests *g)
{
    size_t unproven, left;
    (void)oldest_unproven(g, NULL, &unproven);
    left = (unproven + 3) / 4;
    qsort(g->all, g->count, sizeof *g->all, by_age);
    for (size_t i = 0; i < g->count && left > 0;) {
        if (g->all[i].proven) {
            i++;
            continue;
        }
        g->cut[CUT_CROWD] += end(&g->all[i]);
        g->count--;
        memmove(&g->all[i], &g->all[i + 1], (g->count - i) * sizeof *g->all); /* in order */
        left--;
    }
}

void guests_leave(struct guests *g, int fd)
{
    struct guest *one = find(g, fd);
    if (one)
        drop(g, one);
}

void guests_hear(struct guests *g, int fd, const char *user, uint64_t now_ms)
{
    struct guest *one = find(g, fd);
    if (!one) { /* ZeroMQ tells of messages and of connections by different ways */
        guests_accept(g, fd, now_ms);
        one = find(g, fd);
    }
    if (!one)
        return;
    one->proven = true;
    memcpy(one->user, user, strnlen(user, sizeof one->user - 1) + 1);
    one->user[sizeof one->user - 1] = '\0';
}

/* ---- who does not read ---- */

static bool is_stalled(struct guest *one, uint64_t now_ms, bool hurry)
{
    uint64_t progress = one->progress;
    size_t queued;
    if (!socket_queue(one->fd, &queued, &progress) || queued < QUEUED_MIN || progress != one->progress) {
        one->progress = progress;
        one->moved_ms = now_ms;
        return false;
    }
    return now_ms - one->moved_ms >= (hurry ? GUESTS_STALLED_HURRY_MS : GUESTS_STALLED_MS);
}

void guests_look(struct guests *g, uint64_t now_ms, bool hurry)
{
    for (size_t i = 0; i < g->count;) {
        struct guest *one = &g->all[i];
        if (!one->proven && now_ms - one->since_ms >= GUESTS_SILENT_MS)
            cut(g, one, CUT_SILENT);
        else if (is_stalled(one, now_ms, hurry))
            cut(g, one, CUT_STALLED);
        else
            i++;
    }
}

/* ---- who may not ---- */

void guests_cut(struct guests *g, int fd, enum guest_cut why)
{
    struct guest *one = find(g, fd);
    if (one)
        cut(g, one, why);
}

size_t guests_cut_keys(struct guests *g, bool (*stays)(const void *arg, const char *key), const void *arg)
{
    size_t ended = 0;
    for (size_t i = 0; i < g->count;) {
        struct guest *one = &g->all[i];
        if (one->user[0] == '\0' || stays(arg, one->user)) {
            i++;
            continue;
        }
        ended += end(one);
        drop(g, one);
    }
    return ended;
}
