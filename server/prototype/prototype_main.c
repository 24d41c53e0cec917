/* decant-prototype: command line of the prototype server. */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include "common/log.h"
#include "proto/msg.h"
#include "server/prototype/service.h"

enum { ASSIGNMENTS_MAX = 256, EXIT_USAGE = 2 };

struct command_line {
    const char *config;
    const char *assignments[ASSIGNMENTS_MAX];
    size_t assignment_count;
    bool resume;
    enum log_level level;
};

static const char usage[] =
    "usage: decant-prototype [--config FILE] [--set SECTION.KEY=VALUE]... [--resume] [--log-level LEVEL]\n"
    "\n"
    "Owns the mixture of a run: takes EM statistics from workers, publishes mixture versions, mirrors them to Redis.\n"
    "\n"
    "  --config FILE            configuration (INI); environment DECANT_SECTION_KEY and --set override it\n"
    "  --set SECTION.KEY=VALUE  one configuration key\n"
    "  --resume                 go on from the newest checkpoint that both servers have\n"
    "  --log-level LEVEL        error, warn, info (default) or debug\n"
    "  --help, --version\n"
    "\n"
    "SIGTERM or SIGINT: writes a checkpoint and exits 0. Exit codes: 0 orderly, 1 failure, 2 wrong usage.\n";

static int wrong_usage(const char *message, const char *value)
{
    fprintf(stderr, "decant-prototype: %s%s; see --help\n", message, value ? value : "");
    return EXIT_USAGE;
}

/* -1 to go on, else the exit code. */
static int parse(int argc, char **argv, struct command_line *c)
{
    static const struct option options[] = {{"config", required_argument, NULL, 'c'},
                                            {"set", required_argument, NULL, 's'},
                                            {"resume", no_argument, NULL, 'r'},
                                            {"log-level", required_argument, NULL, 'l'},
                                            {"help", no_argument, NULL, 'h'},
                                            {"version", no_argument, NULL, 'v'},
                                            {NULL, 0, NULL, 0}};
    for (int o; (o = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        switch (o) {
        case 'c':
            c->config = optarg;
            break;
        case 's':
            if (c->assignment_count == ASSIGNMENTS_MAX)
                return wrong_usage("too many --set", NULL);
            c->assignments[c->assignment_count++] = optarg;
            break;
        case 'r':
            c->resume = true;
            break;
        case 'l':
            if (log_level_parse(optarg, &c->level) != 0)
                return wrong_usage("no such log level: ", optarg);
            break;
        case 'h':
            fputs(usage, stdout);
            return EXIT_SUCCESS;
        case 'v':
            printf("decant-prototype, protocol %d\n", PROTO_VERSION);
            return EXIT_SUCCESS;
        default:
            return EXIT_USAGE; /* getopt has said why */
        }
    }
    return optind < argc ? wrong_usage("unexpected argument: ", argv[optind]) : -1;
}

int main(int argc, char **argv)
{
    struct command_line c = {.level = LOG_INFO};
    int code = parse(argc, argv, &c);
    if (code >= 0)
        return code;
    log_init("prototype", c.level);
    struct run_config config;
    struct error e = {0};
    if (run_config_load(&config, c.config, environ, c.assignments, c.assignment_count, &e) != 0)
        return wrong_usage(e.text, NULL);
    if (prototype_service_run(&config, c.resume, &e) == 0)
        return EXIT_SUCCESS;
    log_error("event=exit text=\"%s\"", e.text);
    return EXIT_FAILURE;
}
