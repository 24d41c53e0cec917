/* What the dashboard reads: files that grow, are cut and hold anything; a bounded history; events; a run's
 * directory. */
#include <math.h>
#include "cli/dashboard_json.h"
#include "tests/unit/cli/checkpoint_rig.h"

/* ---- lines ---- */

struct taken {
    char text[256];
    size_t longest;
};

static void take(void *arg, const char *line, size_t length)
{
    struct taken *t = arg;
    size_t used = strlen(t->text);
    t->longest = length > t->longest ? length : t->longest;
    snprintf(t->text + used, sizeof t->text - used, "%.*s|", (int)(length > 20 ? 20 : length), line);
}

static void append(const char *path, const char *mode, const char *text)
{
    FILE *f = fopen(path, mode);
    assert_non_null(f);
    fputs(text, f);
    assert_int_equal(fclose(f), 0);
}

static void test_lines_as_they_come(void **state)
{
    const struct rig *r = *state;
    struct dashboard_lines l = {0};
    struct taken t = {0};
    char path[128];
    snprintf(path, sizeof path, "%s/log", r->root);
    assert_int_equal(dashboard_lines_read(&l, path, 0, take, &t), 0);
    append(path, "w", "one\ntwo\nthr");
    assert_int_equal(dashboard_lines_read(&l, path, 0, take, &t), 2);
    append(path, "a", "ee\n");
    assert_int_equal(dashboard_lines_read(&l, path, 0, take, &t), 1);
    assert_int_equal(dashboard_lines_read(&l, path, 0, take, &t), 0);
    assert_string_equal(t.text, "one|two|three|");
    append(path, "w", "new\n"); /* cut, then shorter */
    dashboard_lines_read(&l, path, 0, take, &t);
    assert_string_equal(t.text, "one|two|three|new|");
    assert_int_equal(l.restarts, 1);
}

static void test_a_line_without_end(void **state)
{
    const struct rig *r = *state;
    struct dashboard_lines l = {0};
    struct taken t = {0};
    char path[128], *endless = malloc(200001);
    assert_non_null(endless);
    memset(endless, 'x', 200000);
    endless[200000] = '\0';
    snprintf(path, sizeof path, "%s/log", r->root);
    append(path, "w", endless);
    append(path, "a", "\nafter\n");
    dashboard_lines_read(&l, path, 0, take, &t);
    assert_true(t.longest <= LINES_BYTES && strstr(t.text, "|after|") != NULL);
    free(endless);
    assert_int_equal(dashboard_lines_read(&(struct dashboard_lines){0}, "/dev/zero", 0, take, &t), 0);
    assert_int_equal(dashboard_lines_read(&(struct dashboard_lines){0}, r->root, 0, take, &t), 0);
}

/* ---- history ---- */

static struct dashboard_history *new_history(void)
{
    struct dashboard_history *h = malloc(sizeof *h);
    assert_non_null(h);
    dashboard_history_init(h, history_of_prototype, HISTORY_PROTOTYPE_COLUMNS);
    return h;
}

static void add_line(struct dashboard_history *h, const char *line)
{
    dashboard_history_line(h, line, strlen(line));
}

static void test_history_merges_and_forgives(void **state)
{
    struct dashboard_history *h = new_history();
    (void)state;
    add_line(h, "{\"step\":5,\"loglik\":1.5}");
    add_line(h, "{\"step\":5,\"unique_01\":99,\"loglik\":null}");
    add_line(h, "no JSON");
    add_line(h, "[1,2]");
    add_line(h, "{\"step\":\"7\"}");
    add_line(h, "{\"active\":3}");
    add_line(h, "");
    assert_int_equal(h->count, 1);
    assert_true(dashboard_history_last(h, "loglik") == 1.5 && dashboard_history_last(h, "unique_01") == 99);
    assert_true(isnan(dashboard_history_last(h, "active")) && isnan(dashboard_history_max(h, "active")));
    free(h);
}

static void test_history_is_bounded(void **state)
{
    struct dashboard_history *h = new_history();
    char line[96];
    (void)state;
    for (int step = 1; step <= 100000; step++) {
        snprintf(line, sizeof line, "{\"step\":%d,\"unique_01\":%g}", step, 100 - step / 2000.0);
        add_line(h, line);
    }
    assert_true(h->count > HISTORY_ROWS / 4 && h->count <= HISTORY_ROWS);
    assert_true(h->rows[0].step <= 1000 && h->rows[h->count - 1].step == 100000);
    assert_true(dashboard_history_last(h, "unique_01") == 50);
    for (size_t i = 1; i < h->count; i++)
        assert_true(h->rows[i].step > h->rows[i - 1].step);
    free(h);
}

static void test_history_goes_back(void **state)
{
    struct dashboard_history *h = new_history();
    (void)state;
    for (int step = 10; step <= 50; step += 10) {
        char line[64];
        snprintf(line, sizeof line, "{\"step\":%d,\"active\":%d}", step, step);
        add_line(h, line);
    }
    add_line(h, "{\"step\":30,\"active\":1}");
    assert_int_equal(h->rewinds, 1);
    assert_int_equal(h->count, 3);
    assert_true(dashboard_history_last(h, "active") == 1 && dashboard_history_max(h, "active") == 20);
    free(h);
}

/* ---- events ---- */

static void test_events(void **state)
{
    struct dashboard_events l = {.count = 0};
    (void)state;
    static const char *const lines[] = {
        "2026-01-01T10:00:00.000Z info prototype event=checkpoint step=100",
        "2026-01-01T09:59:59.000Z info parameter event=checkpoint step=50",
        "2026-01-01T10:00:01.000Z info parameter event=step step=5 loss=6",
        "2026-01-01T10:00:02.000Z warn parameter event=refused worker=\"<script>\" \033[2J",
        "1:M 26 Nov 2026 15:32:05.819 * Running mode=standalone",
        "event=x",
        "",
    };
    for (size_t i = 0; i < sizeof lines / sizeof lines[0]; i++)
        dashboard_events_log(&l, lines[i], strlen(lines[i]));
    assert_int_equal(l.count, 3);
    assert_string_equal(dashboard_events_at(&l, 0)->text, "refused worker=\"<script>\" ?[2J");
    assert_string_equal(dashboard_events_at(&l, 0)->level, "warn");
    assert_string_equal(dashboard_events_at(&l, 1)->text, "checkpoint step=100");
    assert_string_equal(dashboard_events_at(&l, 2)->text, "checkpoint step=50"); /* by time, not as it came */
    for (int i = 0; i < 2 * EVENTS_MAX; i++)
        dashboard_events_add(&l, "info", "run", "number %d", i);
    assert_int_equal(l.count, EVENTS_MAX);
    assert_string_equal(dashboard_events_at(&l, 0)->text, "number 95");
    assert_string_equal(dashboard_events_at(&l, EVENTS_MAX - 1)->text, "number 48");
}

/* ---- a run ---- */

static struct dashboard_run *open_run(const char *directory)
{
    struct dashboard_run *r = malloc(sizeof *r);
    assert_non_null(r);
    assert_int_equal(dashboard_run_open(&(struct source_options){.directory = directory}, r, NULL), 0);
    return r;
}

static void close_run(struct dashboard_run *r)
{
    dashboard_run_close(r);
    free(r);
}

static void write_run_file(const struct rig *rig, const char *name, const char *text)
{
    char path[160];
    snprintf(path, sizeof path, "%s/run/%s", rig->root, name);
    append(path, "w", text);
}

static void directory_of_run(const struct rig *rig, char directory[128])
{
    snprintf(directory, 128, "%s/run", rig->root);
    assert_int_equal(dir_make(directory, NULL), 0);
}

static void test_run_that_begins(void **state)
{
    const struct rig *rig = *state;
    char directory[128];
    snprintf(directory, sizeof directory, "%s/run", rig->root);
    struct dashboard_run *r = open_run(directory);
    dashboard_run_look(r);
    assert_true(!r->facts.begun && r->shape.K == 0);
    rig_encoder(rig, "run", 8, RIG_INI, 3);
    rig_mixture(rig, "run", 8, 1);
    write_run_file(rig, "checkpoints/latest", "step-000008\n");
    write_run_file(rig, "config.ini", RIG_INI);
    write_run_file(rig, "generation-parameter", "2\n");
    write_run_file(rig, "metrics-parameter.jsonl", "{\"step\":8,\"loss\":1.25}\n");
    write_run_file(rig, "metrics-prototype.jsonl", "{\"step\":8,\"unique_01\":75,\"reseeded\":0}\n");
    write_run_file(rig, "metrics-eval.jsonl", "{\"step\":8,\"knn\":71.5,\"best\":72,\"best_step\":4}\n");
    dashboard_run_look(r);
    assert_true(dashboard_history_last(&r->evaluation, "knn") == 71.5);
    assert_true(r->facts.begun && !r->facts.live && r->facts.step == 8 && r->facts.loss == 1.25);
    assert_true(r->facts.unique_01 == 75 && r->facts.K == RIG_K && r->generation[0] == 2);
    assert_true(r->shape.K == RIG_K && r->shape.step == 8 && r->shape.usage != NULL && !r->facts.joint);
    assert_int_equal(r->events.count, 0);
    write_run_file(rig, "generation-parameter", "3\n");
    write_run_file(rig, "metrics-prototype.jsonl",
                   "{\"step\":8,\"unique_01\":75,\"reseeded\":0}\n{\"step\":9,\"reseeded\":4}\n");
    dashboard_run_look(r);
    assert_int_equal(r->events.count, 1); /* re-seeding is gathered up for a while */
    assert_non_null(strstr(dashboard_events_at(&r->events, 0)->text, "generation 3"));
    r->reseeded_due_ms = 1;
    dashboard_run_look(r);
    assert_int_equal(r->events.count, 2);
    assert_non_null(strstr(dashboard_events_at(&r->events, 0)->text, "4 prototypes moved"));
    close_run(r);
}

/* What k-means++ has done by the first look is no news, and neither is it told twice. */
static void check_seeding(const struct rig *rig, const char *before, const char *then, uint32_t events)
{
    char directory[128];
    directory_of_run(rig, directory);
    rig_encoder(rig, "run", 8, RIG_INI, 3);
    rig_mixture(rig, "run", 8, 1);
    write_run_file(rig, "checkpoints/latest", "step-000008\n");
    write_run_file(rig, "config.ini", RIG_INI);
    write_run_file(rig, "metrics-prototype.jsonl", before);
    struct dashboard_run *r = open_run(directory);
    dashboard_run_look(r);
    assert_int_equal(r->events.count, 0);
    write_run_file(rig, "metrics-prototype.jsonl", then);
    dashboard_run_look(r);
    dashboard_run_look(r);
    assert_int_equal(r->events.count, events);
    if (events > 0)
        assert_non_null(strstr(dashboard_events_at(&r->events, 0)->text, "k-means++"));
    close_run(r);
}

static void test_seeding_is_told_once(void **state)
{
    check_seeding(*state, "{\"step\":1,\"seeding\":0}\n", "{\"step\":1,\"seeding\":0}\n{\"step\":2,\"seeding\":100}\n",
                  1);
    check_seeding(*state, "{\"step\":1,\"seeding\":100}\n",
                  "{\"step\":1,\"seeding\":100}\n{\"step\":2,\"seeding\":100}\n", 0);
    check_seeding(*state, "", "{\"step\":2,\"seeding\":100}\n", 1); /* done before the first figures */
    check_seeding(*state, "{\"step\":1}\n", "{\"step\":1}\n{\"step\":2}\n", 0);
}

/* Something that cannot be read in each place in turn; a directory is none of the files. */
static void test_what_cannot_be_read_is_not_absent(void **state)
{
    static const char *const names[] = {"config.ini", "metrics-parameter.jsonl", "metrics-prototype.jsonl",
                                        "checkpoints/latest"};
    const struct words none = {.count = 0};
    const struct rig *rig = *state;
    char directory[128], path[256];
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        snprintf(directory, sizeof directory, "%s/odd%zu", rig->root, i);
        snprintf(path, sizeof path, "%s/%s", directory, names[i]);
        assert_int_equal(dir_make(path, NULL), 0);
        struct dashboard_run *r = open_run(directory);
        dashboard_run_look(r);
        assert_false(r->facts.begun);
        assert_non_null(strstr(r->facts.trouble, names[i]));
        json_t *object = dashboard_state_json(r, &none);
        assert_string_equal(json_string_value(json_object_get(object, "source")), "unreadable");
        json_decref(object);
        close_run(r);
    }
    directory_of_run(rig, directory);
    write_run_file(rig, "config.ini", "[run]\nslots = many\n");
    struct dashboard_run *r = open_run(directory);
    dashboard_run_look(r);
    assert_true(!r->facts.begun && strstr(r->facts.trouble, "run.slots") != NULL);
    close_run(r);
}

/* Each time is counted once, whoever died, and also when no line shows it. */
static void test_rewinds_are_counted(void **state)
{
    const struct rig *rig = *state;
    char directory[128];
    directory_of_run(rig, directory);
    struct dashboard_run *r = open_run(directory);
    /* The prototype server dies; then the parameter server, just after a checkpoint, so that no step comes again. */
    write_run_file(rig, "metrics-parameter.jsonl",
                   "{\"step\":10}\n{\"step\":20}\n{\"step\":15,\"rewinds\":1}\n{\"step\":20,\"rewinds\":1}\n"
                   "{\"step\":30}\n");
    write_run_file(rig, "metrics-prototype.jsonl",
                   "{\"step\":10}\n{\"step\":20}\n{\"step\":15}\n{\"step\":20}\n{\"step\":30,\"rewinds\":1}\n");
    dashboard_run_look(r);
    assert_true(r->facts.rewinds == 2);
    close_run(r);
    /* Both die with the machine, twice: nobody tells, both files show it. */
    static const char twice[] = "{\"step\":10}\n{\"step\":20}\n{\"step\":10}\n{\"step\":20}\n{\"step\":10}\n";
    write_run_file(rig, "metrics-parameter.jsonl", twice);
    write_run_file(rig, "metrics-prototype.jsonl", twice);
    r = open_run(directory);
    dashboard_run_look(r);
    assert_true(r->facts.rewinds == 2);
    close_run(r);
}

/* A joint run has no metrics of its prototypes: all its checkpoints make the history. */
static void test_joint_run(void **state)
{
    const struct rig *rig = *state;
    char directory[128];
    snprintf(directory, sizeof directory, "%s/run", rig->root);
    for (int step = 8; step <= 24; step += 8)
        rig_encoder(rig, "run", step, RIG_INI_JOINT, 3);
    write_run_file(rig, "checkpoints/latest", "step-000024\n");
    rig_damage(rig, "run", 16, "encoder.safetensors");
    struct dashboard_run *r = open_run(directory);
    dashboard_run_catch_up(r);
    assert_true(r->facts.joint && r->shape.step == 24 && r->shape.usage == NULL);
    assert_int_equal(r->prototype.count, 2);
    assert_true(r->prototype.rows[0].step == 8 && r->facts.unique_01 == 100);
    close_run(r);
}

/* A stranger's text passes through JSON as text, and what is no UTF-8 does not break it. */
static void test_json(void **state)
{
    const struct words none = {.count = 0};
    const struct rig *rig = *state;
    struct dashboard_run *r = open_run(rig->root);
    dashboard_run_look(r);
    snprintf(r->state.run, sizeof r->state.run, "</script>\xff\"");
    dashboard_events_add(&r->events, "warn", "run", "<img src=x onerror=alert(1)>");
    json_t *object = dashboard_state_json(r, &none);
    assert_non_null(object);
    assert_string_equal(json_string_value(json_object_get(object, "run")), "</script>?\"");
    assert_string_equal(json_string_value(json_object_get(object, "source")), "nothing");
    assert_int_equal(json_array_size(json_object_get(object, "words")), 1);
    json_decref(object);
    object = dashboard_shape_json(r);
    assert_int_equal(json_array_size(json_object_get(object, "dots")), 0);
    json_decref(object);
    object = dashboard_history_json(r);
    assert_int_equal(json_array_size(json_object_get(json_object_get(object, "parameter"), "step")), 0);
    json_decref(object);
    close_run(r);
}

#define RIG_TEST(f) cmocka_unit_test_setup_teardown(f, rig_setup, rig_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        RIG_TEST(test_lines_as_they_come),
        RIG_TEST(test_a_line_without_end),
        cmocka_unit_test(test_history_merges_and_forgives),
        cmocka_unit_test(test_history_is_bounded),
        cmocka_unit_test(test_history_goes_back),
        cmocka_unit_test(test_events),
        RIG_TEST(test_run_that_begins),
        RIG_TEST(test_seeding_is_told_once),
        RIG_TEST(test_what_cannot_be_read_is_not_absent),
        RIG_TEST(test_rewinds_are_counted),
        RIG_TEST(test_joint_run),
        RIG_TEST(test_json),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
