/* How many steps a second the two servers sustain: real servers, real worker sessions over loopback tcp, contributions
 * of real sizes that are not computed. For every number of workers the rate is doubled until the servers fall behind,
 * then left free. A table on stdout, then one JSON line for each of its rows. See --help.
 *
 * In the table: "cpu" is in cores; "busiest" names the busiest thread of all processes and its share of one core
 * (io: ZeroMQ's thread for input and output; loop: the thread that decides). MB/s are bytes of messages; "other" is
 * what the machine computed for somebody else meanwhile, without which no figure means much. */
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>
#include "common/log.h"
#include "tests/bench/load/fleet.h"
#include "tests/bench/load/servers.h"

enum {
    LIST_MAX = 16,
    ASSIGNMENTS_MAX = 32,
    STEPS_MAX = 1000000000, /* more than any measurement reaches */
    QUICK_STEPS = 30,
    EXIT_MS = 20000
};
static const double KEPT_UP = 0.95; /* of the rate aimed at */

struct numbers {
    double value[LIST_MAX];
    size_t count;
};

struct bench {
    struct numbers workers, rates;
    double seconds, compute_ms, per_worker;
    uint64_t parameters;
    bool quick, attach;
    const char *programs; /* directory */
    const char *assignments[ASSIGNMENTS_MAX];
    size_t assignment_count;
    FILE *json;
    char *json_text;
    size_t json_size;
};

/* ---- one cell: a number of workers at a rate ---- */

struct cell {
    uint32_t workers;
    double rate; /* 0: free */
    struct run_config config;
    struct fleet_result result;
    double parameter_mib, prototype_mib;
    bool ended_well; /* the servers: by themselves, exit code 0 */
};

static int configure(const struct bench *b, struct cell *c, struct error *e)
{
    char slots[48], steps[48];
    const char *all[ASSIGNMENTS_MAX + 4] = {slots, steps, "run.name=load", "run.checkpoint_every=0"};
    snprintf(slots, sizeof slots, "run.slots=%.0f", c->workers * b->per_worker);
    snprintf(steps, sizeof steps, "run.steps=%d", b->quick ? QUICK_STEPS : STEPS_MAX);
    memcpy(all + 4, b->assignments, sizeof b->assignments);
    return run_config_load(&c->config, NULL, NULL, all, b->assignment_count + 4, e);
}

static int run_fleet(const struct bench *b, struct cell *c, const struct servers *s, struct error *e)
{
    struct material material;
    int rc = material_new(&c->config, b->parameters, &material, e);
    struct fleet_options o = {.config = &c->config,
                              .material = &material,
                              .workers = c->workers,
                              .rate = c->rate,
                              .compute_us = (uint64_t)(b->compute_ms * 1e3),
                              .warm_s = b->quick ? 0.1 : 1,
                              .seconds = b->quick ? 60 : b->seconds,
                              .parameter = s->parameter,
                              .prototype = s->prototype};
    if (rc == 0)
        rc = fleet_run(&o, &c->result, e);
    material_fini(&material);
    return rc;
}

static int run_cell(const struct bench *b, struct cell *c, struct error *e)
{
    struct servers s = {0};
    int rc = configure(b, c, e);
    if (rc == 0 && !b->attach)
        rc = servers_start(&s, b->programs, &c->config, e);
    if (rc == 0)
        rc = run_fleet(b, c, &s, e);
    c->parameter_mib = s.parameter ? usage_peak_mib(s.parameter) : 0;
    c->prototype_mib = s.prototype ? usage_peak_mib(s.prototype) : 0;
    if (rc == 0 && b->quick)
        c->ended_well = b->attach || servers_ended_well(&s, EXIT_MS);
    if (s.directory[0] != '\0')
        servers_end(&s, rc != 0 || (b->quick && !c->ended_well));
    return rc;
}

static uint64_t refused(const struct fleet_result *r)
{
    uint64_t sum = 0;
    for (int i = 0; i < REASON_END; i++)
        sum += r->refused[i];
    return sum;
}

static double achieved(const struct cell *c)
{
    return c->result.seconds > 0 ? (double)c->result.steps / c->result.seconds : 0;
}

/* ---- output ---- */

static void print_head(void)
{
    printf(
        "                               |     parameter server      |  prototype server   | gen  other| LEASE-WEIGHTS  "
        "| GRAD-WEIGHTS   | GRAD-ACK      | leases\n"
        "workers slots  target  steps/s |  cpu   in MB/s out   MiB |  cpu  in MB/s out   | cpu  cpu  | p50 ms     p99 "
        "| p50 ms     p99 | p50 ms    p99 | expired dupl stale refused | %-20s | full core at steps/s: parameter, "
        "prototype\n",
        "busiest thread");
}

static const char *thread_kind(const struct usage_span *span)
{
    return strncmp(span->name, "ZMQbg", 5) == 0 ? "io" : "loop";
}

/* The busiest thread of the three processes, and its share of one core. */
static void busiest(const struct cell *c, char *out, size_t size)
{
    const struct usage_span *spans[] = {&c->result.parameter.cpu, &c->result.prototype.cpu, &c->result.generator};
    static const char *const names[] = {"parameter", "prototype", "generator"};
    int most = 0;
    for (int i = 1; i < 3; i++)
        most = spans[i]->busiest > spans[most]->busiest ? i : most;
    snprintf(out, size, "%s %s %.0f%%", names[most], thread_kind(spans[most]),
             c->result.seconds > 0 ? 100 * spans[most]->busiest / c->result.seconds : 0);
}

/* Steps/s at which the server's busiest thread would fill a core: holds also where cores are short. */
static double bound(const struct fleet_server *s, uint64_t steps)
{
    return s->cpu.busiest > 0 ? (double)steps / s->cpu.busiest : 0;
}

static void print_row(struct cell *c)
{
    struct fleet_result *r = &c->result;
    double s = r->seconds > 0 ? r->seconds : 1, mb = 1e-6 / s;
    struct samples *timed[] = {&r->lease_to_weights, &r->sync, &r->ack};
    char text[64];
    if (c->rate > 0)
        snprintf(text, sizeof text, "%.4g", c->rate);
    printf("%7u %5" PRId64 " %7s %8.1f | %4.2f %8.1f %7.1f %4.0f | %4.2f %6.1f %7.1f | %4.2f %4.2f |", c->workers,
           c->config.run.slots, c->rate > 0 ? text : "free", achieved(c), r->parameter.cpu.seconds / s,
           r->parameter.bytes_in * mb, r->parameter.bytes_out * mb, c->parameter_mib, r->prototype.cpu.seconds / s,
           r->prototype.bytes_in * mb, r->prototype.bytes_out * mb, r->generator.seconds / s, r->others / s);
    for (int i = 0; i < 3; i++)
        printf(i < 2 ? "%7.1f %7.1f |" : "%7.1f %6.1f |", 1e3 * samples_quantile(timed[i], 0.5),
               1e3 * samples_quantile(timed[i], 0.99));
    busiest(c, text, sizeof text);
    printf(" %7.0f %4" PRIu64 " %5" PRIu64 " %7" PRIu64 " | %-20s | %s %.0f, %s %.0f\n", r->leases_expired,
           r->duplicates, r->stale, refused(r), text, thread_kind(&r->parameter.cpu), bound(&r->parameter, r->steps),
           thread_kind(&r->prototype.cpu), bound(&r->prototype, r->steps));
    fflush(stdout);
}

static void write_json(const struct bench *b, struct cell *c)
{
    struct fleet_result *r = &c->result;
    struct samples *timed[] = {&r->lease_to_weights, &r->sync, &r->ack, &r->stats_ack};
    static const char *const names[] = {"lease_to_weights", "gradient_to_weights", "gradient_to_ack", "stats_to_ack"};
    const struct fleet_server *servers[] = {&r->parameter, &r->prototype};
    double s = r->seconds > 0 ? r->seconds : 1, load = 0;
    getloadavg(&load, 1);
    fprintf(b->json, "{\"workers\":%u,\"slots\":%" PRId64 ",\"target_steps_per_s\":%g,\"steps_per_s\":%.3f", c->workers,
            c->config.run.slots, c->rate, achieved(c));
    for (int i = 0; i < 2; i++)
        fprintf(b->json,
                ",\"%s\":{\"cpu\":%.3f,\"busiest\":\"%s\",\"busiest_cpu\":%.3f,\"bytes_in_per_s\":%.0f,"
                "\"bytes_out_per_s\":%.0f,\"peak_mib\":%.1f,\"full_core_steps_per_s\":%.1f}",
                i == 0 ? "parameter" : "prototype", servers[i]->cpu.seconds / s, servers[i]->cpu.name,
                servers[i]->cpu.busiest / s, servers[i]->bytes_in / s, servers[i]->bytes_out / s,
                i == 0 ? c->parameter_mib : c->prototype_mib, bound(servers[i], r->steps));
    fprintf(b->json, ",\"generator\":{\"cpu\":%.3f,\"busiest\":\"%s\",\"busiest_cpu\":%.3f},\"others_cpu\":%.3f",
            r->generator.seconds / s, r->generator.name, r->generator.busiest / s, r->others / s);
    for (int i = 0; i < 4; i++)
        fprintf(b->json, ",\"%s_ms\":{\"n\":%zu,\"p50\":%.3f,\"p99\":%.3f}", names[i], timed[i]->count,
                1e3 * samples_quantile(timed[i], 0.5), 1e3 * samples_quantile(timed[i], 0.99));
    fprintf(b->json,
            ",\"leases_expired\":%.0f,\"applied\":%" PRIu64 ",\"duplicates\":%" PRIu64 ",\"stale\":%" PRIu64
            ",\"refused\":%" PRIu64 ",\"seconds\":%.2f,\"load_average\":%.2f}\n",
            r->leases_expired, r->applied, r->duplicates, r->stale, refused(r), r->seconds, load);
}

static int measure(const struct bench *b, uint32_t workers, double rate, double *reached, struct error *e)
{
    struct cell c = {.workers = workers, .rate = rate};
    int rc = run_cell(b, &c, e);
    if (rc == 0) {
        print_row(&c);
        write_json(b, &c);
        *reached = achieved(&c);
    }
    fleet_result_fini(&c.result);
    return rc;
}

/* Up to the first rate that is not kept, then without a rate: that is the capacity. */
static int sweep(const struct bench *b, uint32_t workers, struct error *e)
{
    double reached = 0;
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < b->rates.count; i++) {
        rc = measure(b, workers, b->rates.value[i], &reached, e);
        if (reached < KEPT_UP * b->rates.value[i])
            break;
    }
    return rc == 0 ? measure(b, workers, 0, &reached, e) : rc;
}

/* ---- --quick: correctness, never time ---- */

static int check(const char *what, uint64_t found, uint64_t wanted)
{
    bool good = found == wanted;
    printf("%s %s: %" PRIu64 " of %" PRIu64 "\n", good ? "ok   " : "FAIL ", what, found, wanted);
    return good ? 0 : 1;
}

/* Where the machine keeps a worker from its turn for long, its lease runs out or it asks for a mixture that is not
 * there yet: it is told so, and nothing is lost. Any other refusal is a fault. */
static uint64_t refused_for_good(const struct fleet_result *r)
{
    uint64_t sum = 0;
    for (enum reason why = 0; why < REASON_END; why++)
        if (!reason_is_passing(why))
            sum += r->refused[why];
    return sum;
}

/* Which refusals: a count alone would leave the reader to run it again. */
static void print_refused(const struct fleet_result *r)
{
    for (enum reason why = 0; why < REASON_END; why++)
        if (r->refused[why] != 0)
            printf("      %s: %" PRIu64 "\n", reason_name(why), r->refused[why]);
}

static int run_quick(const struct bench *b, struct error *e)
{
    struct cell c = {.workers = (uint32_t)b->workers.value[0]};
    int failed = 0, checks = 0, rc = run_cell(b, &c, e);
    if (rc == 0) {
        const struct fleet_result *r = &c.result;
        failed += check("workers that heard STOP", r->done, c.workers);
        failed += check("workers that gave up", r->failed, 0);
        failed += check("steps finished", r->step, QUICK_STEPS);
        failed += check("messages refused for good", refused_for_good(r), 0);
        print_refused(r);
        failed += check("servers that ended by themselves", c.ended_well ? 2 : 0, 2);
        checks = 5;
    }
    fleet_result_fini(&c.result);
    if (rc == 0)
        printf("%d passed, %d failed\n", checks - failed, failed);
    return rc == 0 && failed > 0 ? ERR_STATE : rc;
}

/* ---- command line ---- */

static const char help[] =
    "usage: bench_load [options]\n"
    "  --workers 8,32,128     synthetic workers, each list entry is a sweep\n"
    "  --rates 5,10,20,...    steps/s aimed at, until one is not kept; then as fast as it goes\n"
    "  --per-worker 1         slots of a step for each worker\n"
    "  --compute-ms 0         time that a slot takes at least\n"
    "  --seconds 5            measured in each row\n"
    "  --parameters N         size of the encoder, instead of the configuration's\n"
    "  --programs build/bin   directory of the servers\n"
    "  --attach               use the servers at net.* (started with the same --set) instead of starting some\n"
    "  --set KEY=VALUE        configuration, may be repeated\n"
    "  --quick                a few steps of 8 workers; checks that all are done and nothing is refused for good\n";

static struct numbers parse_list(const char *text)
{
    struct numbers n = {0};
    for (char *end; *text != '\0' && n.count < LIST_MAX; text = *end == ',' ? end + 1 : end) {
        n.value[n.count] = strtod(text, &end);
        if (end == text || n.value[n.count] <= 0) {
            fprintf(stderr, "bench_load: '%s' is not a list of numbers above 0\n", text);
            exit(2);
        }
        n.count++;
    }
    return n;
}

static void parse(struct bench *b, int argc, char **argv)
{
    static const struct option options[] = {
        {"workers", 1, NULL, 'w'},  {"rates", 1, NULL, 'r'},      {"per-worker", 1, NULL, 'p'},
        {"seconds", 1, NULL, 't'},  {"compute-ms", 1, NULL, 'c'}, {"parameters", 1, NULL, 'P'},
        {"programs", 1, NULL, 'b'}, {"attach", 0, NULL, 'a'},     {"set", 1, NULL, 's'},
        {"quick", 0, NULL, 'q'},    {"help", 0, NULL, 'h'},       {0}};
    int option;
    while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
        switch (option) {
        case 'w':
            b->workers = parse_list(optarg);
            break;
        case 'r':
            b->rates = parse_list(optarg);
            break;
        case 'p':
            b->per_worker = parse_list(optarg).value[0];
            break;
        case 't':
            b->seconds = parse_list(optarg).value[0];
            break;
        case 'c':
            b->compute_ms = strtod(optarg, NULL);
            break;
        case 'P':
            b->parameters = strtoull(optarg, NULL, 10);
            break;
        case 'b':
            b->programs = optarg;
            break;
        case 'a':
            b->attach = true;
            break;
        case 'q':
            b->quick = true;
            break;
        case 's':
            if (b->assignment_count < ASSIGNMENTS_MAX)
                b->assignments[b->assignment_count++] = optarg;
            break;
        case 'h':
            fputs(help, stdout);
            exit(0);
        default:
            fputs(help, stderr);
            exit(2);
        }
    }
}

/* A worker has four sockets of two descriptors each. */
static void raise_file_limit(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
}

int main(int argc, char **argv)
{
    struct bench b = {.workers = parse_list("8,32,128"),
                      .rates = parse_list("5,10,20,40,80,160,320"),
                      .per_worker = 1,
                      .seconds = 5,
                      .programs = "build/bin"};
    struct error e = {0};
    int rc = 0;
    parse(&b, argc, argv);
    raise_file_limit();
    log_init("load", LOG_WARN);
    b.json = open_memstream(&b.json_text, &b.json_size);
    if (b.quick)
        rc = run_quick(&b, &e);
    else
        print_head();
    for (size_t i = 0; !b.quick && rc == 0 && i < b.workers.count; i++)
        rc = sweep(&b, (uint32_t)b.workers.value[i], &e);
    fclose(b.json);
    fputs(b.json_text, stdout);
    free(b.json_text);
    if (rc != 0 && e.code != 0)
        fprintf(stderr, "bench_load: %s\n", e.text);
    return rc != 0;
}
