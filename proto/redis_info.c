/* INFO is lines of "field:value" below "# Section" titles. */
#include "proto/redis_info.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    STREAMS_VERSION = 5,       /* of XADD, the youngest command that the mirror uses */
    PROTOTYPE_BYTES = 1500,    /* of a prototype's hash and its places in both indices, beside mean and variance */
    OTHER_BYTES = 8 * 1048576, /* the stream of metrics, workers, and what writing takes for a moment */
};

/* The value of a field, as a text of at most size - 1 bytes without anything that steers a terminal or ends a quote. */
static bool field(const char *info, size_t size, const char *name, char *out, size_t out_size)
{
    size_t length = strlen(name), n = 0;
    const char *end = info + size;
    out[0] = '\0';
    for (const char *line = info; line < end;) {
        const char *stop = memchr(line, '\n', (size_t)(end - line));
        stop = stop ? stop : end;
        if ((size_t)(stop - line) > length && memcmp(line, name, length) == 0 && line[length] == ':') {
            for (const char *p = line + length + 1; p < stop && *p != '\r' && n + 1 < out_size; p++)
                out[n++] = isgraph((unsigned char)*p) && strchr("\"'\\", *p) == NULL ? *p : '?';
            out[n] = '\0';
            return true;
        }
        line = stop < end ? stop + 1 : end;
    }
    return false;
}

static bool field_is(const char *info, size_t size, const char *name, const char *value)
{
    char text[32];
    return field(info, size, name, text, sizeof text) && strcmp(text, value) == 0;
}

static uint64_t field_number(const char *info, size_t size, const char *name)
{
    char text[32];
    return field(info, size, name, text, sizeof text) ? strtoull(text, NULL, 10) : 0;
}

static void unfit(struct redis_judgement *out, const char *text, const char *advice)
{
    out->fitness = REDIS_UNFIT;
    snprintf(out->text, sizeof out->text, "%s", text);
    snprintf(out->advice, sizeof out->advice, "%s", advice);
}

static void judge_replica(const char *info, size_t size, struct redis_judgement *out)
{
    char host[80], port[16];
    unfit(out, "it is a replica, which refuses to be written to", "give the address of its master");
    if (field(info, size, "master_host", host, sizeof host) && field(info, size, "master_port", port, sizeof port))
        snprintf(out->advice, sizeof out->advice, "give the address of its master, which it knows as %s:%s", host,
                 port);
}

static void judge_memory(const char *info, size_t size, uint64_t needed, struct redis_judgement *out)
{
    char policy[32];
    uint64_t most = field_number(info, size, "maxmemory"), used = field_number(info, size, "used_memory");
    uint64_t room = most > used ? most - used : 0;
    if (most == 0 || room >= needed)
        return;
    field(info, size, "maxmemory_policy", policy, sizeof policy);
    bool evicts = strncmp(policy, "allkeys", 7) == 0;
    out->fitness = REDIS_TIGHT;
    snprintf(out->text, sizeof out->text, "maxmemory leaves %.1f MiB and the mirror may take %.1f: with %s it %s",
             (double)room / 1048576, (double)needed / 1048576, policy[0] ? policy : "its policy",
             evicts ? "throws keys away" : "refuses writes when full");
    snprintf(out->advice, sizeof out->advice, "raise maxmemory, or use a Redis of the mirror's own%s",
             evicts ? "; with noeviction it says so instead of losing prototypes" : "");
}

void redis_judge(const char *info, size_t size, uint64_t needed, struct redis_judgement *out)
{
    *out = (struct redis_judgement){.fitness = REDIS_FIT};
    if (!field(info, size, "redis_version", out->version, sizeof out->version))
        unfit(out, "its INFO names no redis_version: it is no Redis", "correct the address");
    else if (atoi(out->version) < STREAMS_VERSION)
        unfit(out, "it is older than 5.0 and has no streams", "use Redis 5.0 or later");
    else if (field_is(info, size, "redis_mode", "sentinel"))
        unfit(out, "it is a sentinel, which holds no data", "give the address of the master that it watches");
    else if (field_is(info, size, "cluster_enabled", "1"))
        unfit(out, "it is a cluster, over which the keys of a run would be spread",
              "use a Redis without cluster mode (cluster-enabled no); a small one of its own will do");
    else if (field_is(info, size, "role", "slave") || field_is(info, size, "role", "replica"))
        judge_replica(info, size, out);
    else
        judge_memory(info, size, needed, out);
}

uint64_t redis_bytes_needed(uint64_t K, uint64_t D, uint64_t variances)
{
    return K * (4 * (D + variances) + PROTOTYPE_BYTES) + OTHER_BYTES;
}

const char *redis_error_advice(const char *reply)
{
    static const struct {
        const char *word, *advice;
    } known[] = {
        {"NOAUTH", "it wants a password: set DECANT_REDIS_PASSWORD or redis.password_file"},
        {"WRONGPASS", "correct redis.user and the password"},
        {"NOPERM", "allow redis.user what docs/REDIS.md lists"},
        {"OOM", "it is full: raise its maxmemory, or use a Redis of the mirror's own"},
        {"READONLY", "it is a replica: give the address of its master"},
        {"MOVED", "it is a cluster: use a Redis without cluster mode"},
        {"CLUSTERDOWN", "it is a cluster: use a Redis without cluster mode"},
        {"CROSSSLOT", "it is a cluster: use a Redis without cluster mode"},
        {"MISCONF", "it cannot write its dump: see its log"},
        {"WRONGTYPE", "another program uses keys of this run: choose another run.name"},
        {"DENIED", "it is in protected mode: give it a password, or bind it to this machine"},
        {"LOADING", "it is starting"},
        {"BUSY", "a script of somebody else runs there"},
        {"NOREPLICAS", "its replicas are away (min-replicas-to-write)"},
    };
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++)
        if (strstr(reply, known[i].word) != NULL) /* within a script's error it is not the first word */
            return known[i].advice;
    if (strstr(reply, "max number of clients") != NULL)
        return "it has too many clients: raise its maxclients";
    if (strstr(reply, "invalid password") != NULL || strstr(reply, "without any password") != NULL)
        return "correct redis.user and the password";
    return "see its log";
}
