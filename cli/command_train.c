/* decant train: options, the run, and what is said before and after it. */
#include <getopt.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include "cli/command.h"
#include "cli/detach.h"
#include "cli/evaluation.h"
#include "cli/evaluation_mirror.h"
#include "cli/evaluation_note.h"
#include "cli/evaluation_report.h"
#include "cli/launch_plan.h"
#include "cli/launcher.h"
#include "cli/private_redis.h"
#include "cli/progress.h"
#include "proto/redis_address.h"
#include "cli/shell_quote.h"

enum { WORKERS_DEFAULT = 2, LATER_REDIS_PORT = 6390 /* for looking at a finished run; arbitrary, not Redis's own */ };

static const char summary[] =
    "example: decant train --config deploy/configs/fashion-mnist.ini --run first --workers 2\n\n"
    "usage: decant train [--config FILE] [--run NAME] [--out DIR] [--workers N]\n"
    "                    [--resume] [--from-start] [--accept-data] [--set section.key=value]...\n"
    "                    [--redis ADDRESS | --no-redis] [--no-eval | --no-references] [--detach]\n\n"
    "Starts a prototype server, a parameter server, N workers and a private Redis on this machine, shows progress,\n"
    "and evaluates the encoder at the end. Ctrl-C finishes the step, writes a checkpoint and exits with 130; so does "
    "the\n"
    "end of a pipe's reader (| head). A second Ctrl-C kills everything at once. Nothing is ever left at work.\n\n"
    "  --config FILE     configuration (INI); see `decant config`\n"
    "  --run NAME        name of the run; its directory is runs/NAME\n"
    "  --out DIR         another directory\n"
    "  --workers N       worker processes (2); any number gives the same bytes\n"
    "  --resume          go on from the newest checkpoint in the directory; a new directory starts a run\n"
    "  --from-start      resume even if the checkpoints that were there are gone: the run begins again\n"
    "  --accept-data     with --resume: go on although the images are others than before; the checkpoints say so\n"
    "  --set KEY=VALUE   one configuration key, over file and environment; may be repeated\n"
    "  --redis ADDRESS   mirror to this Redis instead of a private one: HOST:PORT, "
    "redis://USER:PASSWORD@HOST:PORT/DB,\n"
    "                    unix://PATH or a socket's path\n"
    "  --no-redis        no mirror\n"
    "  --no-eval         no evaluation at the end\n"
    "  --no-references   an evaluation of the encoder only, without raw pixels and a random encoder beside it: less\n"
    "                    than half of the time\n"
    "  --detach          in the background: messages go to DIR/logs/launcher.log, `decant stop` ends it\n\n"
    "Exit status: 0 trained to the end, 1 failed, 2 wrong usage or configuration, 3 the run has diverged (the same "
    "would\n"
    "come of it again), 130 stopped before its end.\n\n"
    "keys:\n";

static const struct option options[] = {
    {"config", required_argument, NULL, 'c'},
    {"run", required_argument, NULL, 'n'},
    {"out", required_argument, NULL, 'o'},
    {"workers", required_argument, NULL, 'w'},
    {"resume", no_argument, NULL, 'r'},
    {"accept-data", no_argument, NULL, 'A'},
    {"set", required_argument, NULL, 's'},
    {"redis", required_argument, NULL, 'R'},
    {"no-redis", no_argument, NULL, 'N'},
    {"no-eval", no_argument, NULL, 'E'},
    {"no-references", no_argument, NULL, 'P'},
    {"detach", no_argument, NULL, 'D'},
    {"from-start", no_argument, NULL, 'S'},
    {"help", no_argument, NULL, 'h'},
    {NULL, 0, NULL, 0},
};

struct train_line {
    const char *name; /* of the command: train or resume */
    char **argv;      /* a password in it is blotted out once the plan has it */
    struct launch_options launch;
    bool evaluate, references, detach, accept_data;
};

/* The keys that --set takes belong to the help. NULL when there is no memory for it; to be freed. */
static char *help_text(void)
{
    char *text = NULL;
    size_t size;
    FILE *f = open_memstream(&text, &size);
    if (!f)
        return NULL;
    fputs(summary, f);
    for (size_t i = 0; i < run_config_key_count; i++)
        fprintf(f, "  %-32s %s [%s]\n", run_config_keys[i].name, run_config_keys[i].help, run_config_keys[i].initial);
    fclose(f);
    return text;
}

static int take_set(struct train_line *line, const char *assignment)
{
    struct launch_options *o = &line->launch;
    if (o->set_count == PLAN_SETS_MAX)
        return command_usage(line->name, "more than %d times --set", PLAN_SETS_MAX);
    o->sets[o->set_count++] = assignment;
    return -1;
}

static int take_workers(struct train_line *line)
{
    long long workers;
    if (command_number(optarg, 1, PLAN_WORKERS_MAX, &workers) != 0)
        return command_usage(line->name, "--workers %s: expected a number in 1..%d", optarg, PLAN_WORKERS_MAX);
    line->launch.workers = (unsigned)workers;
    return -1;
}

static int take_redis(struct train_line *line, enum redis_choice choice)
{
    struct launch_options *o = &line->launch;
    if (o->redis != REDIS_AUTOMATIC)
        return command_usage(line->name, "give --redis or --no-redis, and once");
    o->redis = choice;
    o->redis_address = optarg;
    return -1;
}

/* One option; -1 to go on, else the exit code. */
static int take_option(int option, void *arg)
{
    struct train_line *line = arg;
    struct launch_options *o = &line->launch;
    switch (option) {
    case 'c':
        o->config = optarg;
        return -1;
    case 'n':
        o->run = optarg;
        return -1;
    case 'o':
        o->out = optarg;
        return -1;
    case 'w':
        return take_workers(line);
    case 'r':
        o->resume = true;
        return -1;
    case 's':
        return take_set(line, optarg);
    case 'A':
        line->accept_data = true;
        return take_set(line, "run.accept_data=true");
    case 'R':
        return take_redis(line, REDIS_GIVEN);
    case 'N':
        return take_redis(line, REDIS_OFF);
    case 'E':
        line->evaluate = false;
        return -1;
    case 'P':
        line->references = false;
        return -1;
    case 'D':
        line->detach = true;
        return -1;
    case 'S':
        o->from_start = o->resume = true;
        return -1;
    }
    return -1;
}

/* A private Redis is a convenience: when it cannot be had, training goes on without. */
static void prepare_redis(struct launch_plan *p)
{
    struct error e = {0};
    private_redis_forget(p); /* one that is noted is not ours */
    if (!p->redis_private)
        return;
    p->redis_private = private_redis_installed();
    if (!p->redis_private)
        fputs("redis-server is not installed: no live view of the prototypes\n", stderr);
    else if (private_redis_prepare(p, &e) != 0) {
        fprintf(stderr, "no private Redis: %s\n", e.text);
        p->redis_private = false;
    }
}

static void print_look(const struct run_config *c)
{
    char db[24] = "", host[SHELL_QUOTE_MAX];
    if (c->redis.db != 0)
        snprintf(db, sizeof db, " -n %d", (int)c->redis.db);
    shell_quote(c->redis.host, host, sizeof host);
    if (c->redis.host[0] == '/')
        fprintf(stderr, "look inside while it runs: redis-cli -s %s%s hgetall decant:%s\n", host, db, c->run.name);
    else
        fprintf(stderr, "look inside while it runs: redis-cli -h %s -p %d%s hgetall decant:%s\n", host,
                (int)c->redis.port, db, c->run.name);
}

static void print_start(const struct launch_plan *p)
{
    const struct run_config *c = &p->config;
    fprintf(stderr, "run '%s' in %s: %s prototypes, %u worker%s; logs in %s\n", c->run.name, c->run.out,
            p->joint ? "joint" : "decoupled", p->workers, p->workers == 1 ? "" : "s", p->logs);
    if (!p->joint && c->redis.enabled)
        print_look(c);
}

static void print_end(const struct launch_plan *p, const struct launch_result *r)
{
    const struct run_config *c = &p->config;
    char total[32], directory[SHELL_QUOTE_MAX];
    progress_duration(r->seconds, total, sizeof total);
    if (r->was_complete)
        printf("the run was complete: there was nothing left to train\n");
    else
        printf("trained in %s\n", total);
    printf("checkpoint  %s/checkpoints (newest step in `latest`)\n", c->run.out);
    printf("metrics     %s/metrics-*.jsonl\n", c->run.out);
    printf("logs        %s\n", p->logs);
    if (p->redis_private)
        printf("prototypes  redis-server --port %d --dir %s --save '' --daemonize yes\n"
               "            redis-cli -p %d hgetall decant:%s      (redis-cli -p %d shutdown nosave ends it)\n",
               LATER_REDIS_PORT, shell_quote(p->redis_directory, directory, sizeof directory), LATER_REDIS_PORT,
               c->run.name, LATER_REDIS_PORT);
}

static void print_detached(const struct launch_plan *p)
{
    char out[SHELL_QUOTE_MAX], logs[SHELL_QUOTE_MAX];
    shell_quote(p->config.run.out, out, sizeof out);
    shell_quote(p->logs, logs, sizeof logs);
    printf("in the background as process %d\nwatch  decant top --out %s\n       tail -f %s/launcher.log\n"
           "stop   decant stop --out %s\n",
           (int)getpid(), out, logs, out);
}

/* Both commands go on with what is on disk. */
static void print_stopped(const struct launch_plan *p, const struct launch_result *r)
{
    char out[SHELL_QUOTE_MAX];
    shell_quote(p->config.run.out, out, sizeof out);
    if (r->complete)
        fprintf(stderr, "stopped; the run is complete. Evaluate it with: decant eval --checkpoint %s\n", out);
    else
        fprintf(stderr, "stopped; go on with: decant resume %s\n", out);
}

/* The last step takes part in the choice of the best, too. */
static void note_last(const struct launch_plan *p)
{
    struct evaluation_note n;
    struct error e = {0};
    if (p->config.eval.every == 0)
        return;
    if (evaluation_note(p->config.run.out, p->config.eval.images, &n, &e) != 0)
        fprintf(stderr, "the last step is not noted: %s\n", e.text);
    else {
        if (!p->redis_private && evaluation_mirror_write(&p->config, &n, &e) != 0) /* a private Redis is gone by now */
            fprintf(stderr, "the last step is not shown in Redis: %s\n", e.text);
        fprintf(stderr,
                "k-NN of %u images: %.2f %% at step %" PRIu64 ", best %.2f %% at step %" PRIu64
                ", kept as %s/checkpoints/best\n",
                n.bank, n.knn, n.step, n.best, n.best_step, p->config.run.out);
    }
}

static int evaluate(const struct launch_plan *p, bool references)
{
    struct evaluation_options o = {.references = references, .progress = stderr};
    struct evaluation result;
    struct error e = {0};
    if (evaluate_checkpoint(p->config.run.out, &o, &result, &e) != 0) {
        fprintf(stderr, "trained, but the evaluation failed: %s\n", e.text);
        return COMMAND_FAILED;
    }
    evaluation_print(&result, stdout);
    return COMMAND_DONE;
}

/* The background process lets go of its terminal once there is nothing more that could keep it from starting. */
static int let_go(const struct launch_plan *p, struct detach *d, struct error *e)
{
    char log[PLAN_PATH_MAX + 32];
    snprintf(log, sizeof log, "%s/launcher.log", p->logs);
    print_detached(p);
    return detach_ready(d, log, e);
}

static int run(const struct train_line *line, struct launch_plan *p, struct detach *d)
{
    struct launch_result result;
    struct error e = {0};
    prepare_redis(p);
    print_start(p);
    if (d && let_go(p, d, &e) != 0)
        return command_failed(line->name, &e);
    int rc = launcher_run(p, environ, stderr, &result, &e);
    if (p->redis_private)
        private_redis_forget(p);
    if (rc != 0 && !result.reported)
        fprintf(stderr, "decant %s: %s\n", line->name, e.text);
    switch (result.outcome) {
    case OUTCOME_INTERRUPTED:
        print_stopped(p, &result);
        return COMMAND_INTERRUPTED;
    case OUTCOME_DIVERGED:
        return COMMAND_DIVERGED;
    case OUTCOME_FAILED:
        return COMMAND_FAILED;
    case OUTCOME_ORDERLY:
        break;
    }
    note_last(p);
    int code = line->evaluate ? evaluate(p, line->references) : COMMAND_DONE;
    print_end(p, &result);
    return code;
}

/* With the plan made in the process that stays: it holds the directory's lock. */
static int start(const struct train_line *line, struct detach *d)
{
    struct launch_plan *plan = calloc(1, sizeof *plan); /* several KiB */
    struct error e = {0};
    if (!plan)
        return COMMAND_FAILED;
    int rc = launch_plan_make(&line->launch, environ, plan, &e);
    for (char **a = line->argv; *a; a++)
        redis_address_hide(*a);
    int code = rc == 0 ? run(line, plan, d) : command_failed(line->name, &e);
    launch_plan_fini(plan);
    free(plan);
    return code;
}

static int start_detached(const struct train_line *line)
{
    struct detach d;
    struct error e = {0};
    if (detach_fork(&d, &e) != 0)
        return command_failed(line->name, &e);
    return d.child > 0 ? detach_wait(&d) : start(line, &d);
}

int command_train(int argc, char **argv)
{
    struct train_line line = {
        .name = argv[0], .argv = argv, .launch.workers = WORKERS_DEFAULT, .evaluate = true, .references = true};
    char *help = help_text();
    const struct command_options command = {
        .name = argv[0], .help = help ? help : summary, .options = options, .take = take_option};
    int code = command_take_options(&command, argc, argv, &line);
    free(help);
    if (code >= 0)
        return code;
    if (line.accept_data && !line.launch.resume)
        return command_usage(line.name, "--accept-data goes with --resume: a new run has no images to compare with");
    return line.detach ? start_detached(&line) : start(&line, NULL);
}
