/* Exits and signals only change the state; what follows in time happens in supervision_tick, in a defined order. */
#include "cli/supervision.h"

#include "common/error.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>

int supervision_init(struct supervision *s, unsigned workers, const struct supervision_hooks *hooks)
{
    memset(s, 0, sizeof *s);
    s->hooks = *hooks;
    s->count = CHILD_WORKERS + workers;
    s->children = calloc(s->count, sizeof *s->children);
    return s->children ? 0 : ERR_MEMORY;
}

void supervision_fini(struct supervision *s)
{
    free(s->children);
    s->children = NULL;
}

void supervision_started(struct supervision *s, unsigned child)
{
    s->children[child].running = true;
    s->children[child].restart_at_ms = 0;
}

/* ---- phases ---- */

/* Whether the phase stops this child. */
static bool in_phase(enum supervision_phase phase, unsigned child)
{
    switch (phase) {
    case STOP_PARAMETER:
        return child == CHILD_PARAMETER;
    case STOP_WORKERS:
        return child >= CHILD_WORKERS;
    case STOP_PROTOTYPE:
        return child == CHILD_PROTOTYPE;
    case STOP_REDIS:
        return child == CHILD_REDIS;
    default:
        return false;
    }
}

static bool phase_alive(const struct supervision *s)
{
    for (unsigned i = 0; i < s->count; i++)
        if (in_phase(s->phase, i) && s->children[i].running)
            return true;
    return false;
}

static void phase_signal(struct supervision *s, int number)
{
    for (unsigned i = 0; i < s->count; i++)
        if (in_phase(s->phase, i) && s->children[i].running)
            s->hooks.signal(s->hooks.arg, i, number);
}

static void phase_enter(struct supervision *s, enum supervision_phase phase, uint64_t now)
{
    bool grace = phase == STOP_WORKERS && !s->failed && s->heard;
    s->phase = phase;
    s->terms = 0;
    s->signal_at_ms = now + (grace ? SUPERVISION_GRACE_MS : 0);
    s->kill_at_ms = s->signal_at_ms + SUPERVISION_DEADLINE_MS;
}

static void begin_stop(struct supervision *s, uint64_t now)
{
    if (s->phase == RUNNING)
        phase_enter(s, STOP_PARAMETER, now);
}

void supervision_fail(struct supervision *s, uint64_t now_ms)
{
    s->failed = true;
    begin_stop(s, now_ms);
}

void supervision_stop(struct supervision *s, uint64_t now_ms)
{
    s->interrupted = true;
    begin_stop(s, now_ms);
}

bool supervision_interrupted_again(struct supervision *s)
{
    bool again = s->asked;
    s->asked = true;
    return again;
}

/* The phases go on to be passed, each as soon as its processes are gone. */
void supervision_at_once(struct supervision *s, uint64_t now_ms)
{
    s->interrupted = s->at_once = true;
    begin_stop(s, now_ms);
    for (unsigned i = 0; i < s->count; i++)
        if (s->children[i].running)
            s->hooks.signal(s->hooks.arg, i, SIGKILL);
}

/* SIGTERM when it is due, SIGKILL when that did not help. After a failure the step in progress cannot be finished, so a
 * second SIGTERM tells servers and workers not to wait for it. */
static void phase_press(struct supervision *s, uint64_t now)
{
    if (s->terms < (s->failed ? 2u : 1u) && now >= s->signal_at_ms + s->terms * SUPERVISION_AGAIN_MS) {
        phase_signal(s, SIGTERM);
        s->terms++;
    }
    if (now < s->kill_at_ms)
        return;
    for (unsigned i = 0; i < s->count; i++)
        if (in_phase(s->phase, i) && s->children[i].running && !s->at_once) {
            s->failed = s->children[i].overdue = true;
            s->hooks.note(s->hooks.arg, NOTE_OVERDUE, i);
        }
    phase_signal(s, SIGKILL);
    s->kill_at_ms = now + SUPERVISION_DEADLINE_MS;
}

/* ---- exits ---- */

/* Notes when it is to be started again, or that it is not. */
static bool plan_restart(struct supervised *c, uint64_t now, uint64_t progress)
{
    enum death why = c->ending == ENDING_KILLED || c->ending == ENDING_TERMED ? DEATH_KILLED : DEATH_FAILED;
    bool again = c->ending != ENDING_LASTING && restarts_after(&c->restarts, why, now, progress);
    c->restart_at_ms = again ? now + SUPERVISION_RESTART_MS : 0;
    return again;
}

static enum verdict server_death(struct supervision *s, struct supervised *c, uint64_t now, uint64_t progress)
{
    if (s->phase != RUNNING && c->ending == ENDING_TERMED)
        return VERDICT_EXPECTED;
    if (s->phase != RUNNING) {
        bool already = s->failed;
        supervision_fail(s, now);
        return already ? VERDICT_FAILED_TOO : VERDICT_WHILE_STOPPING;
    }
    if (plan_restart(c, now, progress))
        return VERDICT_RESTART;
    supervision_fail(s, now);
    return c->ending == ENDING_LASTING ? VERDICT_LASTING : VERDICT_GIVEN_UP;
}

/* It ends when the run is over, or because somebody told it to. */
static enum verdict parameter_left(struct supervision *s, uint64_t now, bool complete)
{
    if (s->phase != RUNNING)
        return VERDICT_EXPECTED;
    begin_stop(s, now);
    if (complete)
        return VERDICT_EXPECTED;
    s->failed = true;
    return VERDICT_STOPPED;
}

/* It leaves by itself when the last step is on disk; the parameter server does so at about the same time. */
static enum verdict prototype_left(struct supervision *s, uint64_t now)
{
    if (s->phase == RUNNING)
        s->children[CHILD_PROTOTYPE].restart_at_ms = now + SUPERVISION_LEFT_EARLY_MS;
    return VERDICT_EXPECTED;
}

static enum verdict worker_death(struct supervision *s, struct supervised *c, uint64_t now, uint64_t progress)
{
    if (s->phase != RUNNING)
        return VERDICT_EXPECTED;
    if (plan_restart(c, now, progress))
        return VERDICT_RESTART;
    return c->ending == ENDING_LASTING ? VERDICT_LASTING : VERDICT_LEFT_ALONE;
}

/* It leaves when it hears that the run is over, a moment before the parameter server does, or because somebody told it
 * to. Then it is missed: the run was given that many workers, and one that nobody replaces may have been the last. */
static enum verdict worker_left(struct supervision *s, struct supervised *c, uint64_t now, uint64_t progress)
{
    if (s->phase != RUNNING)
        return VERDICT_EXPECTED;
    if (!restarts_after(&c->restarts, DEATH_KILLED, now, progress))
        return VERDICT_LEFT_ALONE;
    c->restart_at_ms = now + SUPERVISION_WORKER_LEFT_MS;
    return VERDICT_EXPECTED;
}

enum verdict supervision_on_exit(struct supervision *s, unsigned child, enum ending ending, uint64_t now_ms,
                                 uint64_t progress, bool complete)
{
    struct supervised *c = &s->children[child];
    c->running = false;
    c->ending = ending;
    c->restart_at_ms = 0;
    if (s->at_once || c->overdue)
        return VERDICT_EXPECTED;
    if (child == CHILD_REDIS)
        return s->phase < STOP_REDIS ? VERDICT_MIRROR_GONE : VERDICT_EXPECTED;
    if (ending == ENDING_DIVERGED && s->phase == RUNNING) {
        s->diverged = true;
        supervision_fail(s, now_ms);
        return VERDICT_DIVERGED;
    }
    if (child >= CHILD_WORKERS)
        return ending == ENDING_WELL ? worker_left(s, c, now_ms, progress) : worker_death(s, c, now_ms, progress);
    if (ending != ENDING_WELL)
        return server_death(s, c, now_ms, progress);
    return child == CHILD_PARAMETER ? parameter_left(s, now_ms, complete) : prototype_left(s, now_ms);
}

/* ---- time ---- */

/* Workers that have nothing to do wait: a server may yet die and go back. */
static bool is_due(const struct supervision *s, unsigned child, uint64_t now)
{
    const struct supervised *c = &s->children[child];
    return c->restart_at_ms != 0 && !c->running && now >= c->restart_at_ms && !(child >= CHILD_WORKERS && s->over);
}

static void restart_children(struct supervision *s, uint64_t now)
{
    for (unsigned i = 0; i < s->count && s->phase == RUNNING; i++) {
        struct supervised *c = &s->children[i];
        if (!is_due(s, i, now))
            continue;
        c->restart_at_ms = 0;
        s->hooks.start(s->hooks.arg, i);
    }
}

static void mind_workers(struct supervision *s, uint64_t now)
{
    for (unsigned i = CHILD_WORKERS; i < s->count; i++)
        if (s->children[i].running || s->children[i].restart_at_ms != 0)
            return;
    if (s->over)
        return;
    supervision_fail(s, now);
    s->hooks.note(s->hooks.arg, NOTE_NO_WORKERS, 0);
}

void supervision_tick(struct supervision *s, uint64_t now_ms)
{
    if (s->phase == RUNNING)
        restart_children(s, now_ms);
    if (s->phase == RUNNING)
        mind_workers(s, now_ms);
    if (s->phase != RUNNING && s->phase != ENDED)
        phase_press(s, now_ms);
    while (s->phase != RUNNING && s->phase != ENDED && !phase_alive(s))
        phase_enter(s, s->phase + 1, now_ms);
}

enum supervision_outcome supervision_outcome(const struct supervision *s)
{
    if (s->diverged)
        return OUTCOME_DIVERGED;
    if (s->failed && !s->at_once)
        return OUTCOME_FAILED;
    return s->interrupted ? OUTCOME_INTERRUPTED : OUTCOME_ORDERLY;
}
