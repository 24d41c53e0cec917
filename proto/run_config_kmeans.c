/* mixture.init = kmeans++: how many embeddings it takes, in which steps they come, and what it may cost. */
#include <string.h>
#include "proto/run_config.h"

/* Of mixture.init = kmeans++. */
enum {
    INIT_EMBEDDINGS_EACH = 4, /* by default, for each prototype: fairly arbitrary */
    INIT_FLOATS_MAX = 1 << 26 /* embeddings x dimensions: the server keeps them, 256 MiB, and in checkpoints */
};
static const int64_t init_work_step = INT64_C(1) << 29, /* multiply-adds between two versions: a quarter of a second */
    init_work_max = INT64_C(1) << 41;                   /* and in all, in 4096 versions */

int64_t run_config_init_embeddings(const struct run_config *c)
{
    if (strcmp(c->mixture.init, RUN_CONFIG_KMEANS) != 0)
        return 0;
    return c->mixture.init_embeddings > 0 ? c->mixture.init_embeddings : INIT_EMBEDDINGS_EACH * c->mixture.components;
}

uint32_t run_config_init_rounds(const struct run_config *c)
{
    int64_t work = run_config_init_embeddings(c) * c->mixture.dimensions;
    return work > 0 && work < init_work_step ? (uint32_t)(init_work_step / work) : 1;
}

uint64_t run_config_init_rows(const struct run_config *c, uint64_t step, uint64_t slot, uint64_t slots)
{
    uint64_t N = (uint64_t)run_config_init_embeddings(c), rows = run_config_slot_rows(c);
    uint64_t first = (step * (uint64_t)c->run.slots + slot) * rows, end = first + slots * rows;
    return (end < N ? end : N) - (first < N ? first : N);
}

uint64_t run_config_init_steps(const struct run_config *c)
{
    uint64_t N = (uint64_t)run_config_init_embeddings(c), K = (uint64_t)c->mixture.components;
    uint64_t step = (uint64_t)c->run.slots * run_config_slot_rows(c), rounds = run_config_init_rounds(c);
    return N == 0 ? 0 : (N + step - 1) / step + (K + rounds - 1) / rounds - 1; /* the last gathers and chooses */
}

int run_config_check_init(const struct run_config *c, uint64_t total_steps, struct error *e)
{
    uint64_t steps = run_config_init_steps(c);
    if (steps < total_steps || steps == 0)
        return 0;
    return error_set(e, ERR_CONFIG,
                     "mixture.init = kmeans++ with %lld embeddings takes %llu steps, and the run has %llu: set "
                     "mixture.init_embeddings lower, or train longer",
                     (long long)run_config_init_embeddings(c), (unsigned long long)steps,
                     (unsigned long long)total_steps);
}

int run_config_check_kmeans(const struct run_config *c, struct error *e)
{
    int64_t N = run_config_init_embeddings(c), K = c->mixture.components, D = c->mixture.dimensions;
    if (N == 0)
        return c->mixture.init_embeddings == 0
                   ? 0
                   : error_set(e, ERR_CONFIG, "mixture.init_embeddings is for mixture.init = kmeans++");
    if (c->run.mode == MODE_STREAM)
        return error_set(e, ERR_CONFIG,
                         "mixture.init = kmeans++ with run.mode = stream: its clients send no embeddings; begin with a "
                         "file");
    if (N < K)
        return error_set(e, ERR_CONFIG,
                         "mixture.init_embeddings = %lld is less than mixture.components = %lld, each of which becomes "
                         "one of them",
                         (long long)N, (long long)K);
    if (N * D > INIT_FLOATS_MAX || N * D > init_work_max / K)
        return error_set(e, ERR_CONFIG,
                         "mixture.init = kmeans++ among %lld embeddings of %lld dimensions, for %lld components, at "
                         "most %lld are possible: set mixture.init_embeddings",
                         (long long)N, (long long)D, (long long)K,
                         (long long)((INIT_FLOATS_MAX < init_work_max / K ? INIT_FLOATS_MAX : init_work_max / K) / D));
    return c->run.steps > 0 ? run_config_check_init(c, (uint64_t)c->run.steps, e) : 0;
}
