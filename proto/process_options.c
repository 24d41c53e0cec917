/* getopt_long over the shared options. This is the only library code that prints: the answer to a
 * command line is what it prints. */
#include "proto/process_options.h"

#include <getopt.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "common/blas.h"
#include "common/kernels.h"
#include "common/limits.h"
#include "common/version.h"
#include "proto/msg.h"

enum {
    ASSIGNMENTS_MAX = 256,    /* more than there are keys */
    SERVER_DESCRIPTORS = 256, /* HTTP, files, libraries, and a few dozen connections for each socket */
    WORKER_DESCRIPTORS = 64,
    ADDRESS_BYTES = 256 << 20, /* beside what is mapped at the start: stacks and arenas of a handful of threads */
    DATA_BYTES = 208 << 20     /* of its own: 128 MiB are a buffer of OpenBLAS, 64 stacks */
};

struct sources {
    const char *file; /* --config, or NULL */
    const char *assignments[ASSIGNMENTS_MAX];
    size_t count;
    bool insecure;
};

static void print_help(const struct process_options *o)
{
    printf("usage: %s [--config FILE] [--set section.key=value]...%s%s [--log-level LEVEL]\n"
           "       %s health [--config FILE] [--set section.key=value]...\n"
           "       %s --help | --version\n\n%s\n\n"
           "  --config FILE              configuration (INI); environment DECANT_SECTION_KEY and --set override it\n"
           "  --set section.key=value    one setting; may be repeated\n",
           o->program, o->can_resume ? " [--resume]" : "", o->listens ? " [--insecure]" : "", o->program, o->program,
           o->purpose);
    if (o->listens)
        puts("  --insecure                 listen beyond this machine although there are no keys (net.insecure)");
    if (o->can_resume)
        puts("  --resume                   go on from the newest complete checkpoint below run.out");
    printf("  --log-level LEVEL          error, warn, info (default) or debug\n\n%s\n"
           "health says in one line whether the process with that configuration is well, with exit status 0 or 1.\n"
           "Exit status: 0 done, 1 failed, 2 wrong usage or configuration, 3 the run has diverged (another start ends "
           "the\n"
           "same way). `decant config` lists all keys.\n",
           o->signals);
}

static int usage(const struct process_options *o, const char *what, const char *value)
{
    fprintf(stderr, "%s: %s%s; see %s --help\n", o->program, what, value, o->program);
    return EXIT_USAGE;
}

/* Takes one option. -1: go on; else the exit code. */
static int take_option(struct process_options *o, struct sources *s, int option)
{
    switch (option) {
    case 'c':
        s->file = optarg;
        return -1;
    case 's':
        if (s->count == ASSIGNMENTS_MAX)
            return usage(o, "too many --set", "");
        s->assignments[s->count++] = optarg;
        return -1;
    case 'r':
        o->resume = true;
        return o->can_resume ? -1 : usage(o, "no such option: --resume", "");
    case 'i':
        s->insecure = true;
        return o->listens ? -1 : usage(o, "no such option: --insecure", "");
    case 'l':
        return log_level_parse(optarg, &o->level) == 0 ? -1 : usage(o, "unknown log level: ", optarg);
    case 'h':
        print_help(o);
        return EXIT_DONE;
    case 'v':
        printf("%s " DECANT_VERSION ", protocol %d\n", o->program, PROTO_VERSION);
        return EXIT_DONE;
    default:
        return EXIT_USAGE; /* getopt has said why */
    }
}

int process_limits(bool listens, struct error *e)
{
    return limits_prepare(listens ? SERVER_DESCRIPTORS : WORKER_DESCRIPTORS, ADDRESS_BYTES, DATA_BYTES, e);
}

int process_options_parse(struct process_options *o, int argc, char **argv)
{
    static const struct option options[] = {
        {"config", required_argument, NULL, 'c'},    {"set", required_argument, NULL, 's'},
        {"resume", no_argument, NULL, 'r'},          {"insecure", no_argument, NULL, 'i'},
        {"log-level", required_argument, NULL, 'l'}, {"help", no_argument, NULL, 'h'},
        {"version", no_argument, NULL, 'v'},         {NULL, 0, NULL, 0},
    };
    struct sources s = {0};
    struct error e = {0};
    o->level = LOG_INFO;
    for (int option; (option = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        int code = take_option(o, &s, option);
        if (code >= 0)
            return code;
    }
    o->health = argc - optind == 1 && strcmp(argv[optind], "health") == 0;
    if (optind < argc && !o->health)
        return usage(o, "unexpected argument: ", argv[optind]);
    if (kernels_from_environment(&e) != 0)
        return usage(o, e.text, "");
    if (!o->health)
        blas_restart_if_behind(argv);
    if (run_config_load(&o->config, s.file, environ, s.assignments, s.count, &e) != 0 ||
        run_config_resolve_paths(&o->config, &e) != 0 || (o->trains && run_config_check_trains(&o->config, &e) != 0))
        return usage(o, e.text, "");
    o->config.net.insecure |= s.insecure;
    if (!o->health && process_limits(o->listens, &e) != 0)
        return usage(o, e.text, "");
    return -1;
}
