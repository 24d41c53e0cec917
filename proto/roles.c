/* The table of roles by message type, and what types alone do not say. */
#include "proto/roles.h"

#include <string.h>

#define BIT(type) (1u << (type))
_Static_assert(MSG_TYPE_END <= 32, "types fit into a mask");

enum {
    LOOKS = BIT(MSG_HELLO) | BIT(MSG_PING) | BIT(MSG_MIXTURE_GET),
    STREAMS = LOOKS | BIT(MSG_STATS),
};

static const uint32_t may_send[ROLE_END][SERVERS] = {
    [ROLE_VIEWER] = {[SERVER_PARAMETER] = LOOKS, [SERVER_PROTOTYPE] = LOOKS},
    [ROLE_CLIENT] = {[SERVER_PARAMETER] = LOOKS, [SERVER_PROTOTYPE] = STREAMS},
    [ROLE_WORKER] = {[SERVER_PARAMETER] = UINT32_MAX, [SERVER_PROTOTYPE] = UINT32_MAX},
};

static const char *const names[ROLE_END] = {
    [ROLE_NONE] = "none", [ROLE_VIEWER] = "viewer", [ROLE_CLIENT] = "client", [ROLE_WORKER] = "worker"};

const char *role_name(enum role r)
{
    return names[r];
}

enum role role_parse(const char *name)
{
    for (enum role r = ROLE_NONE + 1; r < ROLE_END; r++)
        if (strcmp(name, names[r]) == 0)
            return r;
    return ROLE_NONE;
}

/* A PING with `worker` is that worker's sign of life, or its goodbye; the scalars of a HELLO set the run's length and
 * say which images it trains on. */
static bool only_looks(const struct msg *m)
{
    return m->worker == 0 && m->scalar_count == 0;
}

bool role_may_send(enum role r, enum server to, const struct msg *m)
{
    bool touches = may_send[r][to] != LOOKS;
    if ((unsigned)m->type >= MSG_TYPE_END || (may_send[r][to] & BIT(m->type)) == 0)
        return false;
    return touches || only_looks(m);
}

bool role_may_subscribe(enum role r, enum server to, const void *topic, size_t size)
{
    static const char weights[] = "weights";
    bool takes_weights = to == SERVER_PARAMETER && size < sizeof weights && memcmp(weights, topic, size) == 0;
    return r == ROLE_WORKER || (r != ROLE_NONE && !takes_weights);
}
