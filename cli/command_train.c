/* decant train: options, the run, and what is said before and after it. */
#include <getopt.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include "cli/command.h"
#include "cli/evaluation.h"
#include "cli/evaluation_report.h"
#include "cli/launch_plan.h"
#include "cli/launcher.h"
#include "cli/private_redis.h"
#include "cli/progress.h"

enum { WORKERS_DEFAULT = 2, LATER_REDIS_PORT = 6390 /* for looking at a finished run; arbitrary, not Redis's own */ };

static const char help[] =
    "example: decant train --config deploy/configs/fashion-mnist.ini --run first --workers 2\n\n"
    "usage: decant train [--config FILE] [--run NAME] [--out DIR] [--workers N] [--resume]\n"
    "                    [--accept-data] [--set section.key=value]... [--redis HOST:PORT | --no-redis] [--no-eval]\n\n"
    "Starts a prototype server, a parameter server, N workers and a private Redis on this machine, shows progress,\n"
    "and evaluates the encoder at the end. Ctrl-C finishes the step, writes a checkpoint and exits with 130.\n\n"
    "  --config FILE     configuration (INI); see `decant config`\n"
    "  --run NAME        name of the run; its directory is runs/NAME\n"
    "  --out DIR         another directory\n"
    "  --workers N       worker processes (2); any number gives the same bytes\n"
    "  --resume          go on from the newest checkpoint in the directory, if there is one\n"
    "  --accept-data     with --resume: go on although the images are others than before; the checkpoints say so\n"
    "  --set KEY=VALUE   one configuration key, over file and environment; may be repeated\n"
    "  --redis ADDRESS   mirror to this Redis (HOST:PORT or a socket's path) instead of a private one\n"
    "  --no-redis        no mirror\n"
    "  --no-eval         no evaluation at the end\n\n"
    "keys:\n";

static const struct option options[] = {
    {"config", required_argument, NULL, 'c'}, {"run", required_argument, NULL, 'n'},
    {"out", required_argument, NULL, 'o'},    {"workers", required_argument, NULL, 'w'},
    {"resume", no_argument, NULL, 'r'},       {"accept-data", no_argument, NULL, 'A'},
    {"set", required_argument, NULL, 's'},    {"redis", required_argument, NULL, 'R'},
    {"no-redis", no_argument, NULL, 'N'},     {"no-eval", no_argument, NULL, 'E'},
    {"help", no_argument, NULL, 'h'},         {NULL, 0, NULL, 0},
};

struct train_line {
    struct launch_options launch;
    bool evaluate;
};

static int print_help(void)
{
    fputs(help, stdout);
    for (size_t i = 0; i < run_config_key_count; i++)
        printf("  %-32s %s [%s]\n", run_config_keys[i].name, run_config_keys[i].help, run_config_keys[i].initial);
    return COMMAND_DONE;
}

static int take_set(struct launch_options *o, const char *assignment)
{
    if (o->set_count == PLAN_SETS_MAX)
        return command_usage("train", "more than %d times --set", PLAN_SETS_MAX);
    o->sets[o->set_count++] = assignment;
    return -1;
}

static int take_workers(struct launch_options *o)
{
    long long workers;
    if (command_number(optarg, 1, PLAN_WORKERS_MAX, &workers) != 0)
        return command_usage("train", "--workers %s: expected a number in 1..%d", optarg, PLAN_WORKERS_MAX);
    o->workers = (unsigned)workers;
    return -1;
}

static int take_redis(struct launch_options *o, enum redis_choice choice)
{
    if (o->redis != REDIS_AUTOMATIC)
        return command_usage("train", "give --redis or --no-redis, and once");
    o->redis = choice;
    o->redis_address = optarg;
    return -1;
}

/* One option; -1 to go on, else the exit code. */
static int take_option(int option, char *const *argv, struct train_line *line)
{
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
        return take_workers(o);
    case 'r':
        o->resume = true;
        return -1;
    case 's':
        return take_set(o, optarg);
    case 'A':
        return take_set(o, "run.accept_data=true");
    case 'R':
        return take_redis(o, REDIS_GIVEN);
    case 'N':
        return take_redis(o, REDIS_OFF);
    case 'E':
        line->evaluate = false;
        return -1;
    case 'h':
        return print_help();
    default:
        return command_bad_option("train", options, option, argv);
    }
}

/* A private Redis is a convenience: when it cannot be had, training goes on without. */
static void prepare_redis(struct launch_plan *p)
{
    struct error e = {0};
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

static void print_start(const struct launch_plan *p)
{
    const struct run_config *c = &p->config;
    fprintf(stderr, "run '%s' in %s: %s prototypes, %u worker%s; logs in %s\n", c->run.name, c->run.out,
            p->joint ? "joint" : "decoupled", p->workers, p->workers == 1 ? "" : "s", p->logs);
    if (!p->joint && c->redis.enabled && c->redis.host[0] == '/')
        fprintf(stderr, "look inside while it runs: redis-cli -s %s hgetall decant:%s\n", c->redis.host, c->run.name);
    else if (!p->joint && c->redis.enabled)
        fprintf(stderr, "look inside while it runs: redis-cli -h %s -p %d hgetall decant:%s\n", c->redis.host,
                (int)c->redis.port, c->run.name);
}

static void print_end(const struct launch_plan *p, double seconds)
{
    const struct run_config *c = &p->config;
    char total[32];
    progress_duration(seconds, total, sizeof total);
    printf("trained in %s\n", total);
    printf("checkpoint  %s/checkpoints (newest step in `latest`)\n", c->run.out);
    printf("metrics     %s/metrics-*.jsonl\n", c->run.out);
    printf("logs        %s\n", p->logs);
    if (p->redis_private)
        printf("prototypes  redis-server --port %d --dir %s --save '' --daemonize yes\n"
               "            redis-cli -p %d hgetall decant:%s      (redis-cli -p %d shutdown nosave ends it)\n",
               LATER_REDIS_PORT, p->redis_directory, LATER_REDIS_PORT, c->run.name, LATER_REDIS_PORT);
}

static int evaluate(const struct launch_plan *p)
{
    struct evaluation_options o = {.references = true, .progress = stderr};
    struct evaluation result;
    struct error e = {0};
    if (evaluate_checkpoint(p->config.run.out, &o, &result, &e) != 0) {
        fprintf(stderr, "trained, but the evaluation failed: %s\n", e.text);
        return COMMAND_FAILED;
    }
    evaluation_print(&result, stdout);
    return COMMAND_DONE;
}

static int run(struct launch_plan *p, bool wants_evaluation)
{
    struct launch_result result;
    struct error e = {0};
    prepare_redis(p);
    print_start(p);
    int rc = launcher_run(p, environ, stderr, &result, &e);
    if (p->redis_private)
        private_redis_forget(p);
    if (rc != 0 && !result.reported)
        fprintf(stderr, "decant train: %s\n", e.text);
    if (result.interrupted) {
        fprintf(stderr, "stopped; go on with: decant train --run %s --out %s --resume\n", p->config.run.name,
                p->config.run.out);
        return COMMAND_INTERRUPTED;
    }
    if (rc != 0)
        return COMMAND_FAILED;
    int code = wants_evaluation ? evaluate(p) : COMMAND_DONE;
    print_end(p, result.seconds);
    return code;
}

int command_train(int argc, char **argv)
{
    struct train_line line = {.launch.workers = WORKERS_DEFAULT, .evaluate = true};
    struct launch_plan *plan = calloc(1, sizeof *plan); /* several KiB */
    struct error e = {0};
    int option, code = -1;
    if (!plan)
        return COMMAND_FAILED;
    while (code < 0 && (option = getopt_long(argc, argv, ":h", options, NULL)) != -1)
        code = take_option(option, argv, &line);
    if (code < 0 && optind < argc)
        code = command_usage("train", "unexpected argument '%s'", argv[optind]);
    if (code < 0) {
        code = launch_plan_make(&line.launch, environ, plan, &e) == 0 ? run(plan, line.evaluate)
                                                                      : command_failed("train", &e);
        launch_plan_fini(plan);
    }
    free(plan);
    return code;
}
