/* A look at the run's directory, and a child. */
#include "cli/launch_eval.h"

#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include "cli/evaluation_note.h"
#include "cli/launch_arguments.h"
#include "cli/metrics_tail.h"
#include "common/files.h"
#include "proto/process_options.h"
#include "proto/run_dir.h"

static void forget(const struct launch_plan *plan, const char *name)
{
    char path[PLAN_PATH_MAX];
    if (path_format(path, sizeof path, "%s/%s", plan->config.run.out, name) == 0)
        unlink(path);
}

static uint64_t newest_note(const struct launch_plan *plan)
{
    char path[PLAN_PATH_MAX];
    struct run_figures *f = calloc(1, sizeof *f);
    double age, step = NAN;
    if (f != NULL && path_format(path, sizeof path, "%s/" EVALUATION_METRICS, plan->config.run.out) == 0 &&
        metrics_tail_read(path, f, &age, NULL) == 0)
        step = run_figures_number(f, "step");
    free(f);
    return step > 0 && step < 1e15 ? (uint64_t)step : 0;
}

void launch_eval_init(struct launch_eval *v, const struct launch_plan *plan, char **environment,
                      void (*say)(void *arg, const char *text), void *arg)
{
    *v = (struct launch_eval){.plan = plan, .environment = environment, .say = say, .arg = arg};
    forget(plan, "checkpoints/candidate"); /* of a process that was killed */
    if (plan->resume && !plan->begins) {
        v->evaluated = newest_note(plan);
        return;
    }
    forget(plan, "checkpoints/best");
    forget(plan, EVALUATION_METRICS);
}

bool launch_eval_due(uint64_t every, uint64_t evaluated, uint64_t newest)
{
    return every > 0 && newest / every > evaluated / every;
}

static void on_exit_of_it(struct child *c, void *arg)
{
    struct launch_eval *v = arg;
    char how[64], text[CHILD_PATH_MAX + 256];
    if (c->term_signal == SIGKILL || (c->term_signal == 0 && c->exit_status == EXIT_DONE))
        return;
    v->given_up = c->exit_status == EXIT_USAGE;
    child_describe_exit(c, how, sizeof how);
    snprintf(text, sizeof text, "the evaluation of step %llu ended (%s): see %s; training goes on%s",
             (unsigned long long)v->evaluated, how, c->log_path,
             v->given_up ? ", and is not evaluated any more: another attempt would end the same way" : "");
    v->say(v->arg, text);
}

static void start(struct launch_eval *v, uv_loop_t *loop, uint64_t step)
{
    struct launch_arguments *a = calloc(1, sizeof *a);
    char path[RUN_PATH_MAX];
    struct error e = {0};
    v->evaluated = step;
    if (a == NULL || run_dir_step_path(path, &v->plan->config, step, NULL, NULL) != 0) {
        free(a);
        return;
    }
    launch_arguments_eval(a, v->plan, path);
    struct child_options o = {.name = "eval",
                              .log_directory = v->plan->logs,
                              .argv = a->argv,
                              .environ = v->environment,
                              .on_exit = on_exit_of_it,
                              .arg = v};
    if (child_spawn(&v->child, loop, &o, &e) != 0)
        v->say(v->arg, e.text);
    free(a);
}

void launch_eval_tick(struct launch_eval *v, uv_loop_t *loop)
{
    uint64_t newest, every = (uint64_t)v->plan->config.eval.every;
    if (every == 0 || v->given_up || v->child.running || v->child.closing || !run_dir_newest(&v->plan->config, &newest))
        return;
    if (newest < v->evaluated)
        v->evaluated = newest; /* the run went back */
    if (launch_eval_due(every, v->evaluated, newest))
        start(v, loop, newest);
}

void launch_eval_stop(struct launch_eval *v)
{
    child_signal(&v->child, SIGKILL);
}
