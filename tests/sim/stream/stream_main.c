/* stream --seed N [--verbose]    one seed, with its trace
 * stream [--seeds A..B]          many; the first failure is printed with the command that replays it */
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include "common/log.h"
#include "common/blas.h"
#include "common/vecmath.h"
#include "tests/sim/stream/stream_sim.h"

#ifdef __SANITIZE_ADDRESS__
enum { SEEDS_DEFAULT = 100 };
#else
enum { SEEDS_DEFAULT = 600 };
#endif

struct options {
    uint64_t first, last;
    bool one, verbose;
};

static bool parse(struct options *o, int argc, char **argv)
{
    static const struct option longs[] = {{"seed", required_argument, NULL, 's'},
                                          {"seeds", required_argument, NULL, 'S'},
                                          {"verbose", no_argument, NULL, 'v'},
                                          {0}};
    for (int option; (option = getopt_long(argc, argv, "", longs, NULL)) != -1;) {
        if (option == 's' && sscanf(optarg, "%" SCNu64, &o->first) == 1)
            o->one = true;
        else if (option == 'v')
            o->verbose = true;
        else if (option != 'S' || sscanf(optarg, "%" SCNu64 "..%" SCNu64, &o->first, &o->last) != 2)
            return false;
    }
    o->last = o->one ? o->first : o->last;
    return optind == argc;
}

int main(int argc, char **argv)
{
    static struct world w;
    struct options o = {.first = 1, .last = SEEDS_DEFAULT};
    uint64_t passed = 0, failed = 0, crashes = 0, duplicates = 0, replays = 0;
    if (!parse(&o, argc, argv)) {
        fprintf(stderr, "usage: stream --seed N [--verbose] | stream [--seeds A..B]\n");
        return 2;
    }
    setvbuf(stdout, NULL, _IOLBF, 0);
    log_init("stream", LOG_ERROR);
    blas_single_threaded();
    compute_thread_init();
    for (uint64_t seed = o.first; seed <= o.last && failed == 0; seed++) {
        world_run(&w, seed, o.verbose);
        crashes += w.crashes;
        duplicates += w.duplicates;
        replays += w.replays;
        passed += w.failure[0] == '\0';
        failed += w.failure[0] != '\0';
        if (w.failure[0] != '\0')
            printf("seed %" PRIu64 " failed %s\n  replay: %s --seed %" PRIu64 " --verbose\n", seed, w.failure, argv[0],
                   seed);
        if (o.one)
            printf("seed %" PRIu64 " trace %016" PRIx64 "\n", seed, w.trace);
    }
    printf("%" PRIu64 " crashes of the server, %" PRIu64 " of which lost what was accepted; %" PRIu64 " duplicates\n",
           crashes, replays, duplicates);
    printf("%" PRIu64 " passed, %" PRIu64 " failed\n", passed, failed);
    return failed > 0;
}
