/* One libuv loop that carries out what the state machine of supervision.h asks for, and says what happens. */
#include "cli/launcher.h"

#include <inttypes.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <uv.h>
#include "cli/child.h"
#include "cli/command.h"
#include "cli/launch_arguments.h"
#include "cli/launch_eval.h"
#include "cli/launch_log.h"
#include "cli/launch_watch.h"
#include "cli/pid_file.h"
#include "cli/run_progress.h"
#include "cli/shell_quote.h"
#include "proto/process_options.h"
#include "proto/run_dir.h"

enum {
    TICK_MS = 100,
    DIRECTORY_MS = 1000,   /* between two looks at whether OUT is still ours */
    LOG_LINE_BYTES = 2100, /* the loggers cut at 2048 */
    TEXT_BYTES = LOG_LINE_BYTES + SHELL_QUOTE_MAX,
    WARNINGS_PER_LOOK = 16,
    NEWEST_MAX = 64, /* "the newest checkpoint is of step N" */
};

enum { SIGNALS = 6 };
static const int stop_signals[SIGNALS] = {SIGINT, SIGTERM, SIGHUP, SIGUSR1, SIGUSR2, SIGQUIT};

struct launcher {
    const struct launch_plan *plan;
    uv_loop_t loop;
    uv_signal_t signals[SIGNALS];
    uv_timer_t tick;
    struct launch_watch watch;
    struct launch_log log;
    char **environment;
    struct launch_arguments *arguments; /* scratch for one spawn */
    struct supervision supervision;
    struct child *children;        /* (supervision.count), by the same numbers */
    uint64_t directory_seen_ms;    /* when OUT was last known to be ours */
    bool alone;                    /* nobody reads what is said, and the run goes on nevertheless */
    bool hangup_ignored;           /* SIGHUP was when this process began */
    char resume[SHELL_QUOTE_MAX];  /* the command that goes on with the run */
    struct error failure;          /* the first one */
    struct run_progress completed; /* as of the last look */
    struct launch_eval evaluation;
    bool was_complete; /* the run was when it was started */
};

static void say(struct launcher *l, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void say(struct launcher *l, const char *format, ...)
{
    char text[TEXT_BYTES];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    launch_watch_clear(&l->watch);
    launch_log_say(&l->log, text);
}

/* A worker's word of how far it is with its images, in the line that will show the training. */
static bool show_loading(struct launcher *l, const char *line)
{
    const char *progress = strstr(line, " event=loading_progress ");
    uint64_t done, total;
    if (progress == NULL ||
        sscanf(progress, " event=loading_progress images=%" SCNu64 " of=%" SCNu64, &done, &total) != 2)
        return false;
    launch_watch_loading(&l->watch, done, total);
    return true;
}

/* What a child's log says about trouble; a flood is left to the file. */
static void show_warnings(struct launcher *l, struct child *c)
{
    char line[LOG_LINE_BYTES];
    for (int i = 0; i < WARNINGS_PER_LOOK && child_next_warning(c, line, sizeof line); i++)
        if (!show_loading(l, line))
            say(l, "%s: %s", c->name, line);
}

/* The run ends, and this is said about it; the first failure is what the caller hears. */
static void fail(struct launcher *l, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void fail(struct launcher *l, const char *format, ...)
{
    char text[TEXT_BYTES];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    say(l, "%s", text);
    if (l->failure.code == 0)
        error_set(&l->failure, ERR_CLOSED, "%s", text);
    supervision_fail(&l->supervision, uv_now(&l->loop));
}

/* OUT deleted under the run takes the locks with it: another run may begin there, and this one must not write there. */
static void mind_directory(struct launcher *l)
{
    struct error e = {0};
    if (run_dir_lock_held(&l->plan->config, "launcher", l->plan->lock, &e) != 0 && l->failure.code == 0)
        fail(l, "the run ends: %s", e.text);
    l->directory_seen_ms = uv_now(&l->loop);
}

/* ---- children's exits ---- */

static unsigned number_of(const struct launcher *l, const struct child *c)
{
    return (unsigned)(c - l->children);
}

static enum ending ending_of(const struct child *c)
{
    if (c->term_signal != 0)
        return c->term_signal == SIGTERM ? ENDING_TERMED : ENDING_KILLED;
    switch (c->exit_status) {
    case EXIT_DONE:
        return ENDING_WELL;
    case EXIT_USAGE:
        return ENDING_LASTING;
    case EXIT_DIVERGED:
        return ENDING_DIVERGED;
    default:
        return ENDING_FAILED;
    }
}

/* What a person can do once a cause that lasts is out of the way. */
static const char *go_on(struct launcher *l)
{
    return l->completed.any ? l->resume : "the same command";
}

/* Nothing is promised of a step that is not there. Returns out. */
static const char *newest(const struct launcher *l, char out[NEWEST_MAX])
{
    if (l->completed.any)
        snprintf(out, NEWEST_MAX, "the newest checkpoint is of step %" PRIu64, l->completed.step);
    else
        snprintf(out, NEWEST_MAX, "there is no checkpoint yet");
    return out;
}

static void tell_diverged(struct launcher *l, const struct child *c)
{
    const struct run_config *config = &l->plan->config;
    char clip[64], step[NEWEST_MAX];
    snprintf(clip, sizeof clip,
             config->optimiser.clip > 0 ? "optimiser.clip is %g" : "optimiser.clip = %g does not clip",
             config->optimiser.clip);
    fail(l,
         "the run has diverged: %s met numbers that are not finite (see %s). The same configuration computes the same "
         "bytes, so neither another attempt nor a resume would end differently. Start another run, in another --out, "
         "with a smaller optimiser.lr (it is %g; %s, optimiser.warmup is %" PRId64
         "). Checkpoints hold nothing of that: %s",
         c->name, c->log_path, config->optimiser.lr, clip, config->optimiser.warmup, newest(l, step));
}

/* Each text says only what is true of its case. */
static void tell(struct launcher *l, const struct child *c, enum verdict verdict)
{
    char how[64], step[NEWEST_MAX];
    child_describe_exit(c, how, sizeof how);
    const char *kind = number_of(l, c) < CHILD_REDIS ? "decant-" : "";
    switch (verdict) {
    case VERDICT_EXPECTED:
        break;
    case VERDICT_RESTART:
        say(l, "%s%s ended (%s): see %s; starting it again%s", kind, c->name, how, c->log_path,
            kind[0] ? " from the newest checkpoint" : ", nothing is lost");
        break;
    case VERDICT_LEFT_ALONE:
        say(l, "%s ended (%s): see %s; it keeps ending, so it is left alone", c->name, how, c->log_path);
        break;
    case VERDICT_LASTING:
        if (kind[0])
            fail(l, "decant-%s ended (%s): see %s; another start would end the same way. Once the cause is mended: %s",
                 c->name, how, c->log_path, go_on(l));
        else
            say(l, "%s ended (%s): see %s; another start would end the same way, so it is left alone", c->name, how,
                c->log_path);
        break;
    case VERDICT_GIVEN_UP:
        fail(l, "decant-%s ended (%s) and keeps ending: see %s; %s. Once the cause is mended: %s", c->name, how,
             c->log_path, newest(l, step), go_on(l));
        break;
    case VERDICT_DIVERGED:
        tell_diverged(l, c);
        break;
    case VERDICT_STOPPED:
        fail(l, "decant-%s was stopped from outside, before the run was over (%s). Go on with: %s", c->name,
             newest(l, step), go_on(l));
        break;
    case VERDICT_WHILE_STOPPING:
        fail(l,
             "decant-%s ended (%s) instead of writing its last checkpoint: see %s; %s, and what came after is computed "
             "again by: %s",
             c->name, how, c->log_path, newest(l, step), go_on(l));
        break;
    case VERDICT_FAILED_TOO:
        say(l, "decant-%s ended, too (%s): see %s", c->name, how, c->log_path);
        break;
    case VERDICT_MIRROR_GONE:
        say(l, "the private Redis ended (%s): see %s; training goes on without it", how, c->log_path);
        break;
    }
}

static void note_pids(struct launcher *l)
{
    struct pid_entry entries[PLAN_WORKERS_MAX + CHILD_WORKERS + 1];
    size_t n = 0;
    entries[n++] = (struct pid_entry){"launcher", uv_os_getpid()};
    for (unsigned i = 0; i < l->supervision.count; i++)
        if (l->children[i].running)
            entries[n++] = (struct pid_entry){l->children[i].name, l->children[i].process.pid};
    struct error e = {0};
    if (pid_file_write(l->plan->config.run.out, entries, n, &e) != 0)
        say(l, "warning: %s", e.text);
}

static void on_child_exit(struct child *c, void *arg)
{
    struct launcher *l = arg;
    unsigned number = number_of(l, c);
    bool server = number == CHILD_PARAMETER || number == CHILD_PROTOTYPE;
    show_warnings(l, c);
    if (server && ending_of(c) != ENDING_WELL)
        mind_directory(l); /* or the server started next would make OUT again */
    run_progress_read(&l->plan->config, &l->completed);
    uint64_t progress = server ? l->completed.step : l->watch.progress.step;
    enum verdict verdict = supervision_on_exit(&l->supervision, number, ending_of(c), uv_now(&l->loop), progress,
                                               run_progress_complete(&l->completed));
    tell(l, c, verdict);
    if (l->supervision.phase == RUNNING)
        note_pids(l);
}

/* ---- starting ---- */

static int spawn(struct launcher *l, unsigned number, const char *name)
{
    struct error e = {0};
    struct child_options o = {.name = name,
                              .log_directory = l->plan->logs,
                              .argv = l->arguments->argv,
                              .environ = l->environment,
                              .on_exit = on_child_exit,
                              .arg = l};
    int rc = child_spawn(&l->children[number], &l->loop, &o, &e);
    if (rc != 0)
        fail(l, "%s", e.text);
    else
        supervision_started(&l->supervision, number);
    return rc;
}

static int spawn_number(struct launcher *l, unsigned number, bool resume)
{
    char name[CHILD_NAME_MAX];
    if (number >= CHILD_WORKERS) {
        snprintf(name, sizeof name, "worker-%u", number - CHILD_WORKERS + 1);
        launch_arguments_decant(l->arguments, l->plan, "worker", false);
    } else if (number == CHILD_REDIS) {
        snprintf(name, sizeof name, "redis");
        launch_arguments_redis(l->arguments, l->plan);
    } else {
        snprintf(name, sizeof name, "%s", number == CHILD_PARAMETER ? "parameter" : "prototype");
        launch_arguments_decant(l->arguments, l->plan, name, resume);
    }
    return spawn(l, number, name);
}

/* The servers pass over a step that is damaged. */
static void say_resumed(struct launcher *l)
{
    const char *out = l->plan->config.run.out;
    uint64_t step;
    if (!run_progress_sound(&l->plan->config, &step))
        say(l, "no checkpoint in %s is sound: the servers will say why", out);
    else if (step == l->completed.step)
        say(l, "resuming from step %" PRIu64 ", the newest checkpoint in %s", step, out);
    else
        say(l, "resuming from step %" PRIu64 ", the newest sound checkpoint in %s: that of step %" PRIu64 " is damaged",
            step, out, l->completed.step);
    l->was_complete = l->was_complete && step == l->completed.step;
}

static void start_all(struct launcher *l)
{
    const struct launch_plan *p = l->plan;
    bool resume = p->resume && !p->begins;
    int rc = p->redis_private ? spawn_number(l, CHILD_REDIS, false) : 0;
    if (rc == 0 && !p->joint)
        rc = spawn_number(l, CHILD_PROTOTYPE, resume);
    if (rc == 0)
        rc = spawn_number(l, CHILD_PARAMETER, resume);
    for (unsigned i = 0; rc == 0 && i < p->workers; i++)
        rc = spawn_number(l, CHILD_WORKERS + i, false);
    note_pids(l);
    if (rc == 0 && resume)
        say_resumed(l);
    else if (rc == 0 && p->resume)
        say(l, "%s has no checkpoint to resume from: starting from the beginning", p->config.run.out);
}

/* ---- what the state machine asks for ---- */

static void start_again(void *arg, unsigned number)
{
    struct launcher *l = arg;
    if (l->supervision.children[number].ending == ENDING_WELL)
        say(l, "decant-%s ended in order (see %s), but the run is not over: starting it again",
            l->children[number].name, l->children[number].log_path);
    if (spawn_number(l, number, true) == 0)
        note_pids(l);
}

static void signal_child(void *arg, unsigned number, int signal_number)
{
    struct launcher *l = arg;
    child_signal(&l->children[number], signal_number);
}

static void on_note(void *arg, enum supervision_note what, unsigned number)
{
    struct launcher *l = arg;
    const struct child *c = &l->children[number];
    run_progress_read(&l->plan->config, &l->completed);
    switch (what) {
    case NOTE_NO_WORKERS:
        fail(l, "every worker has ended for good: see %s/worker-*.log. Once the cause is mended: %s", l->plan->logs,
             go_on(l));
        break;
    case NOTE_OVERDUE:
        fail(l, "%s did not stop within %d s and is killed; see %s", c->name, SUPERVISION_DEADLINE_MS / 1000,
             c->log_path);
        break;
    }
}

/* ---- the tick ---- */

static void end(struct launcher *l)
{
    launch_eval_stop(&l->evaluation);
    uv_close((uv_handle_t *)&l->tick, NULL);
    for (int i = 0; i < SIGNALS; i++)
        uv_close((uv_handle_t *)&l->signals[i], NULL);
    launch_watch_close(&l->watch);
}

/* With its reader gone a run would go on unseen, and out of the reach of Ctrl-C. nohup says that this is wanted. */
static void mind_reader(struct launcher *l)
{
    if (l->alone || !launch_log_unread(&l->log))
        return;
    l->alone = true;
    if (l->hangup_ignored) {
        say(l, "nobody reads this any more; SIGHUP is ignored, so the run goes on. Look at %s/launcher.log",
            l->plan->logs);
        return;
    }
    say(l, "nobody reads this any more: stopping, the step in progress is finished and checkpointed. To go on: %s",
        l->resume);
    supervision_stop(&l->supervision, uv_now(&l->loop));
}

static void say_evaluation(void *arg, const char *text)
{
    say(arg, "%s", text);
}

static void launcher_advance(uv_timer_t *timer)
{
    struct launcher *l = timer->data;
    struct supervision *s = &l->supervision;
    for (unsigned i = 0; i < s->count; i++)
        show_warnings(l, &l->children[i]);
    launch_watch_tick(&l->watch);
    s->heard = l->watch.progress.trained;
    s->over = progress_is_over(&l->watch.progress);
    if (s->phase == RUNNING)
        mind_reader(l);
    if (s->phase == RUNNING && uv_now(&l->loop) - l->directory_seen_ms >= DIRECTORY_MS) {
        mind_directory(l);
        launch_eval_tick(&l->evaluation, &l->loop);
    }
    supervision_tick(s, uv_now(&l->loop));
    if (s->phase == ENDED)
        end(l);
}

static void tell_at_once(struct launcher *l)
{
    char step[NEWEST_MAX];
    run_progress_read(&l->plan->config, &l->completed);
    say(l, "stopping at once: every process is killed; %s, and what came after is computed again by: %s",
        newest(l, step), go_on(l));
}

static void on_signal(uv_signal_t *handle, int number)
{
    struct launcher *l = handle->data;
    struct supervision *s = &l->supervision;
    if (s->phase == ENDED || s->at_once)
        return;
    if (number == SIGQUIT || (number == SIGINT && supervision_interrupted_again(s))) {
        tell_at_once(l);
        supervision_at_once(s, uv_now(&l->loop));
        return;
    }
    if (s->phase == RUNNING || number == SIGINT)
        say(l, "stopping: the step in progress is finished and checkpointed (%sCtrl-C%s: at once, without)",
            number == SIGINT ? "" : "second ", number == SIGINT ? " once more" : "");
    supervision_stop(s, uv_now(&l->loop));
}

/* ---- life of the launcher ---- */

static int launcher_alloc(struct launcher *l, const struct launch_plan *plan, char **environment)
{
    const struct supervision_hooks hooks = {.start = start_again, .signal = signal_child, .note = on_note, .arg = l};
    l->plan = plan;
    l->environment = launch_environment(environment, &plan->config);
    l->arguments = calloc(1, sizeof *l->arguments);
    l->children = calloc(CHILD_WORKERS + plan->workers, sizeof *l->children);
    if (!l->environment || !l->arguments || !l->children)
        return ERR_MEMORY;
    return supervision_init(&l->supervision, plan->workers, &hooks);
}

static void launcher_free(struct launcher *l)
{
    if (!l)
        return;
    supervision_fini(&l->supervision);
    free(l->environment);
    free(l->arguments);
    free(l->children);
    free(l);
}

static bool is_ignored(int number)
{
    struct sigaction old;
    return sigaction(number, NULL, &old) == 0 && old.sa_handler == SIG_IGN;
}

/* A shell without job control starts background jobs with SIGINT and SIGQUIT ignored, which nobody asked for; SIGHUP is
 * ignored because somebody did. */
static void listen_to_signals(struct launcher *l)
{
    signal(SIGPIPE, SIG_IGN);
    l->hangup_ignored = is_ignored(SIGHUP);
    for (int i = 0; i < SIGNALS; i++) {
        uv_signal_init(&l->loop, &l->signals[i]);
        l->signals[i].data = l;
        if (stop_signals[i] != SIGHUP || !l->hangup_ignored)
            uv_signal_start(&l->signals[i], on_signal, stop_signals[i]);
    }
}

static int launcher_open(struct launcher *l, FILE *log, struct error *e)
{
    char quoted[SHELL_QUOTE_MAX - 32];
    uv_loop_init(&l->loop);
    listen_to_signals(l);
    uv_timer_init(&l->loop, &l->tick);
    l->tick.data = l;
    uv_timer_start(&l->tick, launcher_advance, TICK_MS, TICK_MS);
    launch_log_open(&l->log, log, l->plan->logs);
    shell_quote(l->plan->config.run.out, quoted, sizeof quoted);
    snprintf(l->resume, sizeof l->resume, "decant resume %s", quoted);
    run_progress_read(&l->plan->config, &l->completed);
    l->was_complete = l->plan->resume && run_progress_complete(&l->completed);
    launch_eval_init(&l->evaluation, l->plan, l->environment, say_evaluation, l);
    return launch_watch_open(&l->watch, &l->loop, &l->plan->clients, l->plan->joint, log, e);
}

static void launcher_close(struct launcher *l)
{
    launch_watch_fini(&l->watch);
    launch_log_close(&l->log);
    uv_loop_close(&l->loop);
}

/* What became of it, once every process has ended. */
static int conclude(struct launcher *l, int rc, struct launch_result *result, struct error *e)
{
    if (run_dir_lock_held(&l->plan->config, "launcher", l->plan->lock, NULL) == 0)
        pid_file_remove(l->plan->config.run.out);
    run_progress_read(&l->plan->config, &l->completed);
    result->complete = run_progress_complete(&l->completed);
    result->was_complete = l->was_complete;
    result->reported = l->failure.code != 0;
    result->outcome = rc == 0 ? supervision_outcome(&l->supervision) : OUTCOME_FAILED;
    if (rc == 0 && (result->outcome == OUTCOME_FAILED || result->outcome == OUTCOME_DIVERGED))
        return error_set(e, l->failure.code, "%s", l->failure.text);
    return rc;
}

int launcher_run(const struct launch_plan *plan, char **environment, FILE *log, struct launch_result *result,
                 struct error *e)
{
    struct launcher *l = calloc(1, sizeof *l);
    uint64_t started = uv_hrtime();
    *result = (struct launch_result){.outcome = OUTCOME_FAILED};
    if (!l || launcher_alloc(l, plan, environment) != 0) {
        launcher_free(l);
        return error_set(e, ERR_MEMORY, "out of memory for the launcher");
    }
    int rc = launcher_open(l, log, e);
    if (rc == 0)
        start_all(l);
    else
        end(l);
    uv_run(&l->loop, UV_RUN_DEFAULT);
    rc = conclude(l, rc, result, e);
    result->seconds = (double)(uv_hrtime() - started) / 1e9;
    launcher_close(l);
    launcher_free(l);
    return rc;
}
