/* What the launcher decides: which process is started again, when the run ends, who is told to end and in which order.
 * A state machine without process, file or clock; the launcher carries out what it asks for through the hooks and tells
 * it what has happened. Time is in milliseconds of any monotonic clock that never reads 0.
 *
 *   RUNNING -> STOP_PARAMETER -> STOP_WORKERS -> STOP_PROTOTYPE -> STOP_REDIS -> ENDED
 *
 * A phase lasts until its processes are gone. In each, SIGTERM is sent, and SIGKILL when that did not help in time. */
#ifndef DECANT_CLI_SUPERVISION_H
#define DECANT_CLI_SUPERVISION_H

#include <stdbool.h>
#include <stdint.h>
#include "cli/restarts.h"

enum {
    SUPERVISION_GRACE_MS = 5000,       /* workers that hear STOP leave by themselves within this */
    SUPERVISION_AGAIN_MS = 300,        /* between the two SIGTERMs after a failure */
    SUPERVISION_DEADLINE_MS = 30000,   /* after SIGTERM; then SIGKILL */
    SUPERVISION_RESTART_MS = 200,      /* before a process is started again */
    SUPERVISION_LEFT_EARLY_MS = 5000,  /* the prototype server left in order, but the run is not over this long after */
    SUPERVISION_WORKER_LEFT_MS = 2000, /* likewise a worker */
};

/* The processes by number; workers are the last ones. */
enum { CHILD_PARAMETER, CHILD_PROTOTYPE, CHILD_REDIS, CHILD_WORKERS };

enum supervision_phase { RUNNING, STOP_PARAMETER, STOP_WORKERS, STOP_PROTOTYPE, STOP_REDIS, ENDED };

/* How a process ended. */
enum ending {
    ENDING_WELL,     /* exit code 0 */
    ENDING_FAILED,   /* another exit code: the next attempt may do better */
    ENDING_KILLED,   /* a signal from outside */
    ENDING_TERMED,   /* SIGTERM, which it did not listen to yet: it had only begun, and had nothing to write */
    ENDING_LASTING,  /* its configuration, or what it read, is wrong: every attempt would end the same way */
    ENDING_DIVERGED, /* the run computes numbers that are not finite: the same bytes would come again */
};

/* What follows from it. */
enum verdict {
    VERDICT_EXPECTED,       /* nothing worth a word */
    VERDICT_RESTART,        /* it will be started again */
    VERDICT_LEFT_ALONE,     /* a worker that keeps ending */
    VERDICT_LASTING,        /* not started again: that would not help. The run ends if it is a server */
    VERDICT_GIVEN_UP,       /* a server that keeps ending: the run ends */
    VERDICT_DIVERGED,       /* the run ends */
    VERDICT_STOPPED,        /* the parameter server left in order before the run was over: the run ends */
    VERDICT_WHILE_STOPPING, /* a server failed when it should have written its state */
    VERDICT_FAILED_TOO,     /* a server failed, and so has the run for another reason */
    VERDICT_MIRROR_GONE,    /* the private Redis: training goes on without it */
};

/* What the state machine found out by itself. */
enum supervision_note {
    NOTE_NO_WORKERS, /* none is at work or will be, and there is work left: the run ends */
    NOTE_OVERDUE,    /* the child did not end after SIGTERM and is killed */
};

enum supervision_outcome {
    OUTCOME_ORDERLY,     /* nothing went wrong */
    OUTCOME_INTERRUPTED, /* stopped from outside */
    OUTCOME_FAILED,
    OUTCOME_DIVERGED,
};

struct supervision_hooks {
    void (*start)(void *arg, unsigned child); /* again; the launcher says supervision_started when it runs */
    void (*signal)(void *arg, unsigned child, int number);
    void (*note)(void *arg, enum supervision_note what, unsigned child); /* child: of NOTE_OVERDUE */
    void *arg;
};

struct supervised {
    bool running;
    bool overdue;           /* we have killed it, and said so */
    enum ending ending;     /* of its last life */
    uint64_t restart_at_ms; /* 0: not to be started again */
    struct restarts restarts;
};

struct supervision {
    struct supervision_hooks hooks;
    struct supervised *children; /* (count) */
    unsigned count;
    enum supervision_phase phase;
    bool heard;                        /* the workers were at work, so that they hear STOP; set by the launcher */
    bool over;                         /* every step is computed: workers have nothing to do; set by the launcher */
    bool interrupted, failed;          /* set by events below */
    bool asked;                        /* by Ctrl-C */
    bool diverged;                     /* failed for that reason */
    bool at_once;                      /* everything was killed: there is nothing to wait for or to complain about */
    unsigned terms;                    /* SIGTERMs sent in this phase */
    uint64_t signal_at_ms, kill_at_ms; /* of this phase */
};

/* children 0 .. CHILD_WORKERS + workers - 1; none runs yet. ERR_MEMORY. */
int supervision_init(struct supervision *s, unsigned workers, const struct supervision_hooks *hooks);
void supervision_fini(struct supervision *s);

void supervision_started(struct supervision *s, unsigned child);
/* progress: the step that a new start would not compute again (restarts.h). complete: the run is, to its last step and
 * on disk; asked of the parameter server only. */
enum verdict supervision_on_exit(struct supervision *s, unsigned child, enum ending ending, uint64_t now_ms,
                                 uint64_t progress, bool complete);
/* Stops the run in order, because somebody wants that. */
void supervision_stop(struct supervision *s, uint64_t now_ms);
/* Kills everything that runs. */
void supervision_at_once(struct supervision *s, uint64_t now_ms);
/* Notes a Ctrl-C; true when there was one before, by somebody who does not want to wait. Other signals, which programs
 * send and may repeat, and other reasons to stop, do not count. */
bool supervision_interrupted_again(struct supervision *s);
/* The run cannot go on, for a reason of the launcher's. */
void supervision_fail(struct supervision *s, uint64_t now_ms);
/* To be called about every 100 ms. */
void supervision_tick(struct supervision *s, uint64_t now_ms);

/* Once the phase is ENDED. A failure is said even when somebody had asked to stop: not all of it is on disk. */
enum supervision_outcome supervision_outcome(const struct supervision *s);

#endif
