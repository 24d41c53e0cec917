/* The decisions, and the numbers behind them. */
#include "server/prototype/mirror_policy.h"

#include <string.h>
#include "common/error.h"

enum {
    REACH_DEADLINE_MS = 3000, /* to connect, log in and be judged */
    REPLY_DEADLINE_MS = 5000, /* batches in flight and not one whole answer: the link is dead */
    BACKOFF_FIRST_MS = 100,
    BACKOFF_MAX_MS = 5000,
    BACKOFF_DOUBLINGS = 6, /* 100 ms to beyond the maximum */
    UNFIT_MS = 60000,      /* an operator may have made a master of the replica */
    REFUSED_DOUBLINGS = 5, /* a full Redis is asked after 1, 2, 4 ... 32 intervals: copies cost us too */
    STAND_BACK = 10,       /* intervals before a superseded server looks again */
    STOP_DEADLINE_MS = 1000,
    WINDOW_BATCHES = 2, /* in flight at most: Redis has one while the next is made */
};

void mirror_policy_init(struct mirror_policy *p, double interval_s, uint64_t seed)
{
    memset(p, 0, sizeof *p);
    p->interval_ms = (uint64_t)(1000 * interval_s);
    rng_open(&p->jitter, seed, RNG_JITTER, 0, 0, 0);
}

static enum mirror_action decide_updating(const struct mirror_policy *p, uint64_t now_ms, const char **why)
{
    *why = "no whole answer within the deadline";
    if (p->in_flight > 0)
        return now_ms >= p->progress_ms + REPLY_DEADLINE_MS ? MIRROR_DROP : MIRROR_REST;
    *why = "an update could not be built or sent";
    return MIRROR_DROP;
}

static bool may_close(const struct mirror_policy *p, uint64_t now_ms)
{
    bool linked = p->phase == MIRROR_IDLE || p->phase == MIRROR_UPDATING;
    return p->stopping && (p->final_written || !linked || now_ms >= p->stop_ms);
}

enum mirror_action mirror_policy_decide(const struct mirror_policy *p, uint64_t now_ms, const char **why)
{
    if (may_close(p, now_ms))
        return MIRROR_CLOSE;
    switch (p->phase) {
    case MIRROR_WAITING:
        return now_ms >= p->wake_ms ? MIRROR_CONNECT : MIRROR_REST;
    case MIRROR_REACHING:
        *why = "no connection and login within the deadline";
        return now_ms >= p->wake_ms ? MIRROR_DROP : MIRROR_REST;
    case MIRROR_IDLE:
        return p->stopping || now_ms >= p->wake_ms ? MIRROR_UPDATE : MIRROR_REST;
    case MIRROR_UPDATING:
        return decide_updating(p, now_ms, why);
    }
    ASSERT(!"a mirror_phase");
    return MIRROR_REST;
}

bool mirror_policy_may_send(const struct mirror_policy *p)
{
    return p->phase == MIRROR_UPDATING && p->in_flight < WINDOW_BATCHES;
}

/* ---- the connection ---- */

void mirror_policy_reaching(struct mirror_policy *p, uint64_t now_ms)
{
    p->phase = MIRROR_REACHING;
    p->wake_ms = now_ms + REACH_DEADLINE_MS;
}

void mirror_policy_linked(struct mirror_policy *p, uint64_t now_ms)
{
    p->phase = MIRROR_IDLE;
    p->wake_ms = now_ms;
    p->in_flight = 0;
}

/* Between a half and the whole of the pause, so that many servers do not come back at once. */
static void wait_for(struct mirror_policy *p, uint64_t now_ms, uint64_t pause_ms)
{
    p->phase = MIRROR_WAITING;
    p->wake_ms = now_ms + (uint64_t)((double)pause_ms * (0.5 + 0.5 * (double)rng_uniform(&p->jitter)));
    p->in_flight = 0;
}

void mirror_policy_lost(struct mirror_policy *p, uint64_t now_ms)
{
    uint32_t doublings = p->failures < BACKOFF_DOUBLINGS ? p->failures : BACKOFF_DOUBLINGS;
    uint64_t pause = (uint64_t)BACKOFF_FIRST_MS << doublings;
    p->failures++;
    wait_for(p, now_ms, pause < BACKOFF_MAX_MS ? pause : BACKOFF_MAX_MS);
}

void mirror_policy_unfit(struct mirror_policy *p, uint64_t now_ms)
{
    p->failures++;
    wait_for(p, now_ms, UNFIT_MS);
}

/* ---- updates ---- */

void mirror_policy_updating(struct mirror_policy *p, uint64_t now_ms)
{
    p->phase = MIRROR_UPDATING;
    p->began_ms = now_ms;
    p->final = p->stopping;
}

void mirror_policy_sent(struct mirror_policy *p, uint64_t now_ms)
{
    if (p->in_flight++ == 0)
        p->progress_ms = now_ms;
}

void mirror_policy_answered(struct mirror_policy *p, uint64_t now_ms)
{
    ASSERT(p->in_flight > 0);
    p->in_flight--;
    p->progress_ms = now_ms;
}

void mirror_policy_ended(struct mirror_policy *p, enum mirror_outcome outcome)
{
    uint32_t doublings = p->refusals < REFUSED_DOUBLINGS ? p->refusals : REFUSED_DOUBLINGS;
    uint64_t intervals = outcome == MIRROR_TAKEN ? 1 : outcome == MIRROR_REFUSED ? 1u << doublings : STAND_BACK;
    ASSERT(p->phase == MIRROR_UPDATING && p->in_flight == 0);
    p->phase = MIRROR_IDLE;
    p->wake_ms = p->began_ms + intervals * p->interval_ms;
    p->superseded = outcome == MIRROR_SUPERSEDED;
    p->refusals = outcome == MIRROR_REFUSED ? p->refusals + 1 : 0;
    p->failures = outcome == MIRROR_TAKEN ? 0 : p->failures;
    p->final_written = p->final;
}

void mirror_policy_more(struct mirror_policy *p)
{
    mirror_policy_hurry(p);
    p->final_written = false;
}

void mirror_policy_hurry(struct mirror_policy *p)
{
    if (p->phase == MIRROR_IDLE)
        p->wake_ms = 0;
}

void mirror_policy_stop(struct mirror_policy *p, uint64_t now_ms)
{
    p->stopping = true;
    p->stop_ms = now_ms + STOP_DEADLINE_MS;
}
