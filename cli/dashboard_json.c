/* Building of objects; jansson does the escaping. */
#include "cli/dashboard_json.h"

#include <math.h>
#include "cli/json_print.h"

static json_t *number(double value)
{
    if (!isfinite(value))
        return json_null();
    return value == floor(value) && fabs(value) < 1e15 ? json_integer((json_int_t)value) : json_real(value);
}

static json_t *text(const char *value)
{
    return json_print_text(value ? value : "");
}

/* ---- state ---- */

static json_t *words_json(const struct words *w)
{
    json_t *list = json_array();
    for (size_t i = 0; i < w->count; i++)
        json_array_append_new(list, json_pack("{s:s, s:o}", "level", words_level_name(w->items[i].level), "text",
                                              text(w->items[i].text)));
    return list;
}

static json_t *workers_json(const struct top_state *t)
{
    json_t *list = json_array();
    for (size_t i = 0; i < t->worker_count; i++) {
        const struct top_worker *w = &t->workers[i];
        const char *state = w->silent_s >= WORDS_SILENT_S ? "silent" : w->behind > 1 ? "behind" : "working";
        json_array_append_new(list, json_pack("{s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:s}", "id", text(w->id), "host",
                                              text(w->host), "rate", number(w->images_per_s), "slots", number(w->slots),
                                              "step", number(w->step), "behind", number(w->behind), "silent_s",
                                              number(w->silent_s), "state", state));
    }
    return list;
}

static json_t *server_json(const char *name, double step, double version, double generation, double age_s)
{
    return json_pack("{s:s, s:o, s:o, s:o, s:o}", "name", name, "step", number(step), "version", number(version),
                     "generation", number(generation), "age_s", number(age_s));
}

static json_t *servers_json(const struct dashboard_run *r)
{
    const struct top_state *t = &r->state;
    json_t *list = json_array();
    double version = run_figures_number(t->live ? &t->mirror : &t->prototype, "version");
    if (t->parameter.count > 0)
        json_array_append_new(list, server_json("parameter", run_figures_number(&t->parameter, "step"), NAN,
                                                r->generation[0], t->parameter_age_s));
    if (t->live || t->prototype.count > 0)
        json_array_append_new(list,
                              server_json("prototype", run_figures_number(t->live ? &t->mirror : &t->prototype, "step"),
                                          version, r->generation[1], t->live ? t->mirror_age_s : t->prototype_age_s));
    return list;
}

static json_t *events_json(const struct dashboard_events *l)
{
    json_t *list = json_array();
    for (size_t i = 0; i < l->count; i++) {
        const struct dashboard_event *event = dashboard_events_at(l, i);
        json_array_append_new(list,
                              json_pack("{s:o, s:o, s:o, s:o}", "time", text(event->time), "level", text(event->level),
                                        "source", text(event->source), "text", text(event->text)));
    }
    return list;
}

static json_t *checkpoint_json(const struct top_state *t)
{
    return t->has_checkpoint
               ? json_pack("{s:o, s:o}", "name", text(t->checkpoint), "age_s", number(t->checkpoint_age_s))
               : json_null();
}

static json_t *figures_json(const struct dashboard_run *r)
{
    const struct run_facts *f = &r->facts;
    return json_pack("{s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "step", number(f->step), "total",
                     number(f->total > 0 ? f->total : NAN), "K", number(f->K), "D", number(f->D), "unique_01",
                     number(f->unique_01), "active", number(f->active), "perplexity", number(f->perplexity), "loss",
                     number(f->loss), "images_per_s", number(dashboard_history_last(&r->parameter, "images_per_s")),
                     "quiet_s", number(f->quiet_s));
}

json_t *dashboard_state_json(const struct dashboard_run *r, const struct words *compare)
{
    const struct top_state *t = &r->state;
    bool unreadable = !r->facts.begun && t->trouble[0] != '\0';
    const char *source = unreadable ? "unreadable" : !r->facts.begun ? "nothing" : t->live ? "redis" : "files";
    struct words own;
    dashboard_words(&r->facts, &own);
    return json_pack("{s:o, s:o, s:s, s:b, s:b, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "run", text(t->run), "where",
                     text(t->where), "source", source, "lost", r->facts.mirror_lost, "joint", r->facts.joint, "figures",
                     figures_json(r), "words", words_json(&own), "compare", words_json(compare), "workers",
                     workers_json(t), "servers", servers_json(r), "checkpoint", checkpoint_json(t), "events",
                     events_json(&r->events), "trouble", text(r->shape_trouble));
}

/* ---- history ---- */

/* By columns: {"step": [..], "loss": [..], ..}. */
static json_t *table_json(const struct dashboard_history *h)
{
    json_t *object = json_object(), *steps = json_array();
    for (size_t i = 0; i < h->count; i++)
        json_array_append_new(steps, number(h->rows[i].step));
    json_object_set_new(object, "step", steps);
    for (size_t c = 0; c < h->column_count; c++) {
        json_t *column = json_array();
        for (size_t i = 0; i < h->count; i++)
            json_array_append_new(column, number(h->rows[i].value[c]));
        json_object_set_new(object, h->columns[c], column);
    }
    return object;
}

json_t *dashboard_history_json(const struct dashboard_run *r)
{
    return json_pack("{s:o, s:o, s:o}", "parameter", table_json(&r->parameter), "prototype", table_json(&r->prototype),
                     "evaluation", table_json(&r->evaluation));
}

/* ---- shape ---- */

/* [index, x, y, share of usage times K, nearest, cosine] of at most SHAPE_DOTS prototypes. */
static json_t *dots_json(const struct dashboard_shape *s)
{
    json_t *list = json_array();
    uint32_t every = (s->K + SHAPE_DOTS - 1) / SHAPE_DOTS;
    for (uint32_t k = 0; k < s->K; k += every)
        json_array_append_new(list, json_pack("[i, f, f, o, o, o]", (int)k, (double)s->x[k], (double)s->y[k],
                                              number(s->usage ? s->usage[k] * s->K : NAN),
                                              number(s->nearest ? (double)s->nearest[k] : NAN),
                                              number(s->cosine ? (double)s->cosine[k] : NAN)));
    return list;
}

static json_t *numbers_json(const double *values, size_t n)
{
    json_t *list = json_array();
    for (size_t i = 0; i < n; i++)
        json_array_append_new(list, number(values[i]));
    return list;
}

static json_t *usage_json(const struct dashboard_shape *s)
{
    json_t *list = s->usage ? json_array() : json_null();
    for (size_t i = 0; s->usage && i < SHAPE_USAGE; i++)
        json_array_append_new(list, json_integer(s->usage_bins[i]));
    return list;
}

static json_t *pairs_json(const struct dashboard_shape *s)
{
    json_t *list = json_array();
    for (size_t i = 0; i < s->pair_count; i++) {
        const struct shape_pair *p = &s->pairs[i];
        json_array_append_new(list, json_pack("[i, i, f, o, o]", (int)p->a, (int)p->b, p->cosine,
                                              number(s->usage ? s->usage[p->a] * s->K : NAN),
                                              number(s->usage ? s->usage[p->b] * s->K : NAN)));
    }
    return list;
}

json_t *dashboard_shape_json(const struct dashboard_run *r)
{
    const struct dashboard_shape *s = &r->shape;
    return json_pack("{s:i, s:i, s:I, s:o, s:o, s:o, s:o, s:o}", "K", (int)s->K, "D", (int)s->D, "step",
                     (json_int_t)s->step, "spread", numbers_json(s->spread, 2), "density",
                     numbers_json(s->density, SHAPE_ANGLES), "dots", dots_json(s), "usage", usage_json(s), "pairs",
                     pairs_json(s));
}
