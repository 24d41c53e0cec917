/* One function per phase; each builds the phase's next command, or returns false when the phase is over. */
#include "server/prototype/mirror_script.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <time.h>

enum { ZSET_CHUNK = 256 }; /* members per ZADD: about 8 KiB */

void mirror_script_begin(struct mirror_script *s, const struct mirror_script_options *o)
{
    *s = (struct mirror_script){.o = *o};
}

/* ---- small pieces ---- */

static void begin(const struct mirror_script *s, struct redis_command *c, const char *name, const char *suffix)
{
    redis_command_begin(c, name);
    redis_command_format(c, "decant:%s%s", s->o.run, suffix);
}

static void field_number(struct redis_command *c, const char *name, double value)
{
    redis_command_text(c, name);
    redis_command_format(c, "%.9g", value);
}

static void field_count(struct redis_command *c, const char *name, uint64_t value)
{
    redis_command_text(c, name);
    redis_command_format(c, "%" PRIu64, value);
}

static void field_text(struct redis_command *c, const char *name, const char *value)
{
    redis_command_text(c, name);
    redis_command_text(c, value);
}

void mirror_time(double unix_s, char out[MIRROR_TIME_MAX])
{
    time_t whole = (time_t)unix_s;
    struct tm t;
    gmtime_r(&whole, &t);
    size_t n = strftime(out, MIRROR_TIME_MAX, "%Y-%m-%dT%H:%M:%S", &t);
    snprintf(out + n, MIRROR_TIME_MAX - n, ".%03dZ", (int)((unix_s - floor(unix_s)) * 1000));
}

/* ---- phases ---- */

static bool announce(struct mirror_script *s, struct redis_command *c)
{
    if (s->cursor++ > 0)
        return false;
    begin(s, c, "HSET", "");
    field_count(c, "writing", s->o.state->version);
    field_count(c, "generation", s->o.state->generation);
    field_text(c, "started", s->o.started);
    return true;
}

/* A full sync starts the indices afresh, so that nothing of an earlier run of that name stays in them. */
static bool clear(struct mirror_script *s, struct redis_command *c)
{
    if (!s->o.state->full || s->cursor++ > 0)
        return false;
    begin(s, c, "DEL", ":by_weight");
    redis_command_format(c, "decant:%s:by_nearest", s->o.run);
    return true;
}

static void vectors(const struct mirror_state *state, const struct mirror_row *row, struct redis_command *c)
{
    size_t D = state->D, V = state->spherical ? 1 : D;
    redis_command_text(c, "mean");
    redis_command_bytes(c, state->mean + row->at * D, D * sizeof(float));
    redis_command_text(c, "variance");
    redis_command_bytes(c, state->variance + row->at * V, V * sizeof(float));
    field_text(c, "dtype", "float32");
    field_count(c, "shape", D);
    field_count(c, "variance_shape", V);
}

static bool prototypes(struct mirror_script *s, struct redis_command *c)
{
    const struct mirror_state *state = s->o.state;
    if (s->cursor == state->count)
        return false;
    const struct mirror_row *row = &state->rows[s->cursor++];
    redis_command_begin(c, "HSET");
    redis_command_format(c, "decant:%s:prototype:%u", s->o.run, row->k);
    field_number(c, "weight", (double)row->weight_share);
    field_number(c, "mass", row->mass);
    field_number(c, "usage", row->usage);
    if (state->priced)
        field_number(c, "price", row->price);
    field_count(c, "updated_step", row->updated_step);
    if (state->measured) {
        field_count(c, "nearest", row->nearest);
        field_number(c, "nearest_cosine", (double)row->cosine);
    }
    if (row->moved)
        vectors(state, row, c);
    return true;
}

/* ZADD of the next chunk of rows; score_of picks the score. */
static bool index_chunk(struct mirror_script *s, struct redis_command *c, const char *suffix,
                        double (*score_of)(const struct mirror_row *))
{
    const struct mirror_state *state = s->o.state;
    if (s->cursor >= state->count)
        return false;
    begin(s, c, "ZADD", suffix);
    for (uint32_t n = 0; n < ZSET_CHUNK && s->cursor < state->count; n++, s->cursor++) {
        redis_command_format(c, "%.9g", score_of(&state->rows[s->cursor]));
        redis_command_format(c, "%u", state->rows[s->cursor].k);
    }
    return true;
}

static double usage_score(const struct mirror_row *row)
{
    return row->usage;
}

static double cosine_score(const struct mirror_row *row)
{
    return (double)row->cosine;
}

static bool by_weight(struct mirror_script *s, struct redis_command *c)
{
    return index_chunk(s, c, ":by_weight", usage_score);
}

static bool by_nearest(struct mirror_script *s, struct redis_command *c)
{
    return s->o.state->measured && index_chunk(s, c, ":by_nearest", cosine_score);
}

static void worker_names(const struct mirror_script *s, struct redis_command *c, const struct worker_table *r)
{
    begin(s, c, "HSET", ":workers");
    for (size_t i = 0; i < r->count; i++) {
        redis_command_format(c, "%016" PRIx64, r->workers[i].id);
        redis_command_text(c, r->workers[i].host);
    }
}

static void expire(const struct mirror_script *s, struct redis_command *c, const char *suffix)
{
    begin(s, c, "EXPIRE", suffix);
    redis_command_format(c, "%u", s->o.ttl_s);
}

/* The list of workers is replaced as a whole, in one batch. */
static bool worker_list(struct mirror_script *s, struct redis_command *c)
{
    const struct worker_table *r = &s->o.state->workers;
    uint32_t at = s->cursor++;
    if (at == 0)
        begin(s, c, "DEL", ":workers");
    else if (at == 1 && r->count > 0)
        worker_names(s, c, r);
    else if (at == 2)
        expire(s, c, ":workers");
    else
        return false;
    return true;
}

static void worker_hash(struct mirror_script *s, struct redis_command *c, const struct worker *w)
{
    const struct mirror_state *state = s->o.state;
    redis_command_begin(c, "HSET");
    redis_command_format(c, "decant:%s:worker:%016" PRIx64, s->o.run, w->id);
    for (uint32_t i = 0; i < w->rate_count; i++) /* the worker's own figures first: ours win a clash of names */
        field_number(c, w->rates[i].name, w->rates[i].value);
    field_text(c, "host", w->host);
    field_count(c, "step", w->step);
    field_count(c, "behind", state->version > w->step ? state->version - w->step : 0);
    field_count(c, "stats", w->slots_done);
    field_count(c, "silent_ms", state->now_ms > w->seen_ms ? state->now_ms - w->seen_ms : 0);
    field_count(c, "connected_s", state->now_ms > w->first_ms ? (state->now_ms - w->first_ms) / 1000 : 0);
}

/* Each worker's hash and its time to live, alternating. */
static bool workers(struct mirror_script *s, struct redis_command *c)
{
    const struct worker_table *r = &s->o.state->workers;
    uint32_t i = s->cursor / 2;
    if (i >= r->count)
        return false;
    if (s->cursor++ % 2 == 0) {
        worker_hash(s, c, &r->workers[i]);
        return true;
    }
    redis_command_begin(c, "EXPIRE");
    redis_command_format(c, "decant:%s:worker:%016" PRIx64, s->o.run, r->workers[i].id);
    redis_command_format(c, "%u", s->o.ttl_s);
    return true;
}

static bool records(struct mirror_script *s, struct redis_command *c)
{
    const struct mirror_record *r = mirror_queue_take(s->o.queue);
    if (r == NULL)
        return false;
    if (r->event) {
        begin(s, c, "PUBLISH", ":events");
        redis_command_text(c, r->text);
        return true;
    }
    begin(s, c, "XADD", ":metrics");
    redis_command_text(c, "MAXLEN");
    redis_command_text(c, "~");
    redis_command_format(c, "%d", MIRROR_METRICS_MAX);
    redis_command_text(c, "*");
    field_count(c, "step", r->step);
    for (uint32_t i = 0; i < r->count; i++)
        field_number(c, r->scalars[i].name, r->scalars[i].value);
    return true;
}

static bool runs(struct mirror_script *s, struct redis_command *c)
{
    if (s->cursor++ > 0)
        return false;
    redis_command_begin(c, "SADD");
    redis_command_text(c, "decant:runs");
    redis_command_text(c, s->o.run);
    return true;
}

/* A key that is there for as long as the mirror is kept up. */
static bool live(struct mirror_script *s, struct redis_command *c)
{
    char updated[MIRROR_TIME_MAX];
    if (s->cursor++ > 0)
        return false;
    mirror_time(s->o.state->updated_s, updated);
    begin(s, c, "SET", ":live");
    redis_command_text(c, updated);
    redis_command_text(c, "EX");
    redis_command_format(c, "%u", s->o.ttl_s);
    return true;
}

static void measured_fields(const struct mirror_state *state, struct redis_command *c)
{
    for (size_t i = 0; i < DIAGNOSTICS_EPS; i++)
        field_number(c, diagnostics_eps_name[i], state->unique[i]);
    field_number(c, "effective_rank", state->effective_rank);
    field_count(c, "diagnostics_version", state->diagnostics_version);
}

static bool figures(struct mirror_script *s, struct redis_command *c)
{
    const struct mirror_state *state = s->o.state;
    char updated[MIRROR_TIME_MAX];
    if (s->cursor++ > 0)
        return false;
    mirror_time(state->updated_s, updated);
    begin(s, c, "HSET", "");
    field_count(c, "step", state->version);
    field_count(c, "total_steps", state->total_steps);
    field_count(c, "K", state->K);
    field_count(c, "D", state->D);
    field_text(c, "covariance", state->spherical ? "spherical" : "diag");
    field_number(c, "beta", state->beta);
    field_number(c, "loglik", state->step.loglik);
    field_number(c, "dropped", state->step.dropped);
    field_number(c, "active", state->active);
    field_number(c, "perplexity", state->perplexity);
    field_count(c, "reseeded", state->reseeded);
    if (state->priced)
        field_number(c, "price_spread", state->price_spread);
    if (state->measured)
        measured_fields(state, c);
    field_count(c, "workers", state->workers.count);
    field_number(c, "stats_per_s", state->stats_per_s);
    redis_command_text(c, "config");
    redis_command_format(c, "%016" PRIx64, state->config);
    field_text(c, "updated", updated);
    field_number(c, "mirror_lag_ms", s->o.lag_ms);
    field_count(c, "mirror_dropped", s->o.queue->dropped);
    field_count(c, "version", state->version);
    return true;
}

static bool (*const phases[])(struct mirror_script *s, struct redis_command *c) = {
    announce, clear, prototypes, by_weight, by_nearest, worker_list, workers, records, runs, live, figures};

enum { PHASES = sizeof phases / sizeof phases[0] };

bool mirror_script_next(struct mirror_script *s, struct redis_command *c)
{
    while (s->phase < PHASES) {
        if (phases[s->phase](s, c))
            return true;
        s->phase++;
        s->cursor = 0;
    }
    return false;
}

bool mirror_script_joined(const struct mirror_script *s)
{
    return s->phase < PHASES && phases[s->phase] == worker_list && s->cursor > 0;
}
