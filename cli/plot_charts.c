/* Drawing; the page (cli/page/page.html) does the same in the browser. */
#include "cli/plot_charts.h"

#include <math.h>

enum { WIDTH = 720, HEIGHT = 420, LEFT = 64, RIGHT = 20, TOP = 56, BOTTOM = 64, RING = 560, LEGEND_ROW = 5 };
enum {
    INK = 0x1d2126,
    SOFT = 0x5a626c,
    GRID = 0xe6e4de,
    BLUE = 0x2a6fbb,
    ORANGE = 0xc25a1c,
    GREEN = 0x2b7d4f,
    VIOLET = 0x7a4fa3,
    AMBER = 0x8a5a00
};

static void begin(struct plot_canvas *c, double width, double height, const char *title, const char *run)
{
    plot_canvas_init(c, width, height);
    plot_box(c, &(struct plot_style){.fill = 0xffffff, .fill_opacity = 1}, 0, 0, width, height);
    plot_text(c, INK, 16, 26, 16, PLOT_START, "%s", title);
    plot_text(c, SOFT, width - 16, 26, 12, PLOT_END, "%.60s", run);
}

/* ---- line charts ---- */

struct curve {
    const struct dashboard_history *history;
    const char *column, *label;
    uint32_t colour;
};

struct frame {
    double last_step, min, max; /* of the axes; steps begin at 0, values there or below */
};

static double frame_x(const struct frame *f, double step)
{
    return LEFT + (WIDTH - LEFT - RIGHT) * step / f->last_step;
}

static double frame_y(const struct frame *f, double value)
{
    return TOP + (HEIGHT - TOP - BOTTOM) * (1 - (value - f->min) / (f->max - f->min));
}

/* 1, 2 or 5 times a power of ten, so that about n of them make span. */
static double tick_of(double span, int n)
{
    double power = pow(10, floor(log10(span / n)));
    for (int i = 0; i < 3; i++)
        if ((double[]){1, 2, 5}[i] * power >= span / n)
            return (double[]){1, 2, 5}[i] * power;
    return 10 * power;
}

static void draw_axes(struct plot_canvas *c, const struct frame *f)
{
    static const struct plot_style line = {.stroke = GRID, .stroke_opacity = 1, .width = 1};
    double step = tick_of(f->max - f->min, 5);
    for (int i = (int)ceil(f->min / step); i * step <= f->max * 1.0001; i++) {
        plot_line(c, &line, LEFT, frame_y(f, i * step), WIDTH - RIGHT, frame_y(f, i * step));
        plot_text(c, SOFT, LEFT - 8, frame_y(f, i * step) + 4, 11, PLOT_END, "%g", i * step);
    }
    step = tick_of(f->last_step, 6);
    for (int i = 0; i * step <= f->last_step * 1.0001; i++)
        plot_text(c, SOFT, frame_x(f, i * step), HEIGHT - BOTTOM + 18, 11, PLOT_MIDDLE, i ? "%g" : "%g steps",
                  i * step);
}

static bool measure(const struct curve *curves, size_t n, struct frame *f)
{
    double max = NAN, min = 0;
    f->last_step = 0;
    for (size_t i = 0; i < n; i++) {
        const struct dashboard_history *h = curves[i].history;
        double highest = dashboard_history_max(h, curves[i].column);
        max = fmax(max, highest);
        min = fmin(min, dashboard_history_min(h, curves[i].column));
        if (!isnan(highest))
            f->last_step = fmax(f->last_step, h->rows[h->count - 1].step);
    }
    f->max = isnan(f->max) ? fmax(max * 1.05, 1e-9) : f->max;
    f->min = min < 0 ? min - 0.05 * (f->max - min) : 0;
    f->last_step = fmax(f->last_step, 1);
    return !isnan(max);
}

static void draw_curve(struct plot_canvas *c, const struct frame *f, const struct curve *curve)
{
    const struct dashboard_history *h = curve->history;
    const struct plot_style line = {.stroke = curve->colour, .stroke_opacity = 1, .width = 2};
    size_t column = dashboard_history_column(h, curve->column), drawn = 0;
    plot_path(c, &line, false);
    for (size_t i = 0; i < h->count; i++)
        if (!isnan(h->rows[i].value[column])) {
            plot_to(c, frame_x(f, h->rows[i].step), frame_y(f, h->rows[i].value[column]));
            drawn++;
        }
    for (size_t i = 0; drawn < 12 && i < h->count; i++)
        if (!isnan(h->rows[i].value[column]))
            plot_circle(c, &(struct plot_style){.fill = curve->colour, .fill_opacity = 1}, frame_x(f, h->rows[i].step),
                        frame_y(f, h->rows[i].value[column]), 3);
}

static void draw_legend(struct plot_canvas *c, const struct curve *curves, size_t n)
{
    int shown = 0, drawn = 0;
    for (size_t i = 0; i < n; i++)
        shown += !isnan(dashboard_history_last(curves[i].history, curves[i].column));
    int rows = shown > LEGEND_ROW ? 2 : 1, each = (shown + rows - 1) / rows;
    for (size_t i = 0; i < n; i++) {
        double last = dashboard_history_last(curves[i].history, curves[i].column);
        if (isnan(last))
            continue;
        double x = LEFT + drawn % each * (WIDTH - LEFT - RIGHT) / fmax(each, 3);
        double y = rows == 1 ? HEIGHT - 20 : HEIGHT - 24 + 16 * (drawn / each);
        plot_line(c, &(struct plot_style){.stroke = curves[i].colour, .stroke_opacity = 1, .width = 3}, x, y - 4,
                  x + 16, y - 4);
        plot_text(c, INK, x + 22, y, 11, PLOT_START, "%s: %.3g", curves[i].label, last);
        drawn++;
    }
}

/* max: of the axis of values; NaN takes it from the curves. */
static bool draw_lines(struct plot_canvas *c, const char *title, const char *run, const struct curve *curves, size_t n,
                       double max, double reference)
{
    struct frame f = {.max = max};
    begin(c, WIDTH, HEIGHT, title, run);
    if (!measure(curves, n, &f))
        return false;
    if (reference > f.max)
        f.max = reference * 1.05;
    draw_axes(c, &f);
    if (reference > 0) {
        plot_line(c, &(struct plot_style){.stroke = SOFT, .stroke_opacity = 1, .width = 1.5, .dash = 3}, LEFT,
                  frame_y(&f, reference), WIDTH - RIGHT, frame_y(&f, reference));
        plot_text(c, INK, WIDTH - RIGHT, frame_y(&f, reference) - 6, 11, PLOT_END, "ln K = %.2f", reference);
    }
    for (size_t i = 0; i < n; i++)
        draw_curve(c, &f, &curves[i]);
    draw_legend(c, curves, n);
    return true;
}

static bool draw_unique(const struct plot_chart *chart, const struct dashboard_run *r, struct plot_canvas *c)
{
    const struct dashboard_history *h = &r->prototype;
    const struct curve curves[] = {{h, "unique_0025", "unique 0.025", 0x9cc3ea},
                                   {h, "unique_01", "0.1", BLUE},
                                   {h, "unique_025", "0.25", 0x1d4a80},
                                   {h, "unique_05", "0.5", 0x10243f},
                                   {h, "active", "active", ORANGE}};
    return draw_lines(c, chart->title, r->state.run, curves, 5, 100, 0);
}

static bool draw_loss(const struct plot_chart *chart, const struct dashboard_run *r, struct plot_canvas *c)
{
    const struct dashboard_history *h = &r->parameter;
    const struct curve curves[] = {{h, "loss", "loss", INK},
                                   {h, "consistency", "consistency", BLUE},
                                   {h, "entropy", "entropy", ORANGE},
                                   {h, "mean_entropy", "mean entropy", GREEN},
                                   {h, "coding_rate", "coding rate", VIOLET},
                                   {h, "feature_rate", "feature rate", AMBER}};
    return draw_lines(c, chart->title, r->state.run, curves, 6, NAN, r->facts.K > 1 ? log(r->facts.K) : 0);
}

static bool draw_perplexity(const struct plot_chart *chart, const struct dashboard_run *r, struct plot_canvas *c)
{
    const struct dashboard_history *h = &r->prototype;
    const struct curve curves[] = {{h, "usage_perplexity", "perplexity", VIOLET},
                                   {h, "effective_rank", "effective rank", GREEN}};
    return draw_lines(c, chart->title, r->state.run, curves, 2, NAN, 0);
}

static bool draw_knn(const struct plot_chart *chart, const struct dashboard_run *r, struct plot_canvas *c)
{
    const struct dashboard_history *h = &r->evaluation;
    const struct curve curves[] = {{h, "knn", "features", BLUE}, {h, "knn_projections", "projections", ORANGE}};
    return draw_lines(c, chart->title, r->state.run, curves, 2, 100, 0);
}

/* ---- usage ---- */

static bool draw_usage(const struct plot_chart *chart, const struct dashboard_run *r, struct plot_canvas *c)
{
    static const char *const labels[SHAPE_USAGE] = {"0", "<1/8", "1/8", "1/4", "1/2", "1",
                                                    "2", "4",    "8",   "16",  "32",  "64"};
    const struct dashboard_shape *s = &r->shape;
    struct frame f = {.last_step = SHAPE_USAGE, .max = 1};
    begin(c, WIDTH, HEIGHT, chart->title, r->state.run);
    if (!s->usage)
        return false;
    for (int i = 0; i < SHAPE_USAGE; i++)
        f.max = fmax(f.max, s->usage_bins[i] * 1.05);
    double tick = tick_of(f.max, 5);
    for (int i = 0; i * tick <= f.max; i++) {
        plot_line(c, &(struct plot_style){.stroke = GRID, .stroke_opacity = 1, .width = 1}, LEFT, frame_y(&f, i * tick),
                  WIDTH - RIGHT, frame_y(&f, i * tick));
        plot_text(c, SOFT, LEFT - 8, frame_y(&f, i * tick) + 4, 11, PLOT_END, "%g", i * tick);
    }
    for (int i = 0; i < SHAPE_USAGE; i++) {
        double x = frame_x(&f, i + 0.1), top = frame_y(&f, s->usage_bins[i]);
        plot_box(c, &(struct plot_style){.fill = VIOLET, .fill_opacity = 1}, x, top, frame_x(&f, i + 0.9) - x,
                 frame_y(&f, 0) - top);
        plot_text(c, SOFT, frame_x(&f, i + 0.5), HEIGHT - BOTTOM + 18, 11, PLOT_MIDDLE, "%s", labels[i]);
    }
    plot_text(c, SOFT, WIDTH / 2.0, HEIGHT - 20, 11, PLOT_MIDDLE,
              "even shares of the images, from; perplexity %.0f of %u", s->perplexity, s->K);
    return true;
}

/* ---- the ring ---- */

static void draw_density(struct plot_canvas *c, const struct dashboard_shape *s, double x, double y, double rim,
                         double unit)
{
    plot_path(
        c, &(struct plot_style){.stroke = BLUE, .stroke_opacity = 1, .width = 1.2, .fill = 0xd9e6f4, .fill_opacity = 1},
        true);
    for (int i = 0; i < SHAPE_ANGLES; i++) {
        double turn = 2 * M_PI * (i + 0.5) / SHAPE_ANGLES, radius = rim + unit * fmin(s->density[i], 6);
        plot_to(c, x + radius * cos(turn), y - radius * sin(turn));
    }
    plot_circle(
        c, &(struct plot_style){.stroke = GRID, .stroke_opacity = 1, .width = 1, .fill = 0xffffff, .fill_opacity = 1},
        x, y, rim);
    plot_circle(c, &(struct plot_style){.stroke = SOFT, .stroke_opacity = 1, .width = 1, .dash = 2}, x, y, rim + unit);
}

static bool draw_ring(const struct plot_chart *chart, const struct dashboard_run *r, struct plot_canvas *c)
{
    const struct dashboard_shape *s = &r->shape;
    double x = RING / 2.0, y = RING / 2.0 + 20, rim = 200, unit = 9;
    begin(c, RING, RING + 40, chart->title, r->state.run);
    if (s->K == 0)
        return false;
    draw_density(c, s, x, y, rim, unit);
    uint32_t every = (s->K + SHAPE_DOTS - 1) / SHAPE_DOTS;
    for (uint32_t k = 0; k < s->K; k += every) {
        bool copy = s->cosine && (double)s->cosine[k] > 0.9;
        plot_circle(c, &(struct plot_style){.fill = copy ? ORANGE : BLUE, .fill_opacity = copy ? 0.8 : 0.55},
                    x + 0.95 * rim * (double)s->x[k], y - 0.95 * rim * (double)s->y[k], s->K > 1200 ? 2 : 3);
    }
    plot_text(c, SOFT, 16, RING + 10, 11, PLOT_START,
              "step %llu; %u prototypes on their two principal directions (%.0f %% of the variance)",
              (unsigned long long)s->step, s->K, 100 * (s->spread[0] + s->spread[1]));
    plot_text(c, SOFT, 16, RING + 28, 11, PLOT_START,
              "orange: cosine to another above 0.9; band: density by angle, dotted when even");
    return true;
}

const struct plot_chart plot_charts[PLOT_CHARTS] = {
    {"ring", "The ring of prototypes", draw_ring},
    {"unique", "Unique and active prototypes, percent", draw_unique},
    {"loss", "Loss and its parts", draw_loss},
    {"perplexity", "Usage perplexity and effective rank", draw_perplexity},
    {"usage", "Prototypes by usage", draw_usage},
    {"knn", "k-NN while training, percent", draw_knn},
};
