/* Every line is built from pieces whose visible width is known, so that it can be cut at the terminal's edge without
 * breaking an escape sequence. */
#include "cli/top_screen.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include "cli/progress.h"

enum { BAR_WIDTH = 24, LABEL_WIDTH = 16 };

enum {
    STALE_S = 10, /* as long as the servers wait before they forget a worker */
    SILENT_S = 3  /* a worker says something every second */
};

enum paint { PLAIN, BOLD, DIM, WARN };
static const char *const paints[] = {[PLAIN] = "", [BOLD] = "\033[1m", [DIM] = "\033[2m", [WARN] = "\033[33m"};

struct line {
    struct top_screen *screen;
    char *text; /* NULL: the screen is full */
    size_t used;
    int columns; /* visible so far */
};

static struct line line_begin(struct top_screen *s)
{
    struct line l = {.screen = s};
    if (s->count < TOP_LINES_MAX && (s->height == 0 || s->count < s->height)) {
        l.text = s->lines[s->count++];
        l.text[0] = '\0';
    }
    return l;
}

static void put(struct line *l, enum paint paint, const char *format, ...) __attribute__((format(printf, 3, 4)));
static void put(struct line *l, enum paint paint, const char *format, ...)
{
    char piece[256];
    va_list args;
    va_start(args, format);
    vsnprintf(piece, sizeof piece, format, args);
    va_end(args);
    int width = (int)strlen(piece), room = l->screen->width > 0 ? l->screen->width - l->columns : width;
    bool painted = l->screen->colour && paint != PLAIN;
    if (!l->text || room <= 0 || l->used + (size_t)width + 16 > TOP_LINE_BYTES)
        return;
    int shown = width < room ? width : room;
    l->used += (size_t)snprintf(l->text + l->used, TOP_LINE_BYTES - l->used, "%s%.*s%s", painted ? paints[paint] : "",
                                shown, piece, painted ? "\033[0m" : "");
    l->columns += shown;
}

static void put_label(struct line *l, const char *label)
{
    put(l, DIM, "  %-*s", LABEL_WIDTH, label);
}

/* Fixed decimals; "-" when unknown. */
static void put_number(struct line *l, double value, int decimals)
{
    if (isnan(value))
        put(l, PLAIN, "-");
    else
        put(l, PLAIN, "%.*f", decimals, value);
}

static void put_figure(struct line *l, const struct top_state *t, const char *name, int decimals)
{
    put_number(l, top_figure(t, name), decimals);
}

static void put_age(struct line *l, const char *what, double age_s, bool stale_is_bad)
{
    char text[32];
    if (isnan(age_s))
        return;
    progress_duration(age_s, text, sizeof text);
    put(l, stale_is_bad && age_s > STALE_S ? WARN : PLAIN, "%s%s %s ago", l->columns > LABEL_WIDTH + 2 ? ", " : "",
        what, text);
}

/* ---- lines ---- */

static void draw_title(struct top_screen *s, const struct top_state *t)
{
    struct line l = line_begin(s);
    put(&l, BOLD, "decant top  run '%s'", t->run);
    put(&l, DIM, "  %s%s", t->where, t->live ? "" : " (no live mirror)");
}

static double step_of(const struct top_state *t)
{
    double trained = run_figures_number(&t->parameter, "step");
    return isnan(trained) ? top_figure(t, "step") : trained;
}

static void put_bar(struct line *l, double share)
{
    int full = (int)(share * BAR_WIDTH + 0.5);
    char bar[BAR_WIDTH + 1];
    memset(bar, '.', BAR_WIDTH);
    memset(bar, '#', (size_t)(full < BAR_WIDTH ? full : BAR_WIDTH));
    bar[BAR_WIDTH] = '\0';
    put(l, PLAIN, "  [%s] %.1f %%", bar, 100 * share);
}

static void put_time_left(struct line *l, const struct top_state *t, double steps)
{
    double step_ms = run_figures_number(&t->parameter, "step_ms");
    char left[32];
    if (!(step_ms > 0) || !(steps > 0) || t->parameter_age_s > STALE_S)
        return;
    progress_duration(steps * step_ms / 1000, left, sizeof left);
    put(l, PLAIN, "  %s left", left);
}

static void draw_position(struct top_screen *s, const struct top_state *t)
{
    struct line l = line_begin(s);
    double step = step_of(t), total = top_total_steps(t), epoch = top_figure(t, "epoch");
    put(&l, PLAIN, "step ");
    put_number(&l, step, 0);
    if (total > 0)
        put(&l, PLAIN, "/%.0f", total);
    if (!isnan(epoch))
        put(&l, PLAIN, "  epoch %.2f", epoch);
    if (!isnan(epoch) && !isnan(t->epochs))
        put(&l, PLAIN, "/%.0f", t->epochs);
    if (total > 0 && step >= 0 && step <= total) {
        put_bar(&l, step / total);
        put_time_left(&l, t, total - step);
    }
}

/* A part of the loss that not every run has. */
static void put_term(struct line *l, const struct top_state *t, const char *label, const char *name)
{
    if (isnan(top_figure(t, name)))
        return;
    put(l, PLAIN, ", %s ", label);
    put_figure(l, t, name, 4);
}

static void draw_loss(struct top_screen *s, const struct top_state *t)
{
    struct line l = line_begin(s);
    double lr = top_figure(t, "lr");
    put_label(&l, "loss");
    put_figure(&l, t, "loss", 4);
    put(&l, PLAIN, "  (consistency ");
    put_figure(&l, t, "consistency", 4);
    put(&l, PLAIN, ", entropy ");
    put_figure(&l, t, "entropy", 4);
    put_term(&l, t, "mean entropy", "mean_entropy");
    put_term(&l, t, "coding rate", "coding_rate");
    put_term(&l, t, "feature rate", "feature_rate");
    put(&l, PLAIN, ")");
    l = line_begin(s);
    put_label(&l, "learning rate");
    if (isnan(lr))
        put(&l, PLAIN, "-");
    else
        put(&l, PLAIN, "%.4g", lr);
    put(&l, PLAIN, "  gradient norm ");
    put_figure(&l, t, "grad_norm", 3);
}

static void draw_prototypes(struct top_screen *s, const struct top_state *t)
{
    static const char *const names[] = {"unique_0025", "unique_01", "unique_025", "unique_05"};
    struct line l = line_begin(s);
    put_label(&l, "unique %");
    for (unsigned i = 0; i < 4; i++) {
        put(&l, PLAIN, "%s", i ? " / " : "");
        put_figure(&l, t, names[i], 1);
    }
    put(&l, DIM, "  at eps 0.025 / 0.1 / 0.25 / 0.5");
    l = line_begin(s);
    put_label(&l, "active %");
    put_figure(&l, t, "active", 1);
    put(&l, DIM, " lately");
    put(&l, PLAIN, "  perplexity ");
    double perplexity = top_figure(t, "perplexity");
    put_number(&l, isnan(perplexity) ? top_figure(t, "usage_perplexity") : perplexity, 1);
    double K = isnan(t->components) ? top_figure(t, "K") : t->components;
    if (!isnan(K))
        put(&l, PLAIN, " of %.0f", K);
    l = line_begin(s);
    put_label(&l, "log-likelihood");
    put_figure(&l, t, "loglik", 3);
}

/* Only of a run that is evaluated as it goes on. */
static void draw_evaluation(struct top_screen *s, const struct top_state *t)
{
    double knn = run_figures_number(&t->evaluation, "knn");
    if (isnan(knn))
        return;
    struct line l = line_begin(s);
    put_label(&l, "k-NN %");
    put_number(&l, knn, 1);
    put(&l, PLAIN, " at step ");
    put_number(&l, run_figures_number(&t->evaluation, "step"), 0);
    put(&l, PLAIN, "  best ");
    put_number(&l, run_figures_number(&t->evaluation, "best"), 1);
    put(&l, PLAIN, " at step ");
    put_number(&l, run_figures_number(&t->evaluation, "best_step"), 0);
}

static void draw_speed(struct top_screen *s, const struct top_state *t)
{
    struct line l = line_begin(s);
    double workers = run_figures_number(&t->parameter, "workers");
    put_label(&l, "images/s");
    put_number(&l, run_figures_number(&t->parameter, "images_per_s"), 0);
    put(&l, PLAIN, "  workers ");
    put_number(&l, isnan(workers) ? top_figure(t, "workers") : workers, 0);
}

static void draw_ages(struct top_screen *s, const struct top_state *t)
{
    struct line l = line_begin(s);
    put_label(&l, "heard from");
    put_age(&l, "parameter server", t->parameter_age_s, true);
    put_age(&l, "prototype server", t->prototype_age_s, true);
    put_age(&l, "mirror", t->mirror_age_s, true);
    if (isnan(t->parameter_age_s) && isnan(t->prototype_age_s) && isnan(t->mirror_age_s))
        put(&l, PLAIN, "nobody");
    l = line_begin(s);
    put_label(&l, "checkpoint");
    if (t->has_checkpoint)
        put_age(&l, t->checkpoint, t->checkpoint_age_s, false);
    else
        put(&l, PLAIN, "none yet");
    if (t->trouble[0] != '\0') {
        l = line_begin(s);
        put_label(&l, "unreadable");
        put(&l, WARN, "%s", t->trouble);
    }
}

static void put_column(struct line *l, double value, int width, int decimals)
{
    if (isnan(value))
        put(l, PLAIN, "%*s", width, "-");
    else
        put(l, PLAIN, "%*.*f", width, decimals, value);
}

static void draw_worker(struct top_screen *s, const struct top_worker *w)
{
    struct line l = line_begin(s);
    put(&l, PLAIN, "  %-16.16s  %-24.24s", w->id, w->host);
    put_column(&l, w->images_per_s, 10, 0);
    put_column(&l, w->slots, 10, 0);
    put_column(&l, w->step, 9, 0);
    put_column(&l, w->behind, 8, 0);
    if (w->silent_s > SILENT_S)
        put(&l, WARN, "%9.1f", w->silent_s);
    else
        put_column(&l, w->silent_s, 9, 1);
}

static void draw_workers(struct top_screen *s, const struct top_state *t)
{
    line_begin(s);
    if (t->worker_count == 0) {
        struct line l = line_begin(s);
        put(&l, DIM, "  %s",
            t->live ? "no worker has been heard in the last 10 s"
                    : "the table of workers needs the live mirror (Redis)");
        return;
    }
    struct line l = line_begin(s);
    put(&l, BOLD, "  %-16s  %-24s%10s%10s%9s%8s%9s", "worker", "host:pid", "images/s", "slots", "step", "behind",
        "silent s");
    size_t room = s->height > 0 && s->height > s->count ? (size_t)(s->height - s->count) : TOP_LINES_MAX;
    size_t shown = s->height > 0 && t->worker_count > room ? room - 1 : t->worker_count;
    for (size_t i = 0; i < shown; i++)
        draw_worker(s, &t->workers[i]);
    if (shown < t->worker_count) {
        l = line_begin(s);
        put(&l, DIM, "  and %zu more", t->worker_count - shown);
    }
}

void top_screen_draw(struct top_screen *s, const struct top_state *t)
{
    s->count = 0;
    draw_title(s, t);
    draw_position(s, t);
    draw_loss(s, t);
    draw_prototypes(s, t);
    draw_evaluation(s, t);
    draw_speed(s, t);
    draw_ages(s, t);
    draw_workers(s, t);
}
