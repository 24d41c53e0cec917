/* Evaluation while training (eval.every): when the run has a new complete checkpoint and one is due, a process of its
 * own looks at it (evaluation_note.h). One at a time; whatever becomes of it, the run does not care. Driven by the
 * launcher's loop. */
#ifndef DECANT_CLI_LAUNCH_EVAL_H
#define DECANT_CLI_LAUNCH_EVAL_H

#include "cli/child.h"
#include "cli/launch_plan.h"

struct launch_eval {
    const struct launch_plan *plan;
    char **environment;
    struct child child;
    uint64_t evaluated; /* step that the newest process was started for, or of the newest note */
    bool given_up;      /* another attempt would end the same way */
    void (*say)(void *arg, const char *text);
    void *arg;
};

/* say: for people, when an evaluation failed. A run that begins loses the notes of one that was there before. */
void launch_eval_init(struct launch_eval *v, const struct launch_plan *plan, char **environment,
                      void (*say)(void *arg, const char *text), void *arg);
/* Starts what is due. To be called about every second while the run goes on. */
void launch_eval_tick(struct launch_eval *v, uv_loop_t *loop);
/* Whether step `newest` is due, `evaluated` being the last one: a multiple of every lies in between. */
bool launch_eval_due(uint64_t every, uint64_t evaluated, uint64_t newest);
/* Ends it, now; its handle is released by the loop. */
void launch_eval_stop(struct launch_eval *v);

#endif
