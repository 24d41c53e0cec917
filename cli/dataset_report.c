/* Counting and formatting. */
#include "cli/dataset_report.h"

#include <inttypes.h>
#include <jansson.h>
#include <limits.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "cli/json_print.h"
#include "cli/printable.h"
#include "common/path_list.h"

enum { CLASSES_PRINTED = 40, PROBLEMS_PRINTED = 20 }; /* --json has them all, as far as they were kept */

int dataset_report_make(const struct dataset_options *o, struct dataset_report *out, struct error *e)
{
    *out = (struct dataset_report){.options = *o};
    int rc = dataset_load(o, DATASET_TRAIN, &out->train, e);
    if (rc != 0)
        return rc;
    rc = dataset_measure(&out->train, &out->moments, e);
    if (rc == 0) {
        rc = dataset_load(o, DATASET_TEST, &out->test, &out->test_missing);
        if (rc == 0 || rc == ERR_NOT_FOUND)
            return 0;
        *e = out->test_missing;
    }
    dataset_report_fini(out);
    return rc;
}

void dataset_report_fini(struct dataset_report *r)
{
    dataset_fini(&r->train);
    dataset_fini(&r->test);
}

uint32_t dataset_report_problems(const struct dataset_report *r)
{
    return r->train.problem_count + r->test.problem_count;
}

static uint64_t bytes_of(const struct dataset *d)
{
    return (uint64_t)d->count * d->height * d->width * d->channels + (d->labels ? d->count * sizeof *d->labels : 0);
}

/* counts (classes), zeroed by the caller. */
static void count_labels(const struct dataset *d, uint32_t *counts, uint32_t classes)
{
    for (uint32_t i = 0; d->labels && i < d->count; i++)
        if (d->labels[i] < classes)
            counts[d->labels[i]]++;
}

static void name_of(const struct dataset *d, uint32_t class, char out[64])
{
    if (d->class_names)
        snprintf(out, 64, "%.63s", d->class_names[class]);
    else
        snprintf(out, 64, "%" PRIu32, class);
    for (char *p = out; *p; p++) /* a folder's name may hold what a terminal obeys */
        *p = (unsigned char)*p < ' ' || *p == 127 ? '?' : *p;
}

static uint32_t classes_of(const struct dataset_report *r)
{
    return r->train.classes > r->test.classes ? r->train.classes : r->test.classes;
}

/* (2, classes): counts of the training images, then of the test images. NULL when out of memory. */
static uint32_t *class_counts(const struct dataset_report *r)
{
    uint32_t classes = classes_of(r), *counts = calloc(2 * (size_t)classes + 1, sizeof *counts);
    if (counts) {
        count_labels(&r->train, counts, classes);
        count_labels(&r->test, counts + classes, classes);
    }
    return counts;
}

static void print_classes(const struct dataset_report *r, FILE *f)
{
    uint32_t classes = classes_of(r), *counts = class_counts(r);
    if (!counts || classes == 0) {
        free(counts);
        return;
    }
    fprintf(f, "  %-30s %10s %10s\n", "class", "training", "test");
    for (uint32_t c = 0; c < classes && c < CLASSES_PRINTED; c++) {
        char name[64];
        name_of(&r->train, c, name);
        fprintf(f, "  %-*s %10" PRIu32 " %10" PRIu32 "\n", printable_width(name, 30), name, counts[c],
                counts[classes + c]);
    }
    if (classes > CLASSES_PRINTED)
        fprintf(f, "  and %" PRIu32 " more classes (--json lists them)\n", classes - CLASSES_PRINTED);
    free(counts);
}

static void print_problems(const struct dataset_report *r, FILE *f)
{
    const struct dataset *splits[] = {&r->train, &r->test};
    uint32_t total = dataset_report_problems(r), printed = 0;
    if (total == 0)
        return;
    fprintf(f, "problems: %" PRIu32, total);
    if (r->train.skipped + r->test.skipped > 0)
        fprintf(f, ", %" PRIu32 " images left out", r->train.skipped + r->test.skipped);
    fprintf(f, "\n");
    for (int s = 0; s < 2; s++)
        for (uint32_t i = 0; i < splits[s]->problem_count && i < DATASET_PROBLEMS_MAX && printed < PROBLEMS_PRINTED;
             i++)
            if (splits[s]->problems[i] && ++printed)
                fprintf(f, "  %s\n", splits[s]->problems[i]);
    if (printed < total)
        fprintf(f, "  and %" PRIu32 " more\n", total - printed);
}

enum { HELD_NOTE_MAX = 256 };

/* Every n-th image of an array is held out, whatever its class: labels that go round in step leave classes without
 * any. False when none is. */
static bool note_classes_without(const struct dataset_report *r, char out[HELD_NOTE_MAX])
{
    uint32_t classes = classes_of(r), without = 0, *counts = class_counts(r);
    for (uint32_t c = 0; counts && r->test.holdout > 0 && c < classes; c++)
        without += counts[c] >= r->test.holdout && counts[classes + c] == 0;
    free(counts);
    if (without == 0)
        return false;
    snprintf(out, HELD_NOTE_MAX,
             "%" PRIu32 " of %" PRIu32 " classes have none of the held-out images, since every %" PRIu32
             "th is one: shuffle the array, or give it test images",
             without, classes, r->test.holdout);
    return true;
}

static void print_notes(const struct dataset_report *r, FILE *f)
{
    char held[HELD_NOTE_MAX];
    const struct dataset *splits[] = {&r->train, &r->test};
    for (int s = 0; s < 2; s++)
        for (uint32_t i = 0; i < splits[s]->note_count; i++)
            fprintf(f, "  note: %s\n", splits[s]->notes[i]);
    if (note_classes_without(r, held))
        fprintf(f, "  note: %s\n", held);
}

static void print_test(const struct dataset_report *r, FILE *f)
{
    if (r->test_missing.code != 0)
        fprintf(f, "  %-18s none: %s\n", "test images", r->test_missing.text);
    else if (r->test.holdout > 0)
        fprintf(
            f, "  %-18s %" PRIu32 ", held out: every %" PRIu32 "th (data.holdout), since there are none of their own\n",
            "test images", r->test.count, r->test.holdout);
    else
        fprintf(f, "  %-18s %" PRIu32 "\n", "test images", r->test.count);
}

/* Whether a line of a configuration gives the path back. */
static bool fits_a_line(const char *path)
{
    char text[sizeof((struct run_config *)0)->data.path + 32];
    struct run_config c;
    struct error e;
    snprintf(text, sizeof text, "[data]\npath = %s\n", path);
    return run_config_from_record(&c, text, strlen(text), "data.path", &e) == 0 && strcmp(c.data.path, path) == 0;
}

/* Absolute, so that the configuration may lie anywhere. */
static void print_path(const char *list, FILE *f)
{
    char path[PATH_MAX], absolute[PATH_MAX], full[sizeof((struct run_config *)0)->data.path] = "";
    bool fits = true;
    for (const char *rest = list; rest != NULL && fits;) {
        rest = path_list_next(rest, path, sizeof path);
        fits = path_list_append(full, sizeof full, realpath(path, absolute) ? absolute : path);
    }
    if (fits && fits_a_line(full))
        fprintf(f, "path = %s\n", full);
    else
        fprintf(f,
                "# path is too long for a line, or has signs that one cannot hold: give it by --set data.path=...\n");
}

/* In the words of the table of keys. */
static void print_background(enum data_background background, FILE *f)
{
    const struct run_config c = {.data.background = background};
    char value[32];
    for (size_t i = 0; i < run_config_key_count; i++)
        if (strcmp(run_config_keys[i].name, "data.background") == 0) {
            config_value(&run_config_keys[i], &c, value, sizeof value);
            fprintf(f, "background = %s\n", value);
        }
}

/* One value for each channel. One that is constant, so that there is nothing to divide by, has the deviation of all. */
static void print_moments(const struct dataset_report *r, FILE *f)
{
    const struct dataset_moments *m = &r->moments;
    for (uint32_t c = 0; c < r->train.channels; c++)
        fprintf(f, "%s%.4f", c == 0 ? "mean = " : ",", m->channel_mean[c]);
    for (uint32_t c = 0; c < r->train.channels; c++) {
        double deviation = m->channel_deviation[c] > 0 ? m->channel_deviation[c] : m->deviation;
        fprintf(f, "%s", c == 0 ? "\ndeviation = " : ",");
        fprintf(f, deviation < 0.01 ? "%.3g" : "%.4f", fmax(deviation, 1e-6));
    }
    fputc('\n', f);
}

static json_t *channels_json(const double *values, uint32_t channels)
{
    json_t *array = json_array();
    for (uint32_t c = 0; c < channels; c++)
        json_array_append_new(array, json_real(values[c]));
    return array;
}

/* A configuration that gives the same images, with their mean and deviation. */
static void print_section(const struct dataset_report *r, FILE *f)
{
    const struct dataset_options *o = &r->options;
    if (r->moments.deviation <= 0) /* one value throughout, which is a problem: nothing to divide by */
        return;
    fprintf(f, "\n[data]\n");
    print_path(o->path, f);
    if (o->limit > 0)
        fprintf(f, "limit = %" PRIu32 "\n", o->limit);
    fprintf(f, "side = %" PRIu32 "\nchannels = %" PRIu32 "\n", o->side, o->channels);
    if (o->background != BACKGROUND_AUTO)
        print_background(o->background, f);
    fprintf(f, "holdout = %" PRIu32 "\n", o->holdout);
    print_moments(r, f);
}

void dataset_report_print(const struct dataset_report *r, FILE *f)
{
    const struct dataset *d = &r->train;
    const struct dataset_sizes *s = &d->sizes;
    fprintf(f, "%s: %s\n", r->options.path, d->format);
    fprintf(f, "  %-18s %" PRIu32 "%s\n", "training images", d->count, d->labels ? "" : ", without labels");
    print_test(r, f);
    fprintf(f,
            "  %-18s %" PRIu32 "x%" PRIu32 " (height x width), %" PRIu32 " channels; in the files %" PRIu32 "..%" PRIu32
            " x %" PRIu32 "..%" PRIu32 "\n",
            "size", d->height, d->width, d->channels, s->height_min, s->height_max, s->width_min, s->width_max);
    fprintf(f, "  %-18s %.1f MiB in each worker, %.1f MiB in an evaluation\n", "memory",
            (double)bytes_of(d) / (1 << 20), (double)(bytes_of(d) + bytes_of(&r->test)) / (1 << 20));
    fprintf(f, "  %-18s %014" PRIx64 "\n", "fingerprint", dataset_fingerprint(d));
    print_classes(r, f);
    print_notes(r, f);
    print_problems(r, f);
    print_section(r, f);
}

static json_t *classes_json(const struct dataset_report *r)
{
    uint32_t classes = classes_of(r), *counts = class_counts(r);
    json_t *array = json_array();
    for (uint32_t c = 0; counts && c < classes; c++) {
        char name[64];
        name_of(&r->train, c, name);
        json_array_append_new(array, json_pack("{s:o, s:I, s:I}", "name", json_print_text(name), "train",
                                               (json_int_t)counts[c], "test", (json_int_t)counts[classes + c]));
    }
    free(counts);
    return array;
}

static json_t *split_json(const struct dataset *d, bool test)
{
    return json_pack("{s:I, s:b, s:b, s:I, s:I}", "images", (json_int_t)d->count, "labelled", d->labels != NULL,
                     "held_out", test && d->holdout > 0, "skipped", (json_int_t)d->skipped, "bytes",
                     (json_int_t)bytes_of(d));
}

static json_t *problems_json(const struct dataset_report *r)
{
    const struct dataset *splits[] = {&r->train, &r->test};
    json_t *array = json_array();
    for (int s = 0; s < 2; s++)
        for (uint32_t i = 0; i < splits[s]->problem_count && i < DATASET_PROBLEMS_MAX; i++)
            if (splits[s]->problems[i])
                json_array_append_new(array, json_print_text(splits[s]->problems[i]));
    return array;
}

static json_t *notes_json(const struct dataset_report *r)
{
    const struct dataset *splits[] = {&r->train, &r->test};
    json_t *array = json_array();
    char held[HELD_NOTE_MAX];
    for (int s = 0; s < 2; s++)
        for (uint32_t i = 0; i < splits[s]->note_count; i++)
            json_array_append_new(array, json_print_text(splits[s]->notes[i]));
    if (note_classes_without(r, held))
        json_array_append_new(array, json_print_text(held));
    return array;
}

static json_t *sizes_json(const struct dataset_sizes *s)
{
    return json_pack("{s:I, s:I, s:I, s:I}", "height_min", (json_int_t)s->height_min, "height_max",
                     (json_int_t)s->height_max, "width_min", (json_int_t)s->width_min, "width_max",
                     (json_int_t)s->width_max);
}

int dataset_report_print_json(const struct dataset_report *r, FILE *f)
{
    const struct dataset *d = &r->train;
    char fingerprint[17];
    snprintf(fingerprint, sizeof fingerprint, "%014" PRIx64, dataset_fingerprint(d));
    json_t *o =
        json_pack("{s:o, s:s, s:I, s:I, s:I, s:f, s:f, s:s, s:I}", "path", json_print_text(r->options.path), "format",
                  d->format, "height", (json_int_t)d->height, "width", (json_int_t)d->width, "channels",
                  (json_int_t)d->channels, "mean", r->moments.mean, "deviation", r->moments.deviation, "fingerprint",
                  fingerprint, "problem_count", (json_int_t)dataset_report_problems(r));
    json_object_set_new(o, "channel_mean", channels_json(r->moments.channel_mean, d->channels));
    json_object_set_new(o, "channel_deviation", channels_json(r->moments.channel_deviation, d->channels));
    json_object_set_new(o, "files", sizes_json(&d->sizes));
    json_object_set_new(o, "train", split_json(d, false));
    json_object_set_new(o, "test", r->test_missing.code == 0 ? split_json(&r->test, true) : json_null());
    if (r->test_missing.code != 0)
        json_object_set_new(o, "test_missing", json_print_text(r->test_missing.text));
    json_object_set_new(o, "classes", classes_json(r));
    json_object_set_new(o, "problems", problems_json(r));
    json_object_set_new(o, "notes", notes_json(r));
    return json_print(o, f);
}
