/* decant stop: tells the launcher of a run to end, and waits until it has. */
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include "cli/command.h"
#include "cli/run_argument.h"
#include "cli/run_holder.h"
#include "cli/run_progress.h"
#include "cli/shell_quote.h"
#include "common/files.h"

enum { LOOK_MS = 100, REMIND_MS = 10000, SECONDS_DEFAULT = 120 };

static const char help[] =
    "example: decant stop fashion-mnist\n\n"
    "usage: decant stop {RUN | --out DIR} [--now] [--timeout SECONDS]\n\n"
    "Tells the `decant train` that is at work in RUN, or in DIR, to finish its step, write a checkpoint and end, "
    "and\n"
    "waits for it; the process is the one that holds the directory's lock. Nothing at work there is "
    "fine.\n\n" RUN_ARGUMENT_HELP "  --out DIR          the run's directory\n"
    "  --now              kill its processes at once: steps after the newest checkpoint will be computed again\n"
    "  --timeout S        seconds to wait (120)\n\n"
    "Exit status: 0 nothing is at work there any more, 1 it still is or cannot be told, 2 wrong usage.\n";

static const struct option options[] = {
    {"out", required_argument, NULL, 'o'},
    {"now", no_argument, NULL, 'n'},
    {"timeout", required_argument, NULL, 't'},
    {"help", no_argument, NULL, 'h'},
    {NULL, 0, NULL, 0},
};

struct stop_line {
    const char *out;
    bool now;
    double seconds;
};

static int take_option(int option, void *arg)
{
    struct stop_line *line = arg;
    if (option == 'o')
        line->out = optarg;
    else if (option == 'n')
        line->now = true;
    else if (option == 't' && command_seconds(optarg, 0, 1e6, &line->seconds) != 0)
        return command_usage("stop", "--timeout %s: expected seconds", optarg);
    return -1;
}

static void print_stopped(const char *out)
{
    struct run_config c;
    struct run_progress p = {0};
    char quoted[SHELL_QUOTE_MAX];
    memset(&c, 0, sizeof c);
    if (path_format(c.run.out, sizeof c.run.out, "%s", out) == 0)
        run_progress_read(&c, &p);
    shell_quote(out, quoted, sizeof quoted);
    if (run_progress_complete(&p))
        printf("stopped; the run is complete, at step %" PRIu64 "\n", p.step);
    else if (p.any)
        printf("stopped, with a checkpoint of step %" PRIu64 "; go on with: decant resume %s\n", p.step, quoted);
    else
        printf("stopped, before the first checkpoint\n");
}

static int64_t now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* Until the lock is free, and not merely in other hands. */
static int wait_for_end(const char *out, const struct run_holder *told, double seconds, struct error *e)
{
    const struct timespec pause = {.tv_nsec = LOOK_MS * 1000000L};
    const int64_t start = now_ms();
    int64_t reminded = start;
    struct run_holder h = *told;
    while (h.held && h.pid == told->pid) {
        int64_t now = now_ms();
        if ((double)(now - start) >= seconds * 1000)
            return error_set(e, ERR_AGAIN, "%s is still at work in %s after %.0f s; wait longer, or add --now",
                             told->name, out, seconds);
        if (now - reminded >= REMIND_MS) {
            fprintf(stderr, "still stopping after %d s\n", (int)((now - start) / 1000));
            reminded = now;
        }
        nanosleep(&pause, NULL);
        int rc = run_holder_find(out, &h, e);
        if (rc != 0)
            return rc;
    }
    return 0;
}

static int stop(const char *out, const struct stop_line *line, struct error *e)
{
    struct run_holder h;
    int rc = run_holder_find(out, &h, e);
    if (rc == ERR_NOT_FOUND)
        return error_set(e, rc, "%s: no run here (no lock-launcher); name a run, or its directory with --out", out);
    if (rc != 0)
        return rc;
    if (!h.held) {
        printf("nothing is at work in %s\n", out);
        return 0;
    }
    if (h.pid == 0 || kill(h.pid, line->now ? SIGQUIT : SIGTERM) != 0)
        return error_set(
            e, ERR_STATE,
            "%s is at work in %s, but cannot be told from here: it is another user's, or on another host or "
            "in another container; stop it there",
            h.name[0] ? h.name : "somebody", out);
    fprintf(stderr, "process %d %s\n", (int)h.pid,
            line->now ? "is told to kill everything at once"
                      : "finishes the step in progress, writes a checkpoint and ends");
    rc = wait_for_end(out, &h, line->seconds, e);
    if (rc == 0)
        print_stopped(out);
    return rc;
}

static const struct command_options command = {
    .name = "stop", .help = help, .options = options, .take = take_option, .arguments_max = 1};

int command_stop(int argc, char **argv)
{
    struct stop_line line = {.seconds = SECONDS_DEFAULT};
    struct error e = {0};
    char directory[CHECKPOINT_PATH_MAX];
    int code = command_take_options(&command, argc, argv, &line);
    if (code >= 0)
        return code;
    code = run_argument_take("stop", argc, argv, line.out != NULL, directory);
    if (code >= 0)
        return code;
    if (!line.out && directory[0] == '\0')
        return command_usage("stop", "give a RUN, or --out DIR");
    if (line.out && path_format(directory, sizeof directory, "%s", line.out) != 0)
        return command_usage("stop", "the directory's name is too long");
    return stop(directory, &line, &e) == 0 ? COMMAND_DONE : command_failed("stop", &e);
}
