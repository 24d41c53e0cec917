/* Looking: every wait on Redis is bounded by run_source.h, files are read at their ends only. */
#include "cli/top_state.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include "cli/evaluation_mirror.h"
#include "cli/evaluation_note.h"
#include "cli/metrics_tail.h"
#include "cli/printable.h"
#include "common/clock.h"
#include "common/files.h"

enum { LOOK_MS = 3000 /* for one look at the mirror, all workers included */ };

/* ---- the mirror ---- */

/* "2026-01-01T10:00:00.123Z" of docs/REDIS.md. */
static double age_of_time(const char *text)
{
    struct tm t = {0};
    const char *rest = text ? strptime(text, "%Y-%m-%dT%H:%M:%S", &t) : NULL;
    if (!rest)
        return NAN;
    return unix_time() - (double)timegm(&t) - (*rest == '.' ? strtod(rest, NULL) : 0);
}

static void copy_text(char *out, size_t size, const char *text)
{
    snprintf(out, size, "%s", text);
    printable(out);
}

static void take_worker(const redisReply *fields, struct top_worker *w)
{
    struct run_figures f = {.count = 0};
    for (size_t i = 0; i + 1 < fields->elements; i += 2)
        if (fields->element[i]->type == REDIS_REPLY_STRING && fields->element[i + 1]->type == REDIS_REPLY_STRING)
            run_figures_set(&f, fields->element[i]->str, "%s", fields->element[i + 1]->str);
    w->images_per_s = run_figures_number(&f, "images_per_s");
    w->slots = run_figures_number(&f, "slots_done");
    w->step = run_figures_number(&f, "step");
    w->behind = run_figures_number(&f, "behind");
    w->silent_s = run_figures_number(&f, "silent_ms") / 1000.0;
}

static int read_worker(struct run_source *s, struct top_worker *w)
{
    redisReply *fields;
    int rc = run_source_command(s, REDIS_REPLY_ARRAY, &fields, NULL, "HGETALL decant:%s:worker:%s", s->run, w->id);
    if (rc != 0)
        return rc;
    take_worker(fields, w);
    freeReplyObject(fields);
    return 0;
}

static int read_workers(struct run_source *s, struct top_state *out)
{
    redisReply *list;
    int rc = run_source_command(s, REDIS_REPLY_ARRAY, &list, NULL, "HGETALL decant:%s:workers", s->run);
    if (rc != 0)
        return rc;
    for (size_t i = 0; rc == 0 && i + 1 < list->elements && out->worker_count < TOP_WORKERS_MAX; i += 2) {
        struct top_worker *w = &out->workers[out->worker_count];
        if (list->element[i]->type != REDIS_REPLY_STRING || list->element[i + 1]->type != REDIS_REPLY_STRING)
            continue;
        copy_text(w->id, sizeof w->id, list->element[i]->str);
        copy_text(w->host, sizeof w->host, list->element[i + 1]->str);
        rc = read_worker(s, w);
        out->worker_count += rc == 0;
    }
    freeReplyObject(list);
    return rc;
}

static int by_host(const void *a, const void *b)
{
    const struct top_worker *x = a, *y = b;
    int order = strcmp(x->host, y->host);
    return order != 0 ? order : strcmp(x->id, y->id);
}

static void read_mirror(struct top_source *s, struct top_state *out)
{
    if (!s->redis.redis && run_source_open_live(&s->options, &s->redis, NULL) != 0)
        return;
    run_source_allow(&s->redis, LOOK_MS);
    out->live = run_figures_read(&s->redis, &out->mirror, NULL) == 0 && read_workers(&s->redis, out) == 0;
    if (!out->live) {
        out->mirror.count = out->worker_count = 0;
        run_source_close(&s->redis);
        return;
    }
    out->mirror_age_s = age_of_time(run_figures_find(&out->mirror, "updated"));
    if (out->worker_count > 0)
        qsort(out->workers, out->worker_count, sizeof *out->workers, by_host);
}

/* ---- files ---- */

/* What is not there yet is no trouble; what may not be read, or makes no sense, must not pass for that. */
static void note_trouble(struct top_state *out, int rc, const struct error *e)
{
    if (rc != 0 && rc != ERR_NOT_FOUND && out->trouble[0] == '\0')
        copy_text(out->trouble, sizeof out->trouble, e->text);
}

static void read_metrics(const char *directory, const char *name, struct top_state *t, struct run_figures *out,
                         double *age_s)
{
    char path[CHECKPOINT_PATH_MAX];
    struct error e = {0};
    int rc = path_format(path, sizeof path, "%s/%s", directory, name) == 0 ? metrics_tail_read(path, out, age_s, &e)
                                                                           : ERR_NOT_FOUND;
    if (rc != 0)
        out->count = 0;
    note_trouble(t, rc, &e);
}

static void read_latest(const char *directory, struct top_state *out)
{
    char path[CHECKPOINT_PATH_MAX];
    struct stat st;
    struct buf *text;
    struct error e = {0};
    if (path_format(path, sizeof path, "%s/checkpoints/latest", directory) != 0)
        return;
    int rc = file_read(path, sizeof out->checkpoint - 1, &text, &e);
    note_trouble(out, rc, &e);
    if (rc != 0)
        return;
    if (stat(path, &st) != 0) { /* gone meanwhile */
        buf_unref(&text);
        return;
    }
    char name[sizeof out->checkpoint] = "";
    memcpy(name, text->data, text->size);
    buf_unref(&text);
    name[strcspn(name, "\r\n")] = '\0';
    copy_text(out->checkpoint, sizeof out->checkpoint, name);
    out->has_checkpoint = true;
    out->checkpoint_age_s = unix_time() - (double)st.st_mtim.tv_sec - 1e-9 * (double)st.st_mtim.tv_nsec;
}

static void read_config(const char *directory, struct top_state *out)
{
    char path[CHECKPOINT_PATH_MAX];
    struct run_config c;
    struct error e = {0};
    if (path_format(path, sizeof path, "%s/config.ini", directory) != 0)
        return;
    int rc = file_probe(path, &e);
    if (rc == 0)
        rc = run_config_load(&c, path, NULL, NULL, 0, &e);
    note_trouble(out, rc, &e);
    if (rc != 0)
        return;
    out->components = (double)c.mixture.components;
    if (c.run.steps > 0)
        out->steps = (double)c.run.steps;
    else
        out->epochs = (double)c.run.epochs;
}

void top_source_read(struct top_source *s, struct top_state *out)
{
    memset(out, 0, sizeof *out);
    out->mirror_age_s = out->parameter_age_s = out->prototype_age_s = out->checkpoint_age_s = NAN;
    out->epochs = out->steps = out->components = NAN;
    read_mirror(s, out);
    snprintf(out->run, sizeof out->run, "%s", s->redis.run);
    snprintf(out->where, sizeof out->where, "%s", out->live ? s->redis.where : s->directory);
    read_metrics(s->directory, "metrics-parameter.jsonl", out, &out->parameter, &out->parameter_age_s);
    read_metrics(s->directory, "metrics-prototype.jsonl", out, &out->prototype, &out->prototype_age_s);
    read_metrics(s->directory, EVALUATION_METRICS, out, &out->evaluation, &(double){0});
    if (out->live && out->evaluation.count == 0) /* the run is on another machine */
        evaluation_mirror_read(&s->redis, &out->evaluation);
    read_latest(s->directory, out);
    read_config(s->directory, out);
}

int top_source_open(const struct source_options *o, struct top_source *out, struct error *e)
{
    char path[CHECKPOINT_PATH_MAX];
    memset(out, 0, sizeof *out);
    out->options = *o;
    int rc = run_source_directory(o, out->directory, e);
    if (rc != 0)
        return rc;
    rc = run_source_open_live(o, &out->redis, e);
    if (rc == 0 || o->redis[0] != '\0')
        return rc;
    static const char *const traces[] = {"config.ini", "metrics-parameter.jsonl", "metrics-prototype.jsonl",
                                         "checkpoints/latest"};
    bool any = false;
    for (size_t i = 0; i < sizeof traces / sizeof traces[0]; i++) {
        if (path_format(path, sizeof path, "%s/%s", out->directory, traces[i]) != 0)
            continue;
        rc = file_probe(path, e);
        if (rc == ERR_IO)
            return rc;
        any = any || rc == 0;
    }
    if (any)
        return 0;
    return error_set(e, ERR_NOT_FOUND, "%s: no run here; name one with --run, --out or --redis", out->directory);
}

void top_source_close(struct top_source *s)
{
    run_source_close(&s->redis);
}

/* ---- figures ---- */

double top_figure(const struct top_state *t, const char *name)
{
    const struct run_figures *const sources[] = {&t->mirror, &t->parameter, &t->prototype};
    for (size_t i = 0; i < sizeof sources / sizeof sources[0]; i++) {
        double value = run_figures_number(sources[i], name);
        if (!isnan(value))
            return value;
    }
    return NAN;
}

/* Without run.steps the total is told by the mirror, or follows from how far the steps so far have come in epochs. */
double top_total_steps(const struct top_state *t)
{
    double told = run_figures_number(&t->mirror, "total_steps"), epoch = run_figures_number(&t->parameter, "epoch"),
           step = run_figures_number(&t->parameter, "step");
    if (t->steps > 0)
        return t->steps;
    if (told > 0)
        return told;
    return epoch > 0 && step > 0 && t->epochs > 0 ? round(step / epoch) * t->epochs : 0;
}
