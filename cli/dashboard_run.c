/* A look: figures, new lines of the files, the mirror's stream when there is no file, then the prototypes when they
 * changed and are due. */
#include "cli/dashboard_run.h"

#include <dirent.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include "cli/evaluation_note.h"
#include "common/files.h"

enum { STREAM_BATCH = 256, LOG_TAIL_BYTES = 16384, RESEEDED_EVERY_MS = 30000 };

static uint64_t now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

int dashboard_run_open(const struct source_options *o, struct dashboard_run *out, struct error *e)
{
    memset(out, 0, sizeof *out);
    out->source.options = *o;
    out->generation[0] = out->generation[1] = NAN;
    out->seeding = 100;
    dashboard_history_init(&out->parameter, history_of_parameter, HISTORY_PARAMETER_COLUMNS);
    dashboard_history_init(&out->prototype, history_of_prototype, HISTORY_PROTOTYPE_COLUMNS);
    dashboard_history_init(&out->evaluation, history_of_evaluation, HISTORY_EVALUATION_COLUMNS);
    snprintf(out->metrics_stream, sizeof out->metrics_stream, "0-0");
    snprintf(out->evaluation_stream, sizeof out->evaluation_stream, "0-0");
    return run_source_directory(o, out->source.directory, e);
}

void dashboard_run_close(struct dashboard_run *r)
{
    top_source_close(&r->source);
    dashboard_shape_fini(&r->shape);
}

/* ---- lines ---- */

static void take_history(void *history, const char *line, size_t length)
{
    dashboard_history_line(history, line, length);
}

static void take_log(void *events, const char *line, size_t length)
{
    dashboard_events_log(events, line, length);
}

static size_t follow(const struct dashboard_run *r, struct dashboard_lines *l, const char *name, off_t from_end,
                     void (*take)(void *arg, const char *line, size_t length), void *arg)
{
    char path[CHECKPOINT_PATH_MAX];
    if (path_format(path, sizeof path, "%s/%s", r->source.directory, name) != 0)
        return 0;
    return dashboard_lines_read(l, path, from_end, take, arg);
}

/* ---- the mirror's stream ---- */

/* "MS-SEQ" to the one after it: Redis 5 has no exclusive ranges. */
static void after_entry(const char *id, char out[48])
{
    uint64_t ms = 0, sequence = 0;
    if (sscanf(id, "%" SCNu64 "-%" SCNu64, &ms, &sequence) == 2)
        snprintf(out, 48, "%" PRIu64 "-%" PRIu64, ms, sequence + 1);
}

static double number_of(const redisReply *r)
{
    char *end = NULL;
    double value = r->type == REDIS_REPLY_STRING ? strtod(r->str, &end) : NAN;
    return end != NULL && end != r->str && *end == '\0' && isfinite(value) ? value : NAN;
}

static void take_fields(struct dashboard_history *h, const redisReply *fields)
{
    struct history_row row;
    double rewinds = 0;
    dashboard_history_blank(&row);
    for (size_t i = 0; i + 1 < fields->elements; i += 2) {
        const char *name = fields->element[i]->type == REDIS_REPLY_STRING ? fields->element[i]->str : "";
        if (strcmp(name, "step") == 0)
            row.step = number_of(fields->element[i + 1]);
        if (strcmp(name, "rewinds") == 0)
            rewinds = number_of(fields->element[i + 1]);
        for (size_t c = 0; c < h->column_count; c++)
            if (strcmp(name, h->columns[c]) == 0)
                row.value[c] = number_of(fields->element[i + 1]);
    }
    dashboard_history_rewinds(h, rewinds);
    dashboard_history_add(h, &row);
}

static void take_entry(char stream[48], struct dashboard_history *h, const redisReply *entry)
{
    if (entry->type != REDIS_REPLY_ARRAY || entry->elements != 2 || entry->element[0]->type != REDIS_REPLY_STRING ||
        entry->element[1]->type != REDIS_REPLY_ARRAY)
        return;
    after_entry(entry->element[0]->str, stream);
    take_fields(h, entry->element[1]);
}

/* Best effort: who may not read the stream sees the figures of now only. */
static size_t follow_stream(struct run_source *s, const char *name, char stream[48], struct dashboard_history *h)
{
    redisReply *reply;
    if (run_source_command(s, REDIS_REPLY_ARRAY, &reply, NULL, "XRANGE decant:%s:%s %s + COUNT %d", s->run, name,
                           stream, STREAM_BATCH) != 0)
        return 0;
    size_t entries = reply->elements;
    for (size_t i = 0; i < entries; i++)
        take_entry(stream, h, reply->element[i]);
    freeReplyObject(reply);
    return entries;
}

/* A run moves a few prototypes at nearly every step: one event for all of half a minute. */
static void note_reseeding(struct dashboard_run *r)
{
    double now = dashboard_history_last(&r->prototype, "reseeded");
    if (isnan(now) || (r->reseeded_due_ms > 0 && now_ms() < r->reseeded_due_ms))
        return;
    if (r->reseeded_due_ms > 0 && now > r->reseeded) /* not what was there at the first look */
        dashboard_events_add(&r->events, "info", "prototype", "%.0f prototypes moved to novel embeddings (%.0f so far)",
                             now - r->reseeded, now);
    else if (r->reseeded_due_ms > 0 && now == r->reseeded)
        return; /* the next ones are told at once */
    r->reseeded = now;
    r->reseeded_due_ms = now_ms() + RESEEDED_EVERY_MS;
}

/* k-means++ is done between two looks: what was so at the first look is no news. */
static void note_seeding(struct dashboard_run *r)
{
    double now = dashboard_history_last(&r->prototype, "seeding");
    if (r->seeding < 100 && now >= 100)
        dashboard_events_add(&r->events, "info", "prototype", "prototypes placed at embeddings by k-means++");
    r->seeding = isnan(now) ? 0 : now;
}

/* A server that dies begins to count anew; the other goes back and counts that, so that their sum has each time once.
 * When the whole run died nobody counts it, but its steps come again, in the files of both. */
static double count_rewinds(const struct dashboard_run *r)
{
    return fmax(r->parameter.told + r->prototype.told, fmax(r->parameter.rewinds, r->prototype.rewinds));
}

static void follow_all(struct dashboard_run *r)
{
    double rewinds = count_rewinds(r);
    size_t lines = follow(r, &r->parameter_file, "metrics-parameter.jsonl", 0, take_history, &r->parameter);
    lines += follow(r, &r->prototype_file, "metrics-prototype.jsonl", 0, take_history, &r->prototype);
    lines += follow(r, &r->evaluation_file, EVALUATION_METRICS, 0, take_history, &r->evaluation);
    if (r->state.live && r->prototype_file.inode == 0)
        lines += follow_stream(&r->source.redis, "metrics", r->metrics_stream, &r->prototype);
    if (r->state.live && r->evaluation_file.inode == 0)
        lines += follow_stream(&r->source.redis, "evaluation", r->evaluation_stream, &r->evaluation);
    follow(r, &r->parameter_log, "logs/parameter.log", LOG_TAIL_BYTES, take_log, &r->events);
    follow(r, &r->prototype_log, "logs/prototype.log", LOG_TAIL_BYTES, take_log, &r->events);
    r->new_lines = lines;
    r->history_version += lines > 0;
    note_reseeding(r);
    note_seeding(r);
    if (count_rewinds(r) > rewinds)
        dashboard_events_add(&r->events, "warn", "run", "went back to a checkpoint");
}

/* ---- prototypes ---- */

/* A joint run has no file with figures of its prototypes: those of its checkpoints stand for it. */
static void add_to_history(struct dashboard_run *r)
{
    static const char *const names[SCORE_EPS] = {"unique_0025", "unique_01", "unique_025", "unique_05"};
    struct history_row row;
    dashboard_history_blank(&row);
    row.step = (double)r->shape.step;
    for (int i = 0; i < SCORE_EPS; i++)
        row.value[dashboard_history_column(&r->prototype, names[i])] = r->shape.unique[i];
    dashboard_history_add(&r->prototype, &row);
    r->history_version++;
}

static void take_set(struct dashboard_run *r, struct prototype_set *set)
{
    struct error e = {0};
    r->shape_trouble[0] = '\0';
    if (dashboard_shape_of(set, &r->shape, &e) == 0)
        r->shape_version++;
    else
        snprintf(r->shape_trouble, sizeof r->shape_trouble, "%.150s", e.text);
    prototype_set_fini(set);
}

static void look_at_mirror(struct dashboard_run *r)
{
    struct prototype_set set;
    struct error e = {0};
    double version = run_figures_number(&r->state.mirror, "version");
    if (r->shape.K > 0 && (double)r->shape.step == version)
        return;
    if (dashboard_shape_mirror(&r->source.redis, SHAPE_WITHIN_MS, &set, &e) == 0)
        take_set(r, &set);
    else
        snprintf(r->shape_trouble, sizeof r->shape_trouble, "%.150s", e.text);
}

/* The checkpoint to look at: the newest or, as long as a history is to be made of them, the next after the one before.
 */
static bool next_checkpoint(const struct dashboard_run *r, bool newest, uint64_t *step)
{
    char path[CHECKPOINT_PATH_MAX];
    bool found = false;
    DIR *d = path_format(path, sizeof path, "%s/checkpoints", r->source.directory) == 0 ? opendir(path) : NULL;
    for (struct dirent *entry; d && (entry = readdir(d)) != NULL;) {
        char rest;
        uint64_t one;
        if (sscanf(entry->d_name, "step-%" SCNu64 "%c", &one, &rest) != 1 || one + 1 <= r->checkpoint_seen)
            continue;
        if (!found || (newest ? one > *step : one < *step))
            *step = one;
        found = true;
    }
    if (d)
        closedir(d);
    return found;
}

static void look_at_checkpoint(struct dashboard_run *r)
{
    char path[CHECKPOINT_PATH_MAX];
    struct checkpoint c;
    struct prototype_set set;
    struct error e = {0};
    uint64_t step, latest;
    bool told = r->prototype_file.inode != 0 || r->state.live;
    if (sscanf(r->state.checkpoint, "step-%" SCNu64, &latest) == 1 && latest + 1 < r->checkpoint_seen)
        r->checkpoint_seen = latest; /* the run went back */
    if (!r->state.has_checkpoint || !next_checkpoint(r, told, &step))
        return;
    if (path_format(path, sizeof path, "%s/checkpoints/step-%06" PRIu64, r->source.directory, step) != 0)
        return;
    r->checkpoint_seen = step + 1;
    int rc = checkpoint_open(path, &c, &e);
    if (rc == 0 && (rc = prototype_set_load(&c, &set, &e)) == 0)
        take_set(r, &set);
    r->facts.joint = rc == 0 ? c.config.loss.prototypes == PROTOTYPES_JOINT : r->facts.joint;
    if (rc == 0 && !told)
        add_to_history(r);
    else if (rc != 0)
        snprintf(r->shape_trouble, sizeof r->shape_trouble, "%.150s", e.text);
    checkpoint_close(&c);
}

static void look_at_prototypes(struct dashboard_run *r)
{
    uint64_t begin = now_ms();
    if (begin < r->shape_due_ms)
        return;
    bool mirrored = r->state.live && !isnan(run_figures_number(&r->state.mirror, "K"));
    if (mirrored)
        look_at_mirror(r);
    else
        look_at_checkpoint(r);
    uint64_t took = now_ms() - begin;
    uint64_t pause = took * SHAPE_PAUSE_TIMES;
    r->shape_due_ms = now_ms() + (mirrored && pause < SHAPE_PAUSE_MS ? SHAPE_PAUSE_MS : pause);
}

static bool more_to_see(const struct dashboard_run *r)
{
    uint64_t step;
    bool told = r->prototype_file.inode != 0 || r->state.live;
    return r->new_lines > 0 || (r->state.has_checkpoint && next_checkpoint(r, told, &step));
}

/* ---- what changed ---- */

static double read_generation(const struct dashboard_run *r, const char *server)
{
    char path[CHECKPOINT_PATH_MAX], text[32] = "";
    struct buf *file;
    if (path_format(path, sizeof path, "%s/generation-%s", r->source.directory, server) != 0 ||
        file_read(path, sizeof text - 1, &file, NULL) != 0)
        return NAN;
    memcpy(text, file->data, file->size);
    buf_unref(&file);
    char *end;
    double value = strtod(text, &end);
    return end != text && value >= 0 && value < 1e15 ? value : NAN;
}

static void look_at_generations(struct dashboard_run *r)
{
    static const char *const servers[2] = {"parameter", "prototype"};
    for (int i = 0; i < 2; i++) {
        double now = read_generation(r, servers[i]);
        if (isnan(now) && i == 1)
            now = run_figures_number(&r->state.mirror, "generation");
        if (now > r->generation[i])
            dashboard_events_add(&r->events, "warn", servers[i], "started again or went back: generation %.0f", now);
        r->generation[i] = isnan(now) ? r->generation[i] : now;
    }
}

static void note_mirror(struct dashboard_run *r, bool before, size_t workers_before)
{
    if (r->state.live && !before)
        dashboard_events_add(&r->events, "info", "mirror", "%.150s answers", r->state.where);
    if (!r->state.live && before)
        dashboard_events_add(&r->events, "warn", "mirror", "no answer any more; figures come from the run's files");
    if (r->state.live && before && r->state.worker_count != workers_before)
        dashboard_events_add(&r->events, r->state.worker_count < workers_before ? "warn" : "info", "run",
                             "%zu worker%s, before %zu", r->state.worker_count, r->state.worker_count == 1 ? "" : "s",
                             workers_before);
}

/* ---- facts ---- */

static double silent_workers(const struct top_state *t)
{
    double silent = 0;
    for (size_t i = 0; i < t->worker_count; i++)
        silent += t->workers[i].silent_s >= WORDS_SILENT_S;
    return silent;
}

static double known_components(const struct dashboard_run *r)
{
    double K = run_figures_number(&r->state.mirror, "K");
    if (isnan(K))
        K = r->state.components;
    return isnan(K) && r->shape.K > 0 ? (double)r->shape.K : K;
}

static double step_of(const struct top_state *t)
{
    double step = run_figures_number(&t->parameter, "step");
    return isnan(step) ? top_figure(t, "step") : step;
}

static double first_known(double a, double b)
{
    return isnan(a) ? b : a;
}

static void gather(struct dashboard_run *r)
{
    const struct top_state *t = &r->state;
    bool known = t->live || t->parameter.count > 0 || t->prototype.count > 0 || t->has_checkpoint;
    double total = top_total_steps(t);
    double unique =
        first_known(run_figures_number(&t->mirror, "unique_01"), dashboard_history_last(&r->prototype, "unique_01"));
    r->facts = (struct run_facts){
        .begun = known || !isnan(t->components),
        .live = t->live,
        .mirror_named = r->source.options.redis[0] != '\0',
        .joint = r->facts.joint,
        .step = step_of(t),
        .total = total,
        .K = known_components(r),
        .D = r->shape.D > 0 ? (double)r->shape.D : run_figures_number(&t->mirror, "D"),
        .unique_01 = unique,
        .unique_01_max = dashboard_history_max(&r->prototype, "unique_01"),
        .active =
            first_known(run_figures_number(&t->mirror, "active"), dashboard_history_last(&r->prototype, "active")),
        .perplexity =
            first_known(run_figures_number(&t->mirror, "perplexity"),
                        first_known(dashboard_history_last(&r->prototype, "usage_perplexity"), r->shape.perplexity)),
        .spike = dashboard_shape_spike(&r->shape),
        .loss = dashboard_history_last(&r->parameter, "loss"),
        .workers = t->live ? (double)t->worker_count : run_figures_number(&t->parameter, "workers"),
        .silent_workers = silent_workers(t),
        .quiet_s = fmin(t->parameter_age_s, t->prototype_age_s),
        .rewinds = count_rewinds(r),
        .trouble = t->trouble,
    };
    r->facts.mirror_lost = r->was_live && !t->live && !(total > 0 && r->facts.step >= total);
}

void dashboard_run_look(struct dashboard_run *r)
{
    bool live = r->state.live;
    size_t workers = r->state.worker_count;
    top_source_read(&r->source, &r->state);
    r->was_live |= r->state.live;
    note_mirror(r, live, workers);
    look_at_generations(r);
    follow_all(r);
    look_at_prototypes(r);
    gather(r);
}

void dashboard_run_catch_up(struct dashboard_run *r)
{
    do {
        r->shape_due_ms = 0;
        dashboard_run_look(r);
    } while (more_to_see(r));
}
