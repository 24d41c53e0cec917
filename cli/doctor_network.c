/* Endpoints and Redis: is an address free, or who answers there. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include "cli/doctor.h"
#include "cli/presence.h"
#include "cli/private_redis.h"
#include "cli/run_source.h"
#include "common/net_address.h"
#include "proto/keys.h"
#include "proto/mixture_wire.h"
#include "proto/probe.h"
#include "proto/redis_info.h"

enum { SKEW_S = 5 /* ages shown by status and top would mislead */ };

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
        doctor_find(r, FINDING_WARN, end->key, "%s: free, but workers cannot connect to an interface", end->value);
        doctor_advise(r, "`decant train` gives its workers one of its addresses; start others with one as their net.*, "
                         "or with the name of this machine");
        return;
    }
    doctor_find(r, FINDING_OK, end->key, "%s: free", end->value);
}

static void report_stranger(struct doctor_report *r, const struct endpoint *end)
{
    doctor_find(r, FINDING_FAIL, end->key, "%s: whoever listens there does not speak ZeroMQ", end->value);
    doctor_advise(r, "it is no server of a run, but perhaps an HTTP port such as metrics.*: choose another address");
}

static void check_endpoint(struct doctor_report *r, const struct endpoint *end, const struct run_config *c)
{
    struct error why = {0};
    switch (presence_of(end->value, &why)) {
    case LISTENING:
        if (!presence_greets(end->value))
            report_stranger(r, end);
        else if (end->server == SERVER_UNKNOWN)
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

/* HTTP of a server of this machine; who listens there already may be that server. */
static void check_metrics(struct doctor_report *r, const char *key, const char *value)
{
    char endpoint[sizeof "tcp://" + 256];
    struct error why = {0};
    if (value[0] == '\0')
        return;
    snprintf(endpoint, sizeof endpoint, "tcp://%.255s", value);
    enum presence p = presence_to_bind(endpoint, &why);
    if (p == FREE) {
        doctor_find(r, FINDING_OK, key, "%s: free", value);
    } else if (p == LISTENING) {
        doctor_find(r, FINDING_WARN, key, "%s: somebody listens there", value);
        doctor_advise(r, "all is well if it is this run's server; another run needs another address");
    } else if (p == ELSEWHERE) {
        doctor_find(r, FINDING_WARN, key, "%s: another machine's address", value);
        doctor_advise(r, "right if that server runs there; it listens on its own machine's addresses only");
    } else {
        doctor_find(r, FINDING_FAIL, key, "%s: %s", value, why.text);
        doctor_advise(r, "an address is HOST:PORT, without tcp://");
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
    check_metrics(r, "metrics.parameter", c->metrics.parameter);
    if (n == 4)
        check_metrics(r, "metrics.prototype", c->metrics.prototype);
}

/* ---- Redis ---- */

static void check_fitness(struct doctor_report *r, struct run_source *s, const struct run_config *c)
{
    redisReply *info;
    struct error e = {0};
    struct redis_judgement j;
    static const enum finding_state states[] = {
        [REDIS_FIT] = FINDING_OK, [REDIS_TIGHT] = FINDING_WARN, [REDIS_UNFIT] = FINDING_FAIL};
    if (run_source_command(s, REDIS_REPLY_STRING, &info, &e, "INFO") != 0) {
        doctor_find(r, FINDING_FAIL, "redis", "%.400s", e.text);
        doctor_advise(r, "give redis.user and a password (see docs/REDIS.md), or allow that user INFO");
        return;
    }
    redis_judge(
        info->str, info->len,
        redis_bytes_needed(c->mixture.components, c->mixture.dimensions, c->mixture.covariance == COVARIANCE_SPHERICAL),
        &j);
    doctor_find(r, states[j.fitness], "redis", "%s, %s%s%s", s->where, j.version[0] ? j.version : "of unknown version",
                j.text[0] ? ": " : "", j.text);
    if (j.fitness != REDIS_FIT)
        doctor_advise(r, "%s", j.advice);
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
    struct run_source s = {0};
    struct redis_address address;
    struct error e = {0};
    if (!c->redis.enabled) {
        bool installed = private_redis_installed();
        doctor_find(r, installed ? FINDING_OK : FINDING_WARN, "redis",
                    "redis.enabled = false; redis-server is %sinstalled", installed ? "" : "not ");
        if (!installed)
            doctor_advise(r, "for a live view install redis-server: `decant train` then starts one of its own");
        return;
    }
    int rc = redis_address_configured(c, &address, &e);
    if (rc == 0)
        rc = run_source_connect(&address, &s, &e);
    redis_address_wipe(&address);
    if (rc != 0) {
        doctor_find(r, FINDING_FAIL, "redis", "%.400s", e.text);
        doctor_advise(
            r, "start it, correct redis.host, redis.port, redis.user and the password, or set redis.enabled = false");
        return;
    }
    check_fitness(r, &s, c);
    check_skew(r, &s);
    run_source_close(&s);
}
