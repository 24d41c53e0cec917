/* Pictures: well-formed whatever the texts hold, the same shapes in both forms, and nothing where a run tells
 * nothing. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include <math.h>
#include "cli/plot_charts.h"
#include "cli/plot_png.h"
#include "cli/svg_write.h"

/* What fontconfig has cached for cairo is not all freed when a process ends. */
const char *__lsan_default_suppressions(void);
const char *__lsan_default_suppressions(void)
{
    return "leak:libfontconfig\n";
}

static char *svg_of(const struct plot_canvas *c, const char *title)
{
    char *text;
    size_t size;
    assert_int_equal(svg_write(c, title, &text, &size, NULL), 0);
    assert_int_equal(strlen(text), size);
    return text;
}

static void test_svg(void **state)
{
    const struct plot_style line = {.stroke = 0xff0000, .stroke_opacity = 1, .width = 2, .dash = 3};
    struct plot_canvas c;
    (void)state;
    plot_canvas_init(&c, 100, 50);
    plot_line(&c, &line, 1, 2, 3, 4.5);
    plot_path(&c, &line, false); /* without a point: nothing */
    plot_circle(&c, &(struct plot_style){.fill = 0x00ff00, .fill_opacity = 0.5}, 10, 20, 3);
    plot_text(&c, 0x0000ff, 5, 6, 11, PLOT_END, "%s", "</text><script>&\"\xff\n");
    char *text = svg_of(&c, "a<b");
    assert_non_null(strstr(text, "viewBox=\"0 0 100 50\""));
    assert_non_null(strstr(text, "<title>a&lt;b</title>"));
    assert_non_null(strstr(text, "<path d=\"M1.00 2.00L3.00 4.50\" fill=\"none\" stroke=\"#ff0000\""));
    assert_non_null(strstr(text, "stroke-dasharray=\"3\""));
    assert_non_null(strstr(text, "<circle cx=\"10.00\" cy=\"20.00\" r=\"3\" fill=\"#00ff00\" fill-opacity=\"0.5\"/>"));
    assert_non_null(
        strstr(text, "text-anchor=\"end\" fill=\"#0000ff\">&lt;/text&gt;&lt;script&gt;&amp;&quot;?\?</text>"));
    free(text);
    plot_canvas_fini(&c);
}

static uint32_t big_endian(const char *p)
{
    const unsigned char *b = (const unsigned char *)p;
    return (uint32_t)b[0] << 24 | (uint32_t)b[1] << 16 | (uint32_t)b[2] << 8 | b[3];
}

static void test_png(void **state)
{
    struct plot_canvas c;
    char *bytes;
    size_t size;
    (void)state;
    plot_canvas_init(&c, 40, 30);
    plot_box(&c, &(struct plot_style){.fill = 0xffffff, .fill_opacity = 1}, 0, 0, 40, 30);
    plot_text(&c, 0, 5, 20, 11, PLOT_MIDDLE, "K");
    assert_int_equal(plot_png(&c, 2, &bytes, &size, NULL), 0);
    assert_memory_equal(bytes, "\x89PNG\r\n\x1a\n", 8);
    assert_int_equal(big_endian(bytes + 16), 80);
    assert_int_equal(big_endian(bytes + 20), 60);
    free(bytes);
    plot_canvas_fini(&c);
}

static struct dashboard_run *new_run(void)
{
    struct dashboard_run *r = calloc(1, sizeof *r);
    assert_non_null(r);
    assert_int_equal(dashboard_run_open(&(struct source_options){.directory = "/nonexistent"}, r, NULL), 0);
    r->facts.K = 4;
    return r;
}

static void test_charts_of_nothing(void **state)
{
    struct dashboard_run *r = new_run();
    (void)state;
    for (int i = 0; i < PLOT_CHARTS; i++) {
        struct plot_canvas c;
        assert_false(plot_charts[i].draw(&plot_charts[i], r, &c));
        plot_canvas_fini(&c);
    }
    dashboard_run_close(r);
    free(r);
}

/* A value is where the axes say it is: y of 50 % lies half-way between those of 0 and 100 %. */
static void test_curve_is_in_its_place(void **state)
{
    struct dashboard_run *r = new_run();
    struct plot_canvas c;
    (void)state;
    for (int step = 0; step <= 20; step++) {
        char line[64];
        int n = snprintf(line, sizeof line, "{\"step\":%d,\"unique_01\":%d}", 10 * step, 100 - 5 * step);
        dashboard_history_line(&r->prototype, line, (size_t)n);
    }
    assert_true(plot_charts[1].draw(&plot_charts[1], r, &c));
    const struct plot_point *curve = NULL;
    for (size_t i = 0; i < c.item_count; i++)
        if (c.items[i].kind == PLOT_PATH && c.items[i].count == 21)
            curve = c.points + c.items[i].first;
    assert_non_null(curve);
    assert_true(fabs(curve[10].y - (curve[0].y + curve[20].y) / 2) < 1e-9 && curve[0].y < curve[20].y);
    assert_true(fabs(curve[10].x - (curve[0].x + curve[20].x) / 2) < 1e-9 && curve[20].x <= c.width);
    plot_canvas_fini(&c);
    dashboard_run_close(r);
    free(r);
}

/* A loss that falls below 0 stays inside the axes, and its parts are there. */
static void test_negative_loss(void **state)
{
    struct dashboard_run *r = new_run();
    struct plot_canvas c;
    size_t curves = 0;
    (void)state;
    for (int step = 0; step <= 20; step++) {
        char line[96];
        int n = snprintf(line, sizeof line, "{\"step\":%d,\"loss\":%d,\"coding_rate\":3,\"feature_rate\":2}", step,
                         1 - step);
        dashboard_history_line(&r->parameter, line, (size_t)n);
    }
    assert_true(plot_charts[2].draw(&plot_charts[2], r, &c));
    for (size_t i = 0; i < c.item_count; i++) {
        const struct plot_item *x = &c.items[i];
        for (size_t p = 0; x->kind == PLOT_PATH && x->count == 21 && p < x->count; p++)
            assert_true(c.points[x->first + p].y > 50 && c.points[x->first + p].y < c.height - 60);
        curves += x->kind == PLOT_PATH && x->count == 21;
    }
    assert_int_equal(curves, 3);
    plot_canvas_fini(&c);
    dashboard_run_close(r);
    free(r);
}

/* All six parts of a loss have an entry in the legend, inside the picture, and no two are written over each other. */
static void test_legend_of_six(void **state)
{
    enum { LETTER = 6 /* pixels of width at this size of text, about */ };
    static const char *const labels[] = {
        "loss: ", "consistency: ", "entropy: ", "mean entropy: ", "coding rate: ", "feature rate: "};
    static const char line[] = "{\"step\":10,\"loss\":-9.52,\"consistency\":5.38,\"entropy\":3.21,"
                               "\"mean_entropy\":6.77,\"coding_rate\":1.26,\"feature_rate\":0.629}";
    const struct plot_item *entries[6] = {0};
    struct dashboard_run *r = new_run();
    struct plot_canvas c;
    (void)state;
    dashboard_history_line(&r->parameter, line, strlen(line));
    assert_true(plot_charts[2].draw(&plot_charts[2], r, &c));
    for (size_t i = 0; i < c.item_count; i++)
        for (size_t l = 0; c.items[i].kind == PLOT_TEXT && l < 6; l++)
            if (strncmp(c.items[i].text, labels[l], strlen(labels[l])) == 0)
                entries[l] = &c.items[i];
    for (size_t l = 0; l < 6; l++) {
        assert_non_null(entries[l]);
        double x = c.points[entries[l]->first].x, y = c.points[entries[l]->first].y;
        double end = x + LETTER * (double)strlen(entries[l]->text);
        assert_true(end < c.width && y > c.height - 60 && y < c.height);
        for (size_t m = 0; m < l; m++) {
            const struct plot_point *other = &c.points[entries[m]->first];
            assert_true(fabs(other->y - y) >= 11 || other->x + LETTER * (double)strlen(entries[m]->text) < x);
        }
    }
    plot_canvas_fini(&c);
    dashboard_run_close(r);
    free(r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_svg),
        cmocka_unit_test(test_png),
        cmocka_unit_test(test_charts_of_nothing),
        cmocka_unit_test(test_curve_is_in_its_place),
        cmocka_unit_test(test_negative_loss),
        cmocka_unit_test(test_legend_of_six),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
