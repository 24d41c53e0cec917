/* One libuv loop. Exits of children and signals only change the phase or note a failure; what follows from them happens
 * in launcher_advance, in a defined order. */
#include "cli/launcher.h"

#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <uv.h>
#include "cli/checkpoint.h"
#include "cli/child.h"
#include "cli/command.h"
#include "cli/launch_arguments.h"
#include "cli/launch_watch.h"
#include "cli/pid_file.h"
#include "cli/restarts.h"
#include "proto/run_dir.h"

enum {
    TICK_MS = 100,
    DIRECTORY_MS = 1000,   /* between two looks at whether OUT is still ours */
    LOG_LINE_BYTES = 2100, /* the loggers cut at 2048 */
    WARNINGS_PER_LOOK = 16,
    STOP_GRACE_MS = 5000,      /* workers that hear STOP leave by themselves within this */
    AGAIN_MS = 300,            /* between the two SIGTERMs after a failure */
    STOP_DEADLINE_MS = 30000,  /* after SIGTERM; then SIGKILL */
    RESTART_MS = 200,          /* before a process is started again */
    LEFT_EARLY_MS = 5000,      /* the prototype server left in order, but the run is not over this long after */
    WORKERLESS_MAX_MS = 60000, /* how long the parameter server may need to finish when every worker has left */
};

enum { SIGNALS = 3 };
static const int stop_signals[SIGNALS] = {SIGINT, SIGTERM, SIGHUP};

enum phase { RUNNING, STOP_PARAMETER, STOP_WORKERS, STOP_PROTOTYPE, STOP_REDIS, ENDED };

/* A child that is started again when it dies. */
struct supervised {
    struct child child; /* first: a child is its supervised */
    struct restarts restarts;
    uint64_t restart_at_ms; /* loop time; 0: not to be started again */
};

struct launcher {
    const struct launch_plan *plan;
    uv_loop_t loop;
    uv_signal_t signals[SIGNALS];
    uv_timer_t tick;
    struct launch_watch watch;
    char **environment;
    struct launch_arguments *arguments; /* scratch for one spawn */
    struct supervised parameter, prototype;
    struct child redis;
    struct supervised *workers;
    enum phase phase;
    unsigned terms;                    /* SIGTERMs sent in this phase */
    uint64_t signal_at_ms, kill_at_ms; /* of this phase, loop time */
    uint64_t worker_seen_ms;           /* when a worker was last alive */
    uint64_t directory_seen_ms;        /* when OUT was last known to be ours */
    bool interrupted, failed;
    struct error failure; /* the first one */
    FILE *log;
};

static void say(struct launcher *l, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void say(struct launcher *l, const char *format, ...)
{
    va_list args;
    launch_watch_clear(&l->watch);
    va_start(args, format);
    vfprintf(l->log, format, args);
    va_end(args);
    fputc('\n', l->log);
    fflush(l->log);
}

/* What a child's log says about trouble; a flood is left to the file. */
static void show_warnings(struct launcher *l, struct child *c)
{
    char line[LOG_LINE_BYTES];
    for (int i = 0; i < WARNINGS_PER_LOOK && child_next_warning(c, line, sizeof line); i++)
        say(l, "%s: %s", c->name, line);
}

/* ---- phases ---- */

/* The children that the phase stops: the i-th, or NULL past the last. */
static struct child *phase_child(struct launcher *l, enum phase phase, unsigned i)
{
    if (phase == STOP_WORKERS)
        return i < l->plan->workers ? &l->workers[i].child : NULL;
    struct child *const only[] = {
        [STOP_PARAMETER] = &l->parameter.child, [STOP_PROTOTYPE] = &l->prototype.child, [STOP_REDIS] = &l->redis};
    return i == 0 ? only[phase] : NULL;
}

static bool phase_alive(struct launcher *l)
{
    struct child *c;
    for (unsigned i = 0; (c = phase_child(l, l->phase, i)) != NULL; i++)
        if (c->running)
            return true;
    return false;
}

static void phase_signal(struct launcher *l, int signal_number)
{
    struct child *c;
    for (unsigned i = 0; (c = phase_child(l, l->phase, i)) != NULL; i++)
        child_signal(c, signal_number);
}

static void phase_enter(struct launcher *l, enum phase phase)
{
    uint64_t now = uv_now(&l->loop);
    bool grace = phase == STOP_WORKERS && !l->failed && l->watch.progress.trained; /* they have heard STOP */
    l->phase = phase;
    l->terms = 0;
    l->signal_at_ms = now + (grace ? STOP_GRACE_MS : 0);
    l->kill_at_ms = l->signal_at_ms + STOP_DEADLINE_MS;
}

static void begin_stop(struct launcher *l)
{
    if (l->phase == RUNNING)
        phase_enter(l, STOP_PARAMETER);
}

static void fail(struct launcher *l, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void fail(struct launcher *l, const char *format, ...)
{
    char text[sizeof l->failure.text];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    if (!l->failed) {
        error_set(&l->failure, ERR_CLOSED, "%s", text);
        say(l, "%s", text);
    }
    l->failed = true;
    begin_stop(l);
}

/* SIGTERM when it is due, SIGKILL when that did not help. After a failure the step in progress cannot be finished, so a
 * second SIGTERM tells servers and workers not to wait for it. */
static void phase_press(struct launcher *l)
{
    uint64_t now = uv_now(&l->loop);
    if (l->terms < (l->failed ? 2u : 1u) && now >= l->signal_at_ms + l->terms * AGAIN_MS) {
        phase_signal(l, SIGTERM);
        l->terms++;
    }
    if (now < l->kill_at_ms)
        return;
    struct child *c;
    for (unsigned i = 0; (c = phase_child(l, l->phase, i)) != NULL; i++)
        if (c->running)
            fail(l, "%s did not stop within %d s and was killed; see %s", c->name, STOP_DEADLINE_MS / 1000,
                 c->log_path);
    phase_signal(l, SIGKILL);
    l->kill_at_ms = now + STOP_DEADLINE_MS;
}

/* OUT deleted under the run takes the locks with it: another run may begin there, and this one must not write there. */
static void mind_directory(struct launcher *l)
{
    struct error e = {0};
    if (run_dir_lock_held(&l->plan->config, "launcher", l->plan->lock, &e) != 0)
        fail(l, "the run ends: %s", e.text);
    l->directory_seen_ms = uv_now(&l->loop);
}

/* ---- children's exits ---- */

static bool ended_well(const struct child *c)
{
    return c->exit_status == 0 && c->term_signal == 0;
}

static enum death death_of(const struct child *c)
{
    if (c->term_signal != 0)
        return DEATH_KILLED;
    return c->exit_status == COMMAND_USAGE ? DEATH_USAGE : DEATH_FAILED;
}

/* Whether the child is to be started again; notes when. */
static bool plan_restart(struct launcher *l, struct supervised *s)
{
    uint64_t now = uv_now(&l->loop);
    bool again = restarts_after(&s->restarts, death_of(&s->child), now);
    s->restart_at_ms = again ? now + RESTART_MS : 0;
    return again;
}

static void on_server_death(struct launcher *l, struct supervised *s)
{
    struct child *c = &s->child;
    char how[64];
    child_describe_exit(c, how, sizeof how);
    mind_directory(l); /* or the server started next would make OUT again */
    if (l->phase != RUNNING)
        fail(l, "decant-%s ended (%s) while stopping: see %s; decant train --resume goes on from the newest checkpoint",
             c->name, how, c->log_path);
    else if (plan_restart(l, s))
        say(l, "decant-%s ended (%s): see %s; starting it again from the newest checkpoint", c->name, how, c->log_path);
    else
        fail(l,
             "decant-%s ended (%s) and keeps ending: see %s; what was checkpointed is safe, and the same command with "
             "--resume goes on from there",
             c->name, how, c->log_path);
}

static void on_parameter_exit(struct child *c, void *arg)
{
    struct launcher *l = arg;
    show_warnings(l, c);
    if (ended_well(c))
        begin_stop(l); /* the run is finished, or was told to stop */
    else
        on_server_death(l, &l->parameter);
}

/* It leaves by itself when the last step is on disk; the parameter server does so at about the same time. */
static void on_prototype_exit(struct child *c, void *arg)
{
    struct launcher *l = arg;
    show_warnings(l, c);
    if (!ended_well(c))
        on_server_death(l, &l->prototype);
    else if (l->phase == RUNNING)
        l->prototype.restart_at_ms = uv_now(&l->loop) + LEFT_EARLY_MS;
}

static void on_redis_exit(struct child *c, void *arg)
{
    struct launcher *l = arg;
    char how[64];
    child_describe_exit(c, how, sizeof how);
    if (l->phase < STOP_REDIS)
        say(l, "the private Redis ended (%s): see %s; training goes on without it", how, c->log_path);
}

static void on_worker_exit(struct child *c, void *arg)
{
    struct launcher *l = arg;
    char how[64];
    if (l->phase != RUNNING || ended_well(c))
        return;
    child_describe_exit(c, how, sizeof how);
    bool again = plan_restart(l, (struct supervised *)c); /* child is its first member */
    say(l, "%s ended (%s): see %s; %s", c->name, how, c->log_path,
        again ? "starting it again, nothing is lost" : "it keeps ending, so it is left alone");
}

/* ---- starting ---- */

static int spawn(struct launcher *l, struct child *c, const char *name, child_on_exit *on_exit)
{
    struct error e = {0};
    struct child_options o = {.name = name,
                              .log_directory = l->plan->logs,
                              .argv = l->arguments->argv,
                              .environ = l->environment,
                              .on_exit = on_exit,
                              .arg = l};
    int rc = child_spawn(c, &l->loop, &o, &e);
    if (rc != 0)
        fail(l, "%s", e.text);
    return rc;
}

static int spawn_worker(struct launcher *l, unsigned i)
{
    char name[CHILD_NAME_MAX];
    snprintf(name, sizeof name, "worker-%u", i + 1);
    l->workers[i].restart_at_ms = 0;
    launch_arguments_decant(l->arguments, l->plan, "worker", false);
    return spawn(l, &l->workers[i].child, name, on_worker_exit);
}

static int spawn_server(struct launcher *l, struct supervised *s, bool resume)
{
    bool parameter = s == &l->parameter;
    const char *name = parameter ? "parameter" : "prototype";
    s->restart_at_ms = 0;
    launch_arguments_decant(l->arguments, l->plan, name, resume);
    return spawn(l, &s->child, name, parameter ? on_parameter_exit : on_prototype_exit);
}

static void note_pids(struct launcher *l)
{
    struct pid_entry entries[PLAN_WORKERS_MAX + 4];
    size_t n = 0;
    entries[n++] = (struct pid_entry){"launcher", uv_os_getpid()};
    for (enum phase phase = STOP_PARAMETER; phase < ENDED; phase++) {
        struct child *c;
        for (unsigned i = 0; (c = phase_child(l, phase, i)) != NULL; i++)
            if (c->running)
                entries[n++] = (struct pid_entry){c->name, c->process.pid};
    }
    struct error e = {0};
    if (pid_file_write(l->plan->config.run.out, entries, n, &e) != 0)
        say(l, "warning: %s", e.text);
}

/* --resume is passed on only where there is something to resume. */
static bool has_checkpoint(const struct launch_plan *p)
{
    char directory[CHECKPOINT_PATH_MAX];
    return p->resume && checkpoint_find(p->config.run.out, directory, NULL) == 0;
}

static void start_all(struct launcher *l)
{
    const struct launch_plan *p = l->plan;
    bool resume = has_checkpoint(p);
    int rc = 0;
    if (p->redis_private) {
        launch_arguments_redis(l->arguments, p);
        rc = spawn(l, &l->redis, "redis", on_redis_exit);
    }
    if (rc == 0 && !p->joint)
        rc = spawn_server(l, &l->prototype, resume);
    if (rc == 0)
        rc = spawn_server(l, &l->parameter, resume);
    for (unsigned i = 0; rc == 0 && i < p->workers; i++)
        rc = spawn_worker(l, i);
    note_pids(l);
    if (rc == 0 && resume)
        say(l, "resuming from the newest checkpoint in %s", p->config.run.out);
}

/* ---- the tick ---- */

static bool restart_due(const struct launcher *l, const struct supervised *s)
{
    return s->restart_at_ms != 0 && uv_now(&l->loop) >= s->restart_at_ms && !s->child.running && !s->child.closing;
}

static void restart_children(struct launcher *l)
{
    struct supervised *servers[] = {&l->prototype, &l->parameter};
    bool started = false;
    for (int i = 0; i < 2; i++)
        if (restart_due(l, servers[i]))
            started = spawn_server(l, servers[i], true) == 0 || started;
    for (unsigned i = 0; i < l->plan->workers; i++)
        if (restart_due(l, &l->workers[i]))
            started = spawn_worker(l, i) == 0 || started;
    if (started)
        note_pids(l);
}

static void mind_workers(struct launcher *l)
{
    bool alive = false;
    for (unsigned i = 0; i < l->plan->workers; i++)
        alive = alive || l->workers[i].child.running || l->workers[i].restart_at_ms != 0;
    if (alive)
        l->worker_seen_ms = uv_now(&l->loop);
    else if (uv_now(&l->loop) - l->worker_seen_ms > WORKERLESS_MAX_MS)
        fail(l, "no worker is left: see %s/worker-*.log; the same command with --resume goes on", l->plan->logs);
}

/* A run whose workers all failed for good has no reason to wait for WORKERLESS_MAX_MS. */
static void check_workers_failed(struct launcher *l)
{
    for (unsigned i = 0; i < l->plan->workers; i++) {
        const struct supervised *w = &l->workers[i];
        bool gave_up = !w->child.running && w->restart_at_ms == 0 && !ended_well(&w->child);
        if (!gave_up)
            return;
    }
    fail(l, "every worker has failed: see %s/worker-*.log; the same command with --resume goes on", l->plan->logs);
}

static void show_all_warnings(struct launcher *l)
{
    for (enum phase phase = STOP_PARAMETER; phase < ENDED; phase++) {
        struct child *c;
        for (unsigned i = 0; (c = phase_child(l, phase, i)) != NULL; i++)
            show_warnings(l, c);
    }
}

static void end(struct launcher *l)
{
    uv_close((uv_handle_t *)&l->tick, NULL);
    for (int i = 0; i < SIGNALS; i++)
        uv_close((uv_handle_t *)&l->signals[i], NULL);
    launch_watch_close(&l->watch);
}

static void launcher_advance(uv_timer_t *timer)
{
    struct launcher *l = timer->data;
    show_all_warnings(l);
    launch_watch_tick(&l->watch);
    if (l->phase == RUNNING && uv_now(&l->loop) - l->directory_seen_ms >= DIRECTORY_MS)
        mind_directory(l);
    if (l->phase == RUNNING) {
        restart_children(l);
        mind_workers(l);
        check_workers_failed(l);
    }
    if (l->phase != RUNNING)
        phase_press(l);
    while (l->phase != RUNNING && l->phase != ENDED && !phase_alive(l))
        phase_enter(l, l->phase + 1);
    if (l->phase == ENDED)
        end(l);
}

static void on_signal(uv_signal_t *handle, int signal_number)
{
    struct launcher *l = handle->data;
    (void)signal_number;
    if (!l->interrupted && l->phase == RUNNING) {
        l->interrupted = true;
        say(l, "stopping: the step in progress is finished and checkpointed (once more: do not wait)");
        begin_stop(l);
        return;
    }
    if (l->phase != RUNNING && l->phase != ENDED) {
        l->interrupted = true;
        l->kill_at_ms = uv_now(&l->loop);
    }
}

/* ---- life of the launcher ---- */

static int launcher_alloc(struct launcher *l, const struct launch_plan *plan, char **environment)
{
    l->plan = plan;
    l->environment = launch_environment(environment, &plan->config);
    l->arguments = calloc(1, sizeof *l->arguments);
    l->workers = calloc(plan->workers, sizeof *l->workers);
    return l->environment && l->arguments && l->workers ? 0 : ERR_MEMORY;
}

static void launcher_free(struct launcher *l)
{
    free(l->environment);
    free(l->arguments);
    free(l->workers);
    free(l);
}

static int launcher_open(struct launcher *l, struct error *e)
{
    uv_loop_init(&l->loop);
    for (int i = 0; i < SIGNALS; i++) {
        uv_signal_init(&l->loop, &l->signals[i]);
        l->signals[i].data = l;
        uv_signal_start(&l->signals[i], on_signal, stop_signals[i]);
    }
    uv_timer_init(&l->loop, &l->tick);
    l->tick.data = l;
    uv_timer_start(&l->tick, launcher_advance, TICK_MS, TICK_MS);
    l->worker_seen_ms = uv_now(&l->loop);
    return launch_watch_open(&l->watch, &l->loop, &l->plan->config, l->plan->joint, l->log, e);
}

static void launcher_close(struct launcher *l)
{
    launch_watch_fini(&l->watch);
    uv_loop_close(&l->loop);
}

int launcher_run(const struct launch_plan *plan, char **environment, FILE *log, struct launch_result *result,
                 struct error *e)
{
    struct launcher *l = calloc(1, sizeof *l);
    uint64_t started = uv_hrtime();
    memset(result, 0, sizeof *result);
    if (!l || launcher_alloc(l, plan, environment) != 0) {
        if (l)
            launcher_free(l);
        return error_set(e, ERR_MEMORY, "out of memory for the launcher");
    }
    l->log = log;
    int rc = launcher_open(l, e);
    if (rc == 0)
        start_all(l);
    else
        end(l);
    uv_run(&l->loop, UV_RUN_DEFAULT);
    if (run_dir_lock_held(&plan->config, "launcher", plan->lock, NULL) == 0)
        pid_file_remove(plan->config.run.out);
    result->interrupted = l->interrupted;
    result->seconds = (double)(uv_hrtime() - started) / 1e9;
    result->reported = l->failed;
    if (rc == 0 && l->failed)
        rc = error_set(e, l->failure.code, "%s", l->failure.text);
    launcher_close(l);
    launcher_free(l);
    return rc;
}
