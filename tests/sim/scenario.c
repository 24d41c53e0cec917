#include "tests/sim/scenario.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include "server/shell/pairing.h"
#include "common/rng.h"

enum { ASSIGNMENTS = 32, ASSIGNMENT_BYTES = 64 };

/* Purposes of the streams, in place of one of enum rng_purpose's fields: only RNG_JITTER is used. */
enum { STREAM_CONFIG = 1, STREAM_SCENARIO = 2 };

struct assignments {
    char text[ASSIGNMENTS][ASSIGNMENT_BYTES];
    size_t count;
};

static uint32_t between(struct rng *r, uint32_t low, uint32_t high)
{
    return low + rng_below(r, high - low + 1);
}

static bool chance(struct rng *r, uint32_t percent)
{
    return rng_below(r, 100) < percent;
}

static void assign(struct assignments *a, const char *key, uint64_t value)
{
    snprintf(a->text[a->count++], ASSIGNMENT_BYTES, "%s=%" PRIu64, key, value);
}

static void assign_text(struct assignments *a, const char *key, const char *value)
{
    snprintf(a->text[a->count++], ASSIGNMENT_BYTES, "%s=%s", key, value);
}

/* ---- the configuration ---- */

/* In a quarter of the configurations, where it is done in time. No draw: seeds keep the rest. */
static void assign_init(const struct scenario *s, uint32_t step_rows, uint32_t K, struct assignments *a)
{
    if (s->joint || s->number % 4 != 2 || 3 * step_rows < K)
        return;
    assign_text(a, "mixture.init", "kmeans++");
    assign(a, "mixture.init_embeddings", K > 2 * step_rows + 1 ? K : 2 * step_rows + 1);
}

/* Keys that shape the result. */
static void draw_result(struct rng *r, struct scenario *s, struct assignments *a)
{
    uint32_t K = 4 * between(r, 1, 4);
    s->steps = chance(r, 3) ? between(r, PAIRING_PROOF_STEPS + 6, 2 * PAIRING_PROOF_STEPS + 20) : between(r, 6, 30);
    s->joint = chance(r, 12);
    assign(a, "run.seed", s->number);
    assign(a, "run.steps", chance(r, 50) ? s->steps : 0);
    uint32_t slots = between(r, 1, 6), slot_size = between(r, 2, 3);
    assign(a, "run.slots", slots);
    assign(a, "run.slot_size", slot_size);
    assign_init(s, slots * slot_size, K, a);
    assign(a, "mixture.components", K);
    assign(a, "loss.block", 2);
    assign(a, "mixture.dimensions", between(r, 2, 4));
    assign(a, "mixture.prototype_lag", chance(r, 50));
    assign(a, "mixture.reseed_max", between(r, 1, 3));
    static const char *const forms[5] = {"spherical", "full", "vmf", "diag", "tied"};
    assign_text(a, "mixture.covariance", forms[chance(r, 50) ? s->number % 5 : 0]); /* no other draw than there was */
    assign_text(a, "mixture.balance", s->number % 3 == 1 ? "0.1" : "0");            /* no draw: seeds keep the rest */
    assign_text(a, "mixture.balance_power", s->number % 6 == 1 ? "1" : "0");        /* likewise */
    assign_text(a, "mixture.forgetting_form", s->number % 5 < 2 ? "convex" : "mass");
    assign_text(a, "mixture.merge_distance", s->number % 7 == 3 && s->number % 5 < 4 ? "0.3" : "0");
    assign_text(a, "mixture.prior", chance(r, 50) ? "count" : "uniform");
    assign_text(a, "mixture.usage_momentum", chance(r, 50) ? "0.5" : "0.9");
    assign_text(a, "mixture.reseed_usage", "0.5");
    assign_text(a, "optimiser.name", chance(r, 60) ? "adamw" : "sgd");
    assign_text(a, "loss.prototypes", s->joint ? "joint" : "decoupled");
}

/* Keys that do not. */
static void draw_operation(struct rng *r, const struct scenario *s, struct assignments *a)
{
    assign_text(a, "run.name", "sim");
    assign(a, "run.checkpoint_every", s->undisturbed ? 1 : between(r, 2, 7));
    assign(a, "run.log_every", between(r, 1, 8));
    assign(a, "worker.threads", between(r, 1, 3));
    assign(a, "worker.ahead", between(r, 0, 2));
    assign(a, "net.lease_ms", s->undisturbed ? 60000 : between(r, 5, 100) * 100);
}

static void load(struct scenario *s, const struct assignments *a)
{
    const char *list[ASSIGNMENTS];
    struct error e = {0};
    for (size_t i = 0; i < a->count; i++)
        list[i] = a->text[i];
    if (run_config_load(&s->config, NULL, NULL, list, a->count, &e) == 0)
        return;
    fprintf(stderr, "sim: configuration %u: %s\n", s->number, e.text);
    exit(2);
}

/* A matrix, a vector, and perhaps buffers. */
static void draw_manifest(struct rng *r, struct scenario *s)
{
    struct manifest_entry matrix = {.name = "w",
                                    .rank = 2,
                                    .shape = {between(r, 2, 5), between(r, 2, 4)},
                                    .decay = true,
                                    .clip = true,
                                    .lr_scale = 1};
    struct manifest_entry vector = {.name = "b", .rank = 1, .shape = {between(r, 1, 4)}, .lr_scale = 2};
    struct manifest_entry buffer = {.name = "q", .rank = 1, .shape = {between(r, 1, 4)}, .momentum = 0.25};
    matrix.unit_rows = s->joint && chance(r, 50);
    manifest_init(&s->manifest);
    int rc = manifest_add_parameter(&s->manifest, &matrix);
    if (rc == 0)
        rc = manifest_add_parameter(&s->manifest, &vector);
    if (rc == 0 && chance(r, 75))
        rc = manifest_add_buffer(&s->manifest, &buffer);
    ASSERT(rc == 0);
}

static void draw_config(struct rng *scenario, struct scenario *s)
{
    struct assignments a = {.count = 0};
    struct rng r;
    rng_open(&r, s->number, RNG_JITTER, STREAM_CONFIG, 0, 0);
    draw_result(&r, s, &a);
    draw_manifest(&r, s);
    draw_operation(scenario, s, &a);
    load(s, &a);
}

/* ---- the network, the machines ---- */

static void draw_network(struct rng *r, struct scenario_network *n)
{
    n->loss_percent = chance(r, 50) ? 0 : between(r, 1, 30);
    n->duplicate_percent = chance(r, 50) ? 0 : between(r, 1, 50);
    n->reorder = chance(r, 60);
    n->wire = chance(r, 25);
    n->patient = chance(r, 50);
    n->delay_us = between(r, 1, 20) * 100;
    n->delay_tail_us = between(r, 1, chance(r, 30) ? 800 : 30) * MILLISECONDS;
    n->late_percent = chance(r, 30) ? between(r, 1, 5) : 0;
}

/* Some workers are ten times slower than others. */
static void draw_machines(struct rng *r, struct scenario *s)
{
    uint64_t scale = between(r, 1, 20) * 5 * MILLISECONDS;
    for (uint32_t i = 0; i < SEATS; i++) {
        s->part_us_min[i] = scale * (chance(r, 25) ? 10 : 1) / 2;
        s->part_us_max[i] = s->part_us_min[i] * between(r, 1, 4);
    }
    s->write_us_min = between(r, 1, 50) * MILLISECONDS;
    s->write_us_max = s->write_us_min * (chance(r, 30) ? 100 : 3);
    s->keep = between(r, 2, 4);
}

static void draw_faults(struct rng *r, struct scenario *s)
{
    bool calm = chance(r, 10);
    for (uint32_t i = 0; i < FAULT_KINDS && !calm; i++)
        s->faults |= (unsigned)chance(r, i == FAULT_DAMAGE ? 25 : 50) << i;
    s->fault_every_us = between(r, 2, 60) * 100 * MILLISECONDS;
    s->busy_faults = chance(r, 40);
    s->fault_at_end = !calm && chance(r, 20);
    s->faults_max = between(r, 1, 40);
    bool is_long = s->steps > PAIRING_PROOF_STEPS; /* long enough for the servers to know each other before it lies */
    s->rogue = !calm && !s->joint && chance(r, is_long ? 50 : 12);
    s->rogue_from = is_long ? between(r, PAIRING_PROOF_STEPS, (uint32_t)s->steps) : between(r, 0, 3);
    s->faults_until_us = between(r, 5, 90) * SECONDS;
}

/* Generous: the slowest worker alone, every lease expiring once, all of it from the start and back again. */
static uint64_t budget(const struct scenario *s)
{
    uint64_t slowest = 0, slots = (uint64_t)s->config.run.slots, lease = (uint64_t)s->config.net.lease_ms;
    for (uint32_t i = 0; i < SEATS; i++)
        slowest = s->part_us_max[i] > slowest ? s->part_us_max[i] : slowest;
    uint64_t patience = s->rogue ? 2 * PAIRING_PATIENCE_MAX_MS * MILLISECONDS : 0;
    return patience + 60 * SECONDS + 2 * s->steps * (slots * 2 * slowest + lease * MILLISECONDS + 3 * SECONDS);
}

/* A pair that knows each other, in a world where nothing goes wrong but one worker, and for long enough. */
static void make_room_for_rogue(struct scenario *s)
{
    s->faults = 0;
    s->fault_at_end = false;
    s->network.loss_percent = s->network.late_percent = 0;
    s->network.delay_tail_us = s->network.delay_us;
    for (uint32_t i = 0; i < SEATS; i++)
        s->part_us_min[i] = s->part_us_max[i] = 10 * MILLISECONDS;
    s->faults_until_us = 300 * SECONDS;
}

void scenario_draw(uint64_t seed, struct scenario *s)
{
    struct rng r;
    *s = (struct scenario){.seed = seed, .number = (uint32_t)(seed % SCENARIO_CONFIGS)};
    rng_open(&r, seed, RNG_JITTER, STREAM_SCENARIO, 0, 0);
    draw_config(&r, s);
    draw_network(&r, &s->network);
    draw_machines(&r, s);
    s->workers = between(&r, 1, 7);
    draw_faults(&r, s);
    if (s->rogue && s->rogue_from >= PAIRING_PROOF_STEPS)
        make_room_for_rogue(s);
    s->budget_us = budget(s);
}

void scenario_undisturbed(uint32_t number, struct scenario *s)
{
    struct rng r;
    *s = (struct scenario){.number = number, .undisturbed = true, .workers = 1, .keep = 2};
    rng_open(&r, number, RNG_JITTER, STREAM_SCENARIO, 1, 0);
    draw_config(&r, s);
    s->network = (struct scenario_network){.delay_us = MILLISECONDS, .delay_tail_us = MILLISECONDS};
    s->write_us_min = s->write_us_max = MILLISECONDS;
    for (uint32_t i = 0; i < SEATS; i++)
        s->part_us_min[i] = s->part_us_max[i] = 5 * MILLISECONDS;
    s->budget_us = budget(s);
}

void scenario_fini(struct scenario *s)
{
    manifest_fini(&s->manifest);
}

void scenario_print(const struct scenario *s)
{
    const struct scenario_network *n = &s->network;
    printf("seed %" PRIu64 ": configuration %u%s%s, T = %" PRIu64 ", M = %d, b = %d, K = %d, D = %d, lag %d, P = %zu, "
           "Q = %zu, k-means++ of %d\n",
           s->seed, s->number, s->undisturbed ? " undisturbed" : "", s->joint ? " joint" : "", s->steps,
           (int)s->config.run.slots, (int)s->config.run.slot_size, (int)s->config.mixture.components,
           (int)s->config.mixture.dimensions, (int)s->config.mixture.prototype_lag, s->manifest.parameter_floats,
           s->manifest.buffer_floats, (int)run_config_init_embeddings(&s->config));
    printf("  %u workers x %d threads, %d ahead, lease %d ms, checkpoint every %d, keep %u\n", s->workers,
           (int)s->config.worker.threads, (int)s->config.worker.ahead, (int)s->config.net.lease_ms,
           (int)s->config.run.checkpoint_every, s->keep);
    printf("  network: loss %u %%, duplicates %u %%, late %u %%, reorder %d, wire %d, patient %d, delay %" PRIu64
           "+%" PRIu64 " us; faults %#x every %" PRIu64 " ms%s, at most %u, until %" PRIu64 " s\n",
           n->loss_percent, n->duplicate_percent, n->late_percent, n->reorder, n->wire, n->patient, n->delay_us,
           n->delay_tail_us, s->faults, s->fault_every_us / MILLISECONDS, s->busy_faults ? " (events)" : "",
           s->faults_max, s->faults_until_us / SECONDS);
}
