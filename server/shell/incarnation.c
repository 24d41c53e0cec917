/* The order of things in a turn matters, and is the same in both servers:
 *
 *   1. A failed core ends the process. Nothing else is done with it, least of all something that could succeed and hide
 *      the failure.
 *   2. The pair is noted before a REWIND is judged, because judging compares with what was noted.
 *   3. Going back comes before sending: what the core has to say of the state that it loses is still true, and the
 *      announcement of the new generation leaves after it, in the same turn.
 *   4. A snapshot is handed to the writer after the messages have left, because workers wait for them and nobody waits
 *      for the disk. It is taken after going back, so that it can only be of the state that the core has now.
 *   5. The end is looked at last: step T counts when its files are on disk, and the snapshot of T has only just been
 *      handed over. What settling says is sent at once. */
#include "server/shell/incarnation.h"

#include <inttypes.h>
#include "common/log.h"

/* ---- the core and the world, for short ---- */

static uint64_t step_of(const struct incarnation *in)
{
    return in->o.core->step(in->o.core_arg);
}

static uint64_t total_steps_of(const struct incarnation *in)
{
    return in->o.core->total_steps(in->o.core_arg);
}

static bool is_stopped(const struct incarnation *in)
{
    return in->o.core->stopped(in->o.core_arg);
}

static uint64_t other_generation(const struct incarnation *in)
{
    return in->o.world->other_generation(in->o.world_arg);
}

static bool is_complete(const struct incarnation *in, uint64_t step)
{
    return in->o.world->step_complete(in->o.world_arg, step);
}

static const char *other_name(const struct incarnation *in)
{
    return server_name(server_other(in->o.server));
}

/* Without it nobody knows later whether the other server has lost something: better to end and be started again. */
static int known_generation(const struct incarnation *in, uint64_t *out, struct error *e)
{
    *out = other_generation(in);
    if (*out != GENERATION_UNKNOWN)
        return 0;
    return error_set(e, ERR_IO,
                     "generation-%s in run.out cannot be read: look at its permissions and at the limit of open files "
                     "(ulimit -n)",
                     other_name(in));
}

/* ---- start ---- */

int incarnation_start(struct incarnation *in, const struct incarnation_options *o, bool resume, struct error *e)
{
    *in = (struct incarnation){.o = *o, .directory_ours = resume};
    pairing_init(&in->pairing);
    int rc = o->world->raise_generation(o->world_arg, &in->generation, e);
    if (rc != 0)
        return rc;
    /* Before the checkpoint is looked for, so that what the other server does from here on is noticed. */
    uint64_t other;
    rc = known_generation(in, &other, e);
    if (rc != 0)
        return rc;
    rc = o->core->create(o->core_arg, in->generation, resume, e);
    if (rc != 0)
        return rc;
    if (o->core->bound_lineage)
        o->core->bound_lineage(o->core_arg, other);
    in->was_complete = total_steps_of(in) > 0 && step_of(in) == total_steps_of(in);
    pairing_begin(&in->pairing, other, step_of(in));
    return 0;
}

void incarnation_before_message(struct incarnation *in, const struct msg *m)
{
    const struct incarnation_core *core = in->o.core;
    if (core->doubts_lineage && core->doubts_lineage(in->o.core_arg, m)) {
        uint64_t other = other_generation(in);
        if (other != GENERATION_UNKNOWN)
            core->bound_lineage(in->o.core_arg, other);
    }
}

void incarnation_fail(struct incarnation *in, int code, const char *text)
{
    if (in->leaving)
        return;
    error_set(&in->error, code, "step %" PRIu64 ": %s; resume from the newest checkpoint", step_of(in), text);
    in->leaving = true;
}

/* ---- going back ---- */

void incarnation_note_pair(struct incarnation *in, uint64_t now)
{
    uint64_t step = step_of(in);
    pairing_moved(&in->pairing, step, now);
    if (!pairing_due(&in->pairing, step))
        return;
    uint64_t other = other_generation(in);
    if (other != GENERATION_UNKNOWN) /* else at the next step */
        pairing_note(&in->pairing, other, step);
}

int incarnation_go_back(struct incarnation *in, uint64_t now, uint64_t step_max, struct error *e)
{
    uint64_t generation, other, from = step_of(in);
    int rc = in->o.world->raise_generation(in->o.world_arg, &generation, e);
    if (rc == 0)
        rc = known_generation(in, &other, e); /* before looking for the checkpoint, as at the start */
    if (rc != 0)
        return rc;
    rc = in->o.core->load(in->o.core_arg, now, generation, step_max, e);
    if (rc != 0)
        return rc;
    in->generation = generation;
    in->directory_ours = true;
    pairing_begin(&in->pairing, other, step_of(in));
    log_warn("event=rewound from=%" PRIu64 " step=%" PRIu64 " generation=%" PRIu64, from, step_of(in), generation);
    return 0;
}

/* Whether the server goes back, and to what at most. */
static bool may_go_back(struct incarnation *in, uint64_t now, uint64_t *step_max)
{
    uint64_t other = other_generation(in);
    switch (other == GENERATION_UNKNOWN ? PAIRING_REFUSE : pairing_judge(&in->pairing, other, now)) {
    case PAIRING_GO_BACK:
        return true;
    case PAIRING_GO_NEWEST:
        in->pairs_stuck++;
        log_warn("event=pair_stuck step=%" PRIu64 " other_step=%" PRIu64
                 " cause=\"nothing moves, and the %s server has not restarted: a client sent one contribution without "
                 "the other\"",
                 step_of(in), *step_max, other_name(in));
        *step_max = UINT64_MAX;
        return true;
    case PAIRING_REFUSE:
        break;
    }
    uint64_t count = ++in->rewinds_refused;
    if ((count & (count - 1)) == 0)
        log_warn("event=rewind_refused count=%" PRIu64 " cause=\"the %s server has not restarted\"", count,
                 other_name(in));
    return false;
}

void incarnation_mind_rewind(struct incarnation *in, uint64_t now)
{
    struct error e = {0};
    uint64_t step_max;
    if (!in->o.core->take_rewind(in->o.core_arg, &step_max) || !may_go_back(in, now, &step_max))
        return;
    int rc = incarnation_go_back(in, now, step_max, &e);
    if (rc != 0)
        incarnation_fail(in, rc, e.text);
}

/* ---- the end ---- */

/* Step T can be whole on disk while this server stands before it: files that were still being written when it went
 * back. The other server may have read them and left, so the run ends with them here too. */
void incarnation_jump_to_end(struct incarnation *in, uint64_t now)
{
    struct error e = {0};
    uint64_t total = total_steps_of(in);
    bool before = total > 0 && step_of(in) < total && !is_stopped(in);
    if (!before || !in->directory_ours || in->end_unsound || in->leaving || !is_complete(in, total))
        return;
    int rc = incarnation_go_back(in, now, total, &e);
    in->end_unsound = step_of(in) < total;
    if (rc != 0)
        incarnation_fail(in, rc, e.text);
}

static void say_what_is_missing(struct incarnation *in, uint64_t now)
{
    if (in->waiting_ms != 0 && now - in->waiting_ms < INCARNATION_WAITING_MS)
        return;
    if (in->waiting_ms != 0)
        log_warn(
            "event=waiting_for_last_file step=%" PRIu64
            " hint=\"the %s server has not written its file of the last step: does it run, with the same run.out?\"",
            step_of(in), other_name(in));
    in->waiting_ms = now;
}

/* The run cannot fall back any more once every file of step T is on disk: only then is it over. */
void incarnation_settle(struct incarnation *in, uint64_t now)
{
    if (in->leaving || !in->o.core->at_end(in->o.core_arg) || in->o.world->writing(in->o.world_arg))
        return;
    if (!is_complete(in, step_of(in))) {
        say_what_is_missing(in, now);
        return;
    }
    in->waiting_ms = 0;
    in->settled = true;
    int rc = in->o.core->settle(in->o.core_arg, now);
    if (rc != 0)
        incarnation_fail(in, rc, error_name(rc));
    else
        in->o.world->send(in->o.world_arg);
}

/* A run that was over before this process began: whoever comes is told, and leaves. Some may still be starting. */
static bool visitors_left(struct incarnation *in, uint64_t now)
{
    if (in->o.core->workers(in->o.core_arg) > 0)
        in->visited_ms = now;
    if (in->visited_ms == 0)
        return now - in->stopped_ms >= in->o.patience.visit_ms;
    return now - in->visited_ms >= in->o.patience.farewell_ms;
}

/* Everybody has heard that it is over, or has had the time to. */
static bool heard(struct incarnation *in, uint64_t now)
{
    uint64_t waited = now - in->stopped_ms;
    if (in->signals >= 2 || (in->signals == 1 && in->was_complete))
        return true;
    if (in->settled && in->was_complete)
        return visitors_left(in, now);
    if (in->settled)
        return in->o.core->workers(in->o.core_arg) == 0 || waited >= in->o.patience.farewell_ms;
    return waited >= in->o.patience.linger_ms;
}

void incarnation_leave(struct incarnation *in, uint64_t now)
{
    if (in->leaving || !is_stopped(in))
        return;
    if (in->stopped_ms == 0)
        in->stopped_ms = now;
    in->leaving = !in->o.world->writing(in->o.world_arg) && heard(in, now);
}

/* ---- turns ---- */

void incarnation_end_turn(struct incarnation *in, uint64_t now, int rc)
{
    if (in->leaving)
        return;
    if (rc != 0) {
        incarnation_fail(in, rc, error_name(rc));
        return;
    }
    incarnation_note_pair(in, now);
    incarnation_mind_rewind(in, now);
    if (in->leaving)
        return;
    in->o.world->send(in->o.world_arg);
    in->o.core->checkpoint(in->o.core_arg);
    incarnation_settle(in, now);
    incarnation_leave(in, now);
}

void incarnation_on_timer(struct incarnation *in, uint64_t now, int rc)
{
    if (rc == 0)
        incarnation_jump_to_end(in, now);
    incarnation_end_turn(in, now, rc);
}

void incarnation_on_signal(struct incarnation *in, uint64_t now)
{
    in->signals++;
    const struct incarnation_core *core = in->o.core;
    int rc = in->signals == 1 ? core->drain(in->o.core_arg, now) : core->stop(in->o.core_arg, now);
    incarnation_end_turn(in, now, rc);
}

void incarnation_on_written(struct incarnation *in, uint64_t now, const struct error *result)
{
    if (result->code == ERR_STATE)
        incarnation_fail(in, result->code, result->text);
    incarnation_end_turn(in, now, 0);
}

const char *incarnation_complaint(const struct incarnation *in)
{
    if (in->signals > 0 || is_stopped(in))
        return "stopping";
    if (in->waiting_ms != 0)
        return in->o.server == SERVER_PARAMETER
                   ? "the last step's mixture.safetensors is missing: does the prototype server run?"
                   : "the last step's encoder.safetensors is missing: does the parameter server run?";
    return NULL;
}
