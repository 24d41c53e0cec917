/* The newest figures of a metrics file, and the screen: cut at the edge, nothing of a stranger's text let through, and
 * what is unknown shown as unknown. */
#include <math.h>
#include "cli/metrics_tail.h"
#include "cli/top_screen.h"
#include "tests/unit/cli/checkpoint_rig.h"

static struct top_state *new_state(void)
{
    struct top_state *t = calloc(1, sizeof *t);
    assert_non_null(t);
    snprintf(t->run, sizeof t->run, "mine");
    t->mirror_age_s = t->parameter_age_s = t->prototype_age_s = t->checkpoint_age_s = NAN;
    t->epochs = t->steps = t->components = NAN;
    return t;
}

static struct top_screen *draw(const struct top_state *t, int width, int height, bool colour)
{
    struct top_screen *s = calloc(1, sizeof *s);
    assert_non_null(s);
    s->width = width;
    s->height = height;
    s->colour = colour;
    top_screen_draw(s, t);
    return s;
}

static void assert_shows(const struct top_screen *s, const char *what)
{
    for (int i = 0; i < s->count; i++)
        if (strstr(s->lines[i], what))
            return;
    fail_msg("no line has '%s'", what);
}

static void write_metrics(const struct rig *r, const char *text, size_t size, char path[160])
{
    snprintf(path, 160, "%s/metrics.jsonl", r->root);
    assert_int_equal(file_write_atomic(path, &(struct file_part){text, size}, 1, NULL), 0);
}

static void test_tail(void **state)
{
    static const char text[] =
        "{\"step\":1,\"loss\":5}\nnot JSON\n{\"step\":2,\"unique_01\":93.5,\"refused\":{\"x\":1}}\n"
        "{\"step\":3,\"lo";
    struct rig *r = *state;
    struct run_figures f;
    char path[160];
    double age;
    write_metrics(r, text, sizeof text - 1, path);
    assert_int_equal(metrics_tail_read(path, &f, &age, &r->e), 0);
    assert_true(run_figures_number(&f, "step") == 2 && run_figures_number(&f, "loss") == 5);
    assert_true(run_figures_number(&f, "unique_01") == 93.5 && isnan(run_figures_number(&f, "refused")));
    assert_true(age > -60 && age < 600);
    assert_int_equal(metrics_tail_read("/nonexistent", &f, &age, &r->e), ERR_NOT_FOUND);
    write_metrics(r, "{\"ste", 5, path);
    assert_int_equal(metrics_tail_read(path, &f, &age, &r->e), 0); /* the first line is still being written */
    write_metrics(r, "garbage\n[]\n", 11, path);
    assert_int_equal(metrics_tail_read(path, &f, &age, &r->e), ERR_FORMAT);
}

static void test_tail_of_a_long_file(void **state)
{
    struct rig *r = *state;
    struct run_figures f;
    char path[160], *text = malloc(100000);
    size_t size = 0;
    double age;
    assert_non_null(text);
    for (int step = 0; size < 90000; step++)
        size += (size_t)sprintf(text + size, step ? "{\"step\":%d}\n" : "{\"step\":%d,\"old\":1}\n", step);
    write_metrics(r, text, size, path);
    assert_int_equal(metrics_tail_read(path, &f, &age, &r->e), 0);
    assert_int_equal(f.count, 1);
    assert_true(run_figures_number(&f, "step") > 5000);
    free(text);
}

static void test_nothing_known(void **state)
{
    (void)state;
    struct top_state *t = new_state();
    struct top_screen *s = draw(t, 0, 0, false);
    assert_shows(s, "run 'mine'");
    assert_shows(s, "step -");
    assert_shows(s, "nobody");
    assert_shows(s, "none yet");
    assert_true(top_total_steps(t) == 0);
    free(s);
    free(t);
}

static void test_figures(void **state)
{
    (void)state;
    struct top_state *t = new_state();
    t->epochs = 10;
    t->components = 1024;
    t->parameter_age_s = 0.2;
    run_figures_set(&t->parameter, "step", "300");
    run_figures_set(&t->parameter, "epoch", "1.25");
    run_figures_set(&t->parameter, "step_ms", "100");
    run_figures_set(&t->prototype, "step", "299");
    run_figures_set(&t->prototype, "usage_perplexity", "823.5");
    assert_true(top_total_steps(t) == 2400);
    struct top_screen *s = draw(t, 0, 0, false);
    assert_shows(s, "step 300/2400  epoch 1.25/10  [###.....................] 12.5 %  3m30s left");
    assert_shows(s, "perplexity 823.5 of 1024");
    assert_shows(s, "(consistency -, entropy -)");
    free(s);
    run_figures_set(&t->parameter, "coding_rate", "3.25");
    run_figures_set(&t->parameter, "feature_rate", "1.5");
    s = draw(t, 0, 0, false);
    assert_shows(s, "(consistency -, entropy -, coding rate 3.2500, feature rate 1.5000)");
    free(s);
    run_figures_set(&t->mirror, "total_steps", "2345"); /* who knows it wins over who computes it */
    assert_true(top_total_steps(t) == 2345);
    free(t);
}

static void test_edges(void **state)
{
    (void)state;
    struct top_state *t = new_state();
    t->live = true;
    for (t->worker_count = 0; t->worker_count < 20; t->worker_count++) {
        struct top_worker *w = &t->workers[t->worker_count];
        snprintf(w->id, sizeof w->id, "%016zx", t->worker_count);
        w->images_per_s = w->slots = w->step = w->behind = w->silent_s = t->worker_count ? 1 : NAN;
    }
    struct top_screen *s = draw(t, 40, 20, false);
    assert_int_equal(s->count, 20);
    assert_shows(s, "and 13 more");
    for (int i = 0; i < s->count; i++)
        assert_true(strlen(s->lines[i]) <= 40);
    free(s);
    snprintf(t->trouble, sizeof t->trouble, "runs/x/config.ini: Permission denied");
    s = draw(t, 0, 0, false);
    assert_shows(s, "runs/x/config.ini: Permission denied");
    assert_shows(s, "0000000000000013");
    free(s);
    s = draw(t, 3, 1, true); /* colours take no columns, and are ended */
    assert_int_equal(s->count, 1);
    assert_string_equal(s->lines[0], "\033[1mdec\033[0m");
    free(s);
    free(t);
}

/* Only of a run that is evaluated as it goes on. */
static void test_evaluation(void **state)
{
    struct top_state *t = new_state();
    struct top_screen *s = draw(t, 0, 0, false);
    (void)state;
    for (int i = 0; i < s->count; i++)
        assert_null(strstr(s->lines[i], "k-NN"));
    free(s);
    run_figures_set(&t->evaluation, "step", "200");
    run_figures_set(&t->evaluation, "knn", "71.23");
    run_figures_set(&t->evaluation, "best", "72.5");
    run_figures_set(&t->evaluation, "best_step", "100");
    s = draw(t, 0, 0, false);
    assert_shows(s, "71.2 at step 200  best 72.5 at step 100");
    free(s);
    free(t);
}

int main(void)
{
#define CASE(f) cmocka_unit_test_setup_teardown(f, rig_setup, rig_teardown)
    const struct CMUnitTest tests[] = {
        CASE(test_tail),
        CASE(test_tail_of_a_long_file),
        cmocka_unit_test(test_nothing_known),
        cmocka_unit_test(test_figures),
        cmocka_unit_test(test_edges),
        cmocka_unit_test(test_evaluation),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
