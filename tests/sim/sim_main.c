/* sim --seed N [--verbose]              one seed, with its trace
 * sim [--seeds A..B] [--jobs J] [--keep-going]
 *                                       many; a failure is printed with the command that replays it, and the first one
 *                                       ends it unless told otherwise
 *
 * Seeds are handed to processes one by one, so that a crash of one (a failed ASSERT, a sanitizer's report) is known by
 * its seed too. */
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include "common/log.h"
#include "common/blas.h"
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
    bool one, verbose, keep_going;
};

/* What the processes share. */
struct tally {
    _Atomic uint64_t faults, duplicates;
    _Atomic uint64_t crashes, rewinds, rewinds_refused, pairs_stuck; /* of servers */
};

struct board {
    _Atomic uint64_t next, passed, failed;
    struct tally tally;
    _Atomic bool stop;
    uint64_t seeds[JOBS_MAX]; /* being run, by process */
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
static uint64_t run_seed(uint64_t seed, bool verbose, struct tally *tally, char failure[FAILURE_BYTES])
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
    tally->faults += c.faults;
    tally->crashes += c.checker.crashes;
    tally->rewinds += c.checker.rewinds;
    tally->duplicates += c.checker.duplicates;
    tally->rewinds_refused += c.checker.rewinds_refused;
    tally->pairs_stuck += c.checker.pairs_stuck;
    scenario_fini(&s);
    return c.trace;
}

static int replay(const struct options *o)
{
    char failure[FAILURE_BYTES];
    struct tally tally = {0};
    uint64_t trace = run_seed(o->first, o->verbose, &tally, failure);
    if (failure[0] != '\0')
        printf("seed %" PRIu64 " failed %s\n", o->first, failure);
    printf("seed %" PRIu64 " trace %016" PRIx64 "\n", o->first, trace);
    printf("%d passed, %d failed\n", failure[0] == '\0', failure[0] != '\0');
    return failure[0] != '\0';
}

/* ---- many ---- */

static void report(struct board *b, const struct options *o, uint64_t seed, const char *failure)
{
    b->failed++;
    b->stop = b->stop || !o->keep_going;
    printf("seed %" PRIu64 " failed %s\n  replay: %s --seed %" PRIu64 " --verbose\n", seed, failure, o->program, seed);
    fflush(stdout);
}

static void run_share(struct board *b, const struct options *o, uint32_t job)
{
    char failure[FAILURE_BYTES];
    while (!b->stop) {
        uint64_t seed = b->next++;
        if (seed > o->last)
            return;
        b->seeds[job] = seed;
        run_seed(seed, false, &b->tally, failure);
        if (failure[0] != '\0')
            report(b, o, seed, failure);
        else
            b->passed++;
    }
}

static double seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void say_progress(const struct board *b, double took)
{
    printf("%" PRIu64 " runs, %.0f a minute\n", b->passed, 60 * (double)b->passed / took);
    fflush(stdout);
}

/* One of the processes has ended: well, or by a crash, which is a failure of the seed that it ran. */
static void on_end(struct board *b, const struct options *o, uint32_t job, int status)
{
    char crash[64];
    if (job == o->jobs || (WIFEXITED(status) && WEXITSTATUS(status) == 0))
        return;
    snprintf(crash, sizeof crash, "by a crash (%s %d)", WIFSIGNALED(status) ? "signal" : "exit",
             WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
    report(b, o, b->seeds[job], crash);
}

static void wait_all(struct board *b, const struct options *o, const pid_t *pids, double began)
{
    double said = began;
    for (uint32_t left = o->jobs; left > 0;) {
        int status = 0;
        pid_t pid = waitpid(-1, &status, WNOHANG);
        if (pid == 0) {
            if (seconds() - said >= PROGRESS_S) {
                said = seconds();
                say_progress(b, said - began);
            }
            nanosleep(&(struct timespec){.tv_nsec = 20000000}, NULL);
            continue;
        }
        uint32_t job = 0;
        while (job < o->jobs && pids[job] != pid)
            job++;
        left--;
        on_end(b, o, job, status);
    }
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
    wait_all(b, o, pids, began);
    double took = seconds() - began;
    printf("seeds %" PRIu64 "..%" PRIu64 ": %.1f s, %.0f runs a minute\n", o->first, o->last, took,
           60 * (double)b->passed / took);
    printf("%" PRIu64 " faults, %" PRIu64 " crashes of servers, %" PRIu64 " times back (%" PRIu64
           " times refused, %" PRIu64 " stuck), %" PRIu64 " duplicates\n",
           b->tally.faults, b->tally.crashes, b->tally.rewinds, b->tally.rewinds_refused, b->tally.pairs_stuck,
           b->tally.duplicates);
    printf("%" PRIu64 " passed, %" PRIu64 " failed\n", b->passed, b->failed);
    int code = b->failed > 0;
    munmap(b, sizeof *b);
    return code;
}

/* ---- the command line ---- */

static int usage(void)
{
    fprintf(stderr, "usage: sim --seed N [--verbose] | sim [--seeds A..B] [--jobs J] [--keep-going]\n");
    return 2;
}

static bool parse(struct options *o, int argc, char **argv)
{
    static const struct option longs[] = {
        {"seed", required_argument, NULL, 's'}, {"seeds", required_argument, NULL, 'S'},
        {"jobs", required_argument, NULL, 'j'}, {"verbose", no_argument, NULL, 'v'},
        {"keep-going", no_argument, NULL, 'k'}, {0}};
    int option;
    while ((option = getopt_long(argc, argv, "", longs, NULL)) != -1) {
        bool ok = true;
        if (option == 's')
            ok = sscanf(optarg, "%" SCNu64, &o->first) == 1;
        else if (option == 'S')
            ok = sscanf(optarg, "%" SCNu64 "..%" SCNu64, &o->first, &o->last) == 2 && o->first <= o->last;
        else if (option == 'j')
            ok = sscanf(optarg, "%" SCNu32, &o->jobs) == 1 && o->jobs > 0 && o->jobs <= JOBS_MAX;
        else if (option != 'v' && option != 'k')
            ok = false;
        if (!ok)
            return false;
        o->one = o->one || option == 's';
        o->verbose = o->verbose || option == 'v';
        o->keep_going = o->keep_going || option == 'k';
    }
    return optind == argc;
}

int main(int argc, char **argv)
{
    struct options o = {.program = argv[0], .first = 1, .last = SEEDS_DEFAULT, .jobs = 2};
    if (!parse(&o, argc, argv))
        return usage();
    setvbuf(stdout, NULL, _IOLBF, 0); /* a trace is worth most when the run ends in a crash */
    log_init("sim", LOG_ERROR);
    blas_single_threaded();
    compute_thread_init();
    return o.one ? replay(&o) : run_many(&o);
}
