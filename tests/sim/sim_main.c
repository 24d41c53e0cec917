/* sim --seed N [--verbose]              one seed, with its trace
 * sim [--seeds A..B] [--jobs J]         many; the first failure ends it and is printed with the command that replays it
 *
 * Seeds are handed to processes one by one, so that a crash of one (a failed ASSERT, a sanitizer's report) is known by
 * its seed too. */
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include "common/log.h"
#include "common/vecmath.h"
#include "tests/sim/sim.h"

#ifdef __SANITIZE_ADDRESS__
enum { SEEDS_DEFAULT = 300 };
#else
enum { SEEDS_DEFAULT = 3000 };
#endif
enum { JOBS_MAX = 64, PROGRESS_S = 10 };

struct options {
    const char *program;
    uint64_t first, last;
    uint32_t jobs;
    bool one, verbose;
};

/* What the processes share. */
struct board {
    _Atomic uint64_t next, passed;
    _Atomic bool stop;
    struct {
        uint64_t seed; /* being run */
        char failure[FAILURE_BYTES];
    } jobs[JOBS_MAX];
};

static struct reference references[SCENARIO_CONFIGS];

/* ---- one seed ---- */

/* The states of the undisturbed run of this configuration, computed when first wanted. */
static void make_reference(struct cluster *c, uint32_t number, char failure[FAILURE_BYTES])
{
    struct reference *r = &references[number];
    struct scenario s;
    if (r->known)
        return;
    scenario_undisturbed(number, &s);
    cluster_run(c, &s, r, false);
    if (c->checker.duplicates > 0)
        sim_fail(c, "%" PRIu64 " contributions were sent twice", c->checker.duplicates);
    if (c->failure[0] != '\0')
        snprintf(failure, FAILURE_BYTES, "undisturbed run of configuration %u: %.900s", number, c->failure);
    r->known = true;
    cluster_fini(c);
    scenario_fini(&s);
}

/* Returns the hash of the trace; failure is "" when all is well. */
static uint64_t run_seed(uint64_t seed, bool verbose, char failure[FAILURE_BYTES])
{
    static struct cluster c;
    struct scenario s;
    failure[0] = '\0';
    make_reference(&c, (uint32_t)(seed % SCENARIO_CONFIGS), failure);
    if (failure[0] != '\0')
        return 0;
    scenario_draw(seed, &s);
    if (verbose)
        scenario_print(&s);
    cluster_run(&c, &s, &references[s.number], verbose);
    memcpy(failure, c.failure, FAILURE_BYTES);
    if (verbose)
        printf("%" PRIu64 " events, %.1f s, %u faults, %u server crashes, %u rewinds, %" PRIu64 " duplicates, %" PRIu64
               " re-seeds\n",
               c.handled, (double)sim_now(&c) / 1e6, c.faults, c.checker.crashes, c.checker.rewinds,
               c.checker.duplicates, c.checker.reseeded);
    cluster_fini(&c);
    scenario_fini(&s);
    return c.trace;
}

static int replay(const struct options *o)
{
    char failure[FAILURE_BYTES];
    uint64_t trace = run_seed(o->first, o->verbose, failure);
    if (failure[0] != '\0')
        printf("seed %" PRIu64 " failed %s\n", o->first, failure);
    printf("seed %" PRIu64 " trace %016" PRIx64 "\n", o->first, trace);
    printf("%d passed, %d failed\n", failure[0] == '\0', failure[0] != '\0');
    return failure[0] != '\0';
}

/* ---- many ---- */

static void run_share(struct board *b, const struct options *o, uint32_t job)
{
    while (!b->stop) {
        uint64_t seed = b->next++;
        if (seed > o->last)
            return;
        b->jobs[job].seed = seed;
        run_seed(seed, false, b->jobs[job].failure);
        if (b->jobs[job].failure[0] != '\0') {
            b->stop = true;
            return;
        }
        b->passed++;
    }
}

static double seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void print_failure(const struct board *b, const struct options *o, uint32_t job, int status)
{
    char crash[64];
    snprintf(crash, sizeof crash, "crashed (%s %d)", WIFSIGNALED(status) ? "signal" : "exit",
             WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
    const char *failure = b->jobs[job].failure;
    printf("seed %" PRIu64 " failed %s\n  replay: %s --seed %" PRIu64 " --verbose\n", b->jobs[job].seed,
           failure[0] != '\0' ? failure : crash, o->program, b->jobs[job].seed);
}

/* Waits for the processes; returns how many failed. */
static uint32_t wait_all(struct board *b, const struct options *o, const pid_t *pids, double began)
{
    uint32_t failed = 0;
    double said = began;
    for (uint32_t left = o->jobs; left > 0;) {
        int status = 0;
        pid_t pid = waitpid(-1, &status, WNOHANG);
        if (pid == 0) {
            if (seconds() - said >= PROGRESS_S) {
                said = seconds();
                printf("%" PRIu64 " runs, %.0f a minute\n", b->passed, 60 * (double)b->passed / (said - began));
                fflush(stdout);
            }
            nanosleep(&(struct timespec){.tv_nsec = 20000000}, NULL);
            continue;
        }
        uint32_t job = 0;
        while (job < o->jobs && pids[job] != pid)
            job++;
        left--;
        if (job == o->jobs || (WIFEXITED(status) && WEXITSTATUS(status) == 0 && b->jobs[job].failure[0] == '\0'))
            continue;
        b->stop = true;
        failed++;
        print_failure(b, o, job, status);
    }
    return failed;
}

static int run_many(const struct options *o)
{
    pid_t pids[JOBS_MAX];
    double began = seconds();
    struct board *b = mmap(NULL, sizeof *b, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (b == MAP_FAILED) {
        perror("sim: mmap");
        return 1;
    }
    b->next = o->first;
    for (uint32_t job = 0; job < o->jobs; job++) {
        pids[job] = fork();
        if (pids[job] == 0) {
            run_share(b, o, job);
            exit(0);
        }
        if (pids[job] < 0) {
            perror("sim: fork");
            return 1;
        }
    }
    uint32_t failed = wait_all(b, o, pids, began);
    double took = seconds() - began;
    printf("seeds %" PRIu64 "..%" PRIu64 ": %.1f s, %.0f runs a minute\n", o->first, o->last, took,
           60 * (double)b->passed / took);
    printf("%" PRIu64 " passed, %u failed\n", b->passed, failed);
    munmap(b, sizeof *b);
    return failed > 0;
}

/* ---- the command line ---- */

static int usage(void)
{
    fprintf(stderr, "usage: sim --seed N [--verbose] | sim [--seeds A..B] [--jobs J]\n");
    return 2;
}

static bool parse(struct options *o, int argc, char **argv)
{
    static const struct option longs[] = {{"seed", required_argument, NULL, 's'},
                                          {"seeds", required_argument, NULL, 'S'},
                                          {"jobs", required_argument, NULL, 'j'},
                                          {"verbose", no_argument, NULL, 'v'},
                                          {0}};
    int option;
    while ((option = getopt_long(argc, argv, "", longs, NULL)) != -1) {
        bool ok = true;
        if (option == 's')
            ok = sscanf(optarg, "%" SCNu64, &o->first) == 1;
        else if (option == 'S')
            ok = sscanf(optarg, "%" SCNu64 "..%" SCNu64, &o->first, &o->last) == 2 && o->first <= o->last;
        else if (option == 'j')
            ok = sscanf(optarg, "%" SCNu32, &o->jobs) == 1 && o->jobs > 0 && o->jobs <= JOBS_MAX;
        else if (option != 'v')
            ok = false;
        if (!ok)
            return false;
        o->one = o->one || option == 's';
        o->verbose = o->verbose || option == 'v';
    }
    return optind == argc;
}

int main(int argc, char **argv)
{
    struct options o = {.program = argv[0], .first = 1, .last = SEEDS_DEFAULT, .jobs = 2};
    if (!parse(&o, argc, argv))
        return usage();
    log_init("sim", LOG_ERROR);
    blas_single_threaded();
    compute_thread_init();
    return o.one ? replay(&o) : run_many(&o);
}
