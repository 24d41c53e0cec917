/* What a message must satisfy before it counts. Nothing here changes state, so a refusal cannot either. */
#include "server/prototype/core_state.h"

#include <math.h>
#include <string.h>

enum { TOTAL_STEPS_MAX = 1000000000 }; /* the limit of run.steps */

static struct prototype_verdict apply(void)
{
    return (struct prototype_verdict){.kind = VERDICT_APPLY};
}

static struct prototype_verdict refuse(enum reason why, const char *text)
{
    return (struct prototype_verdict){.kind = VERDICT_REFUSE, .why = why, .text = text};
}

uint32_t prototype_core_slot_rows(const struct prototype_core *c)
{
    return run_config_slot_rows(&c->config);
}

static bool has_door(enum msg_type type)
{
    return type == MSG_HELLO || type == MSG_STATS || type == MSG_MIXTURE_GET || type == MSG_PING || type == MSG_REWIND;
}

/* Door, run, configuration, shard, generation: who speaks, and of what. */
struct prototype_verdict prototype_check_envelope(const struct prototype_core *c, const struct msg *m)
{
    if (!has_door(m->type))
        return refuse(REASON_WRONG_DOOR, "the prototype server takes hello, stats, mixture_get, ping and rewind only");
    bool anonymous = (m->type == MSG_HELLO || m->type == MSG_PING) && m->run[0] == '\0';
    if (!anonymous && strcmp(m->run, c->config.run.name) != 0)
        return refuse(REASON_WRONG_RUN, "this server serves another run");
    if (m->config != 0 && m->config != c->config_hash)
        return refuse(
            REASON_WRONG_CONFIG,
            "configurations differ in a key that shapes the result: start every process with the same file and flags");
    if (m->shard != 0)
        return refuse(REASON_WRONG_SHARD, "there is one shard, 0");
    if (m->type != MSG_HELLO && m->generation != 0 && m->generation != c->generation)
        return refuse(REASON_WRONG_GENERATION, "the server has restarted: say hello again");
    return apply();
}

/* The length of the run, which beta needs and which only those who see the data know. */
struct prototype_verdict prototype_check_total_steps(const struct prototype_core *c, const struct msg *m)
{
    double told = msg_scalar(m, "total_steps", 0);
    if (told == 0)
        return apply();
    if (!(told >= 1 && told <= TOTAL_STEPS_MAX) || told != floor(told))
        return refuse(REASON_OUT_OF_RANGE, "total_steps is not a whole number from 1 to 1e9");
    if (c->total_steps != 0 && (uint64_t)told != c->total_steps)
        return refuse(REASON_WRONG_CONFIG, "total_steps differs from what this run was started with");
    return apply();
}

/* Whether images and arithmetic are the run's is the parameter server's to judge. */
struct prototype_verdict prototype_check_provenance(const struct msg *m)
{
    return provenance_is_told_right(m) ? apply() : refuse(REASON_BAD_VALUE, PROVENANCE_FORM);
}

/* In a healthy pair the mixture is at most one version ahead of the weights. One that has just been read from a
 * checkpoint may not be ahead at all when slots of the weights' step are still to be computed: it lacks the version
 * before. The envelope has checked that a generation which is not 0 is ours. */
struct prototype_verdict prototype_check_rewind(const struct prototype_core *c, const struct msg *m)
{
    if (m->generation == 0 || m->worker == 0)
        return refuse(REASON_BAD_FIELD, "rewind needs worker and generation");
    if (c->stopping)
        return refuse(REASON_STOPPING, "the server is stopping");
    uint64_t version = c->mixture->view->version;
    bool unheld = version == m->step + 1 && !c->has_previous;
    if (m->code == REWIND_UNHELD ? !unheld : version <= m->step + 1)
        return (struct prototype_verdict){.kind = VERDICT_STALE};
    return apply();
}

static uint32_t slots_held(const struct prototype_core *c, const struct msg *m)
{
    uint32_t held = 0;
    for (uint32_t s = m->slot; s < m->slot + m->slots; s++)
        held += reduce_has(c->reduce, s);
    return held;
}

struct prototype_verdict prototype_check_stats(const struct prototype_core *c, const struct msg *m)
{
    uint64_t M = (uint64_t)c->config.run.slots, version = c->mixture->view->version;
    if (m->slots == 0 || m->slot >= M || m->slots > M - m->slot)
        return refuse(REASON_OUT_OF_RANGE, "no such slots: see scalar slots of welcome");
    if (!reduce_is_node(c->reduce, m->slot, m->slots))
        return refuse(REASON_OUT_OF_RANGE, "slots are not a subtree: send an aligned power of two");
    if (c->stopping)
        return refuse(REASON_STOPPING, "the server is stopping: send again after its restart");
    if (c->total_steps == 0)
        return refuse(REASON_NOT_READY, "total_steps is not known: send it as a scalar of hello, or set run.steps");
    if (m->step < version)
        return (struct prototype_verdict){.kind = VERDICT_STALE};
    if (m->step >= c->total_steps)
        return refuse(REASON_OUT_OF_RANGE, "the run is over before this step");
    if (m->step > version)
        return refuse(REASON_FUTURE_STEP, "statistics need the mixture of their step, which does not exist yet");
    uint32_t held = slots_held(c, m);
    if (held == m->slots)
        return (struct prototype_verdict){.kind = VERDICT_DUPLICATE};
    if (held > 0)
        return refuse(REASON_OVERLAP, "some of these slots are held already: send the others alone");
    return apply();
}
