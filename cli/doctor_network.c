/* Endpoints and Redis: is an address free, or who answers there. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <math.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>
#include "cli/doctor.h"
#include "cli/private_redis.h"
#include "cli/run_source.h"
#include "common/net_address.h"
#include "proto/keys.h"
#include "proto/probe.h"

enum { CONNECT_MS = 2000, SKEW_S = 5 /* ages shown by status and top would mislead */ };

enum presence {
    LISTENING, /* somebody does */
    FREE,      /* nobody does, and this machine could */
    ELSEWHERE, /* nobody does, and the address is another machine's */
    UNREACHABLE,
    UNUSABLE, /* not an address, or not allowed here */
};

/* ---- is somebody there ---- */

/* 0 or an errno. */
static int try_connect(const struct sockaddr *address, socklen_t size)
{
    int fd = socket(address->sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), reason = 0;
    socklen_t length = sizeof reason;
    if (fd < 0)
        return errno;
    if (connect(fd, address, size) != 0 && errno != EINPROGRESS) {
        reason = errno;
    } else {
        struct pollfd wait = {.fd = fd, .events = POLLOUT};
        int ready = poll(&wait, 1, CONNECT_MS);
        if (ready <= 0)
            reason = ready == 0 ? ETIMEDOUT : errno;
        else
            getsockopt(fd, SOL_SOCKET, SO_ERROR, &reason, &length);
    }
    close(fd);
    return reason;
}

static int try_bind(const struct sockaddr *address, socklen_t size)
{
    int on = 1, fd = socket(address->sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return errno;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    int reason = bind(fd, address, size) == 0 ? 0 : errno;
    close(fd);
    return reason;
}

/* What a server would do: it binds every address that the machine has, and wants each of them free. */
static enum presence presence_if_bound(const struct net_addresses *to, int *reason)
{
    enum presence p = ELSEWHERE;
    for (size_t i = 0; i < to->count; i++) {
        *reason = try_bind((const struct sockaddr *)&to->at[i].socket, to->at[i].size);
        if (*reason != 0 && !net_address_is_absent(*reason))
            return UNUSABLE;
        p = *reason == 0 ? FREE : p;
    }
    return p;
}

/* Somebody listens on one of them, or one could be reached and nobody does, or none can be reached. */
static enum presence presence_if_asked(const struct net_addresses *to, int *reason)
{
    enum presence p = UNREACHABLE;
    int why = 0;
    for (size_t i = 0; i < to->count; i++) {
        int failed = try_connect((const struct sockaddr *)&to->at[i].socket, to->at[i].size);
        if (failed == 0)
            return LISTENING;
        p = failed == ECONNREFUSED ? FREE : p;
        why = failed;
    }
    *reason = why;
    return p;
}

/* An address as the server writes it, which may be "*" or an interface. */
static enum presence presence_tcp(const char *address, struct error *why)
{
    struct net_addresses found;
    int reason = 0;
    if (net_resolve(address, NET_TO_BIND, &found, why) != 0)
        return why->code == ERR_CONFIG ? UNUSABLE : UNREACHABLE;
    enum presence p = net_address_port(&found.at[0]) == 0 ? FREE : presence_if_asked(&found, &reason);
    if (p != LISTENING) {
        enum presence own = presence_if_bound(&found, &reason);
        p = own == ELSEWHERE && p == UNREACHABLE ? p : own;
    }
    error_set(why, ERR_IO, "%s", strerror(reason));
    return p;
}

static enum presence presence_ipc(const char *path, struct error *why)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    char directory[sizeof address.sun_path];
    error_set(why, ERR_RANGE, "the path is too long for a unix socket");
    if (strlen(path) >= sizeof address.sun_path)
        return UNUSABLE;
    strcpy(address.sun_path, path);
    int reason = try_connect((struct sockaddr *)&address, sizeof address);
    error_set(why, ERR_IO, "%s", strerror(reason));
    if (reason == 0)
        return LISTENING;
    if (reason != ECONNREFUSED && reason != ENOENT) /* a socket that its server left behind is taken over */
        return UNUSABLE;
    strcpy(directory, path);
    char *slash = strrchr(directory, '/');
    if (slash)
        slash[slash == directory] = '\0';
    bool writable = access(slash ? directory : ".", W_OK | X_OK) == 0;
    error_set(why, ERR_IO, "%s", strerror(errno));
    return writable ? FREE : UNUSABLE;
}

static enum presence presence_of(const char *endpoint, struct error *why)
{
    if (strncmp(endpoint, "tcp://", 6) == 0)
        return presence_tcp(endpoint + 6, why);
    if (strncmp(endpoint, "ipc://", 6) == 0)
        return presence_ipc(endpoint + 6, why);
    error_set(why, ERR_CONFIG, "expected tcp:// or ipc://");
    return UNUSABLE;
}

/* ---- endpoints ---- */

struct endpoint {
    const char *key, *value;
    enum server server; /* who answers requests there; SERVER_UNKNOWN: it publishes */
};

/* Somebody listens on a request endpoint: who is it. */
static void check_answer(struct doctor_report *r, const struct endpoint *end, const struct run_config *c)
{
    struct probe_answer a;
    struct error e = {0};
    char line[PROBE_LINE_MAX];
    struct net_curve keys;
    int rc = keys_of_client(c, "viewer", end->server, &keys, &e);
    if (rc == 0)
        rc = probe_ask(end->value, &keys, MSG_HELLO, PROBE_TIMEOUT_MS, &a, &e);
    keys_wipe(&keys);
    if (rc != 0) {
        doctor_find(r, FINDING_FAIL, end->key, "%s: somebody listens, but %.300s", end->value,
                    rc == ERR_NOT_FOUND ? "does not answer as a server does" : e.text);
        doctor_advise(r, "if it is no server of ours, choose another address; if it is, see its log");
        return;
    }
    bool swapped = a.server != end->server, foreign = strcmp(a.run, c->run.name) != 0;
    bool differs = a.config != 0 && a.config != run_config_hash(c);
    doctor_find(r,
                swapped              ? FINDING_FAIL
                : foreign || differs ? FINDING_WARN
                                     : FINDING_OK,
                end->key, "%s: %s%s", end->value, probe_line(&a, line), differs ? ", with another configuration" : "");
    if (swapped)
        doctor_advise(r, "a %s server answers there: correct net.*", server_name(a.server));
    else if (foreign)
        doctor_advise(r, "it is not run '%s': choose other endpoints for a second run", c->run.name);
    else if (differs)
        doctor_advise(r, "a worker with this configuration would be refused: give all processes the same file");
}

/* Nobody is there yet, and a server on this machine could be. */
static void report_free(struct doctor_report *r, const struct endpoint *end)
{
    const char *address = strncmp(end->value, "tcp://", 6) == 0 ? end->value + 6 : "";
    if (net_address_is_interface(address)) {
        doctor_find(r, FINDING_WARN, end->key, "%s: free, but no worker can connect to an interface", end->value);
        doctor_advise(r, "let workers have one of its addresses, or the name of this machine");
        return;
    }
    doctor_find(r, FINDING_OK, end->key, "%s: free", end->value);
}

static void check_endpoint(struct doctor_report *r, const struct endpoint *end, const struct run_config *c)
{
    struct error why = {0};
    switch (presence_of(end->value, &why)) {
    case LISTENING:
        if (end->server == SERVER_UNKNOWN)
            doctor_find(r, FINDING_OK, end->key, "%s: somebody publishes there", end->value);
        else
            check_answer(r, end, c);
        return;
    case FREE:
        report_free(r, end);
        return;
    case ELSEWHERE:
        doctor_find(r, FINDING_WARN, end->key, "%s: another machine's, and no server listens yet", end->value);
        doctor_advise(r, "start the server there before the workers, or correct the address");
        return;
    case UNREACHABLE:
        doctor_find(r, FINDING_FAIL, end->key, "%s: %s", end->value, why.text);
        doctor_advise(r, "correct the address, or look at the network and its firewall");
        return;
    case UNUSABLE:
        doctor_find(r, FINDING_FAIL, end->key, "%s: %s", end->value, why.text);
        doctor_advise(r, "choose another endpoint");
        return;
    }
}

static void check_distinct(struct doctor_report *r, const struct endpoint *ends, size_t n)
{
    for (size_t i = 0; i < n; i++)
        for (size_t k = i + 1; k < n; k++)
            if (strcmp(ends[i].value, ends[k].value) == 0) {
                doctor_find(r, FINDING_FAIL, ends[k].key, "%s is that of %s too", ends[k].value, ends[i].key);
                doctor_advise(r, "each needs an endpoint of its own");
            }
}

void doctor_check_endpoints(struct doctor_report *r, const struct run_config *c)
{
    const struct endpoint ends[] = {
        {"net.parameter", c->net.parameter, SERVER_PARAMETER},
        {"net.parameter_publish", c->net.parameter_publish, SERVER_UNKNOWN},
        {"net.prototype", c->net.prototype, SERVER_PROTOTYPE},
        {"net.prototype_publish", c->net.prototype_publish, SERVER_UNKNOWN},
    };
    size_t n = c->loss.prototypes == PROTOTYPES_JOINT ? 2 : 4;
    for (size_t i = 0; i < n; i++)
        check_endpoint(r, &ends[i], c);
    check_distinct(r, ends, n);
}

/* ---- Redis ---- */

static void check_version(struct doctor_report *r, struct run_source *s)
{
    redisReply *info;
    struct error e = {0};
    char version[32] = "of unknown version";
    if (run_source_command(s, REDIS_REPLY_STRING, &info, &e, "INFO server") != 0) {
        doctor_find(r, FINDING_FAIL, "redis", "%.400s", e.text);
        doctor_advise(r, "give redis.user and a password (see docs/REDIS.md), or allow that user INFO");
        return;
    }
    const char *line = strstr(info->str, "redis_version:");
    if (line)
        snprintf(version, sizeof version, "%.*s", (int)strcspn(line + 14, "\r\n"), line + 14);
    doctor_find(r, FINDING_OK, "redis", "%s, %s", s->where, version);
    freeReplyObject(info);
}

static void check_skew(struct doctor_report *r, struct run_source *s)
{
    redisReply *now;
    if (run_source_command(s, REDIS_REPLY_ARRAY, &now, NULL, "TIME") != 0)
        return;
    double skew = 0;
    if (now->elements > 0 && now->element[0]->type == REDIS_REPLY_STRING)
        skew = difftime(time(NULL), (time_t)strtoll(now->element[0]->str, NULL, 10));
    freeReplyObject(now);
    if (fabs(skew) <= SKEW_S)
        return;
    doctor_find(r, FINDING_WARN, "clock", "%.0f s ahead of Redis' clock", skew);
    doctor_advise(r, "synchronise both machines; ages of the mirror are wrong otherwise");
}

void doctor_check_redis(struct doctor_report *r, const struct run_config *c)
{
    char address[sizeof c->redis.host + 16];
    struct run_source s = {0};
    struct redis_login login;
    struct error e = {0};
    if (!c->redis.enabled) {
        bool installed = private_redis_installed();
        doctor_find(r, installed ? FINDING_OK : FINDING_WARN, "redis",
                    "redis.enabled = false; redis-server is %sinstalled", installed ? "" : "not ");
        if (!installed)
            doctor_advise(r, "for a live view install redis-server: `decant train` then starts one of its own");
        return;
    }
    if (c->redis.host[0] == '/')
        snprintf(address, sizeof address, "%s", c->redis.host);
    else
        snprintf(address, sizeof address, "%s:%" PRId64, c->redis.host, c->redis.port);
    int rc = redis_login_read(c, &login, &e);
    if (rc == 0)
        rc = run_source_connect(address, &login, &s, &e);
    redis_login_wipe(&login);
    if (rc != 0) {
        doctor_find(r, FINDING_FAIL, "redis", "%.400s", e.text);
        doctor_advise(
            r, "start it, correct redis.host, redis.port, redis.user and the password, or set redis.enabled = false");
        return;
    }
    check_version(r, &s);
    check_skew(r, &s);
    run_source_close(&s);
}
