/* decant-worker: the command line of a worker. */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include "common/log.h"
#include "common/vecmath.h"
#include "proto/msg.h"
#include "proto/run_config.h"
#include "worker/service.h"

enum exit_code { EXIT_DONE = 0, EXIT_FAILED = 1, EXIT_USAGE = 2 };

enum { ASSIGNMENTS_MAX = 256 }; /* more than there are keys */

struct command_line {
    const char *config; /* file, or NULL */
    const char *assignments[ASSIGNMENTS_MAX];
    size_t assignment_count;
    enum log_level level;
};

static void print_help(void)
{
    puts("usage: decant-worker [--config FILE] [--set section.key=value]...\n"
         "                     [--log-level error|warn|info|debug]\n"
         "       decant-worker --help | --version\n"
         "\n"
         "Computes slots that the parameter server leases: statistics to the prototype server, gradients back.\n"
         "\n"
         "  --config FILE              configuration (INI); environment DECANT_SECTION_KEY and --set override it\n"
         "  --set section.key=value    one setting; may be repeated\n"
         "  --log-level LEVEL          least important level that is logged (info)\n"
         "\n"
         "SIGTERM and SIGINT finish the slots in hand and exit; a second one does not wait.\n"
         "Exit status: 0 done, 1 failed, 2 wrong usage or configuration. `decant train --help` lists all keys.");
}

static int usage(const char *what, const char *value)
{
    fprintf(stderr, "decant-worker: %s%s; see decant-worker --help\n", what, value);
    return EXIT_USAGE;
}

static const struct option options[] = {
    {"config", required_argument, NULL, 'c'},    {"set", required_argument, NULL, 's'},
    {"log-level", required_argument, NULL, 'l'}, {"help", no_argument, NULL, 'h'},
    {"version", no_argument, NULL, 'v'},         {NULL, 0, NULL, 0},
};

/* One option; -1 to go on, else the exit code. */
static int take_option(struct command_line *c, int option)
{
    switch (option) {
    case 'c':
        c->config = optarg;
        return -1;
    case 's':
        if (c->assignment_count == ASSIGNMENTS_MAX)
            return usage("too many --set", "");
        c->assignments[c->assignment_count++] = optarg;
        return -1;
    case 'l':
        return log_level_parse(optarg, &c->level) == 0 ? -1 : usage("unknown log level: ", optarg);
    case 'h':
        print_help();
        return EXIT_DONE;
    case 'v':
        printf("decant-worker, protocol %d\n", PROTO_VERSION);
        return EXIT_DONE;
    default:
        return usage("unknown option", "");
    }
}

static int parse_command_line(int argc, char **argv, struct command_line *c)
{
    int option, code = -1;
    opterr = 1;
    while (code < 0 && (option = getopt_long(argc, argv, "", options, NULL)) != -1)
        code = take_option(c, option);
    if (code < 0 && optind < argc)
        code = usage("unexpected argument: ", argv[optind]);
    return code;
}

int main(int argc, char **argv)
{
    struct command_line line = {.level = LOG_INFO};
    int code = parse_command_line(argc, argv, &line);
    if (code >= 0)
        return code;
    static struct run_config config; /* several KiB */
    struct error e = {0};
    if (run_config_load(&config, line.config, environ, line.assignments, line.assignment_count, &e) != 0)
        return usage(e.text, "");
    log_init("worker", line.level);
    compute_thread_init();
    blas_single_threaded();
    if (worker_service_run(&config, &e) != 0) {
        log_error("event=failed error=%s cause=\"%s\"", error_name(e.code), e.text);
        return EXIT_FAILED;
    }
    return EXIT_DONE;
}
