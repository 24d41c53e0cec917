/* Printing of comparisons and checks. */
#include "cli/verify_report.h"

#include <inttypes.h>
#include <string.h>
#include "cli/step_file.h"

static const char side_name[2] = {'A', 'B'};

enum { FINGERPRINT_TEXT = 24 };

/* ---- comparison, for people ---- */

static void print_keys(const struct step_comparison *c, FILE *f)
{
    if (c->configuration_error.code != 0)
        fprintf(f, "configuration  cannot be compared: %s\n", c->configuration_error.text);
    for (size_t i = 0; i < c->key_count; i++) {
        const struct key_difference *k = &c->keys[i];
        fprintf(f, "configuration  %s: A %s, B %s%s\n", k->name, k->value[0], k->value[1],
                k->shapes_result ? "" : " (no number depends on it)");
    }
}

static void print_step_text(uint64_t step, FILE *f)
{
    if (step == STEP_UNKNOWN)
        fputs("unknown", f);
    else
        fprintf(f, "%" PRIu64, step);
}

static void print_steps(const struct step_comparison *c, FILE *f)
{
    if (c->step[0] == c->step[1])
        return;
    fputs("step           A ", f);
    print_step_text(c->step[0], f);
    fputs(", B ", f);
    print_step_text(c->step[1], f);
    fputc('\n', f);
}

static void print_index(const struct file_comparison *file, FILE *f)
{
    fprintf(f, "[%" PRIu64, file->rank ? file->values.index[0] : 0);
    for (uint32_t d = 1; d < file->rank; d++)
        fprintf(f, ", %" PRIu64, file->values.index[d]);
    fprintf(f, "] (flat %" PRIu64 ")", file->values.first);
}

static void print_values(const struct file_comparison *file, FILE *f)
{
    const struct tensor_difference *v = &file->values;
    fprintf(f, "  first in file order: %s", file->first);
    print_index(file, f);
    fprintf(f, ": A %s, B %s, %" PRIu64 " ULP\n", v->a, v->b, v->ulp);
    fprintf(f, "  %" PRIu64 " of its %" PRIu64 " elements differ, by %" PRIu64 " ULP at most\n", v->differing,
            v->elements, v->ulp_max);
}

static void print_first(const struct file_comparison *file, FILE *f)
{
    switch (file->parting) {
    case TENSORS_EQUAL:
        break;
    case TENSOR_ONLY_IN_A:
    case TENSOR_ONLY_IN_B:
        fprintf(f, "  first: %s is only in %c\n", file->first, side_name[file->parting == TENSOR_ONLY_IN_B]);
        break;
    case TENSOR_SHAPES_DIFFER:
        fprintf(f, "  first: %s is %s in A, %s in B\n", file->first, file->shape[0], file->shape[1]);
        break;
    case TENSOR_VALUES_DIFFER:
        print_values(file, f);
        break;
    }
}

/* ---- what the runs were computed from and by ---- */

static const char *fingerprint_text(uint64_t f, char out[FINGERPRINT_TEXT])
{
    snprintf(out, FINGERPRINT_TEXT, f != 0 ? "%014" PRIx64 : "not known", f);
    return out;
}

static void print_parting(const char *name, uint64_t a, uint64_t b, const char *meaning, FILE *f)
{
    char text[2][FINGERPRINT_TEXT];
    if (a != b && a != 0 && b != 0)
        fprintf(f, "%-13s  A %s, B %s: %s\n", name, fingerprint_text(a, text[0]), fingerprint_text(b, text[1]),
                meaning);
}

static void print_history(const struct provenance *p, const char *who, FILE *f)
{
    char text[2][FINGERPRINT_TEXT];
    if (p->data_before != 0)
        fprintf(f, "%-13s  %s went on with other images at step %" PRIu64 ": %s, before %s (run.accept_data)\n", "data",
                who, p->data_since, fingerprint_text(p->data, text[0]), fingerprint_text(p->data_before, text[1]));
    if (p->numerics_other != 0)
        fprintf(f, "%-13s  %s had workers that round differently: %s and %s (run.numerics = any)\n", "numerics", who,
                fingerprint_text(p->numerics, text[0]), fingerprint_text(p->numerics_other, text[1]));
    if (p->server_other != 0)
        fprintf(f, "%-13s  %s had servers that round differently: %s, before %s (run.numerics = any)\n", "numerics",
                who, fingerprint_text(p->server_numerics, text[0]), fingerprint_text(p->server_other, text[1]));
}

/* Causes of bytes that differ under equal configurations. */
static void print_provenance(const struct step_comparison *c, FILE *f)
{
    const struct provenance *a = &c->files[0].provenance[0], *b = &c->files[0].provenance[1];
    const struct provenance *ma = &c->files[1].provenance[0], *mb = &c->files[1].provenance[1];
    static const char other_kind[] = "other kernels, BLAS or processor kind, so other bytes are to be expected";
    print_parting("data", a->data, b->data, "other images", f);
    print_parting("numerics", a->numerics, b->numerics, other_kind, f);
    print_parting("parameter", a->server_numerics, b->server_numerics, other_kind, f);
    print_parting("prototype", ma->server_numerics, mb->server_numerics, other_kind, f);
    print_history(a, "A", f);
    print_history(b, "B", f);
}

/* Missing or damaged on a side; false when both can be compared. */
static bool print_trouble(const struct file_comparison *file, FILE *f)
{
    bool trouble = false;
    for (unsigned side = 0; side < 2; side++) {
        if (file->state[side] == FILE_SOUND)
            continue;
        trouble = true;
        if (file->state[side] == FILE_ABSENT)
            fprintf(f, "%s  %c has none\n", file->name, side_name[side]);
        else
            fprintf(f, "%s  damaged in %c: %s\n", file->name, side_name[side], file->damage[side].text);
    }
    return trouble;
}

static void print_file(const struct file_comparison *file, FILE *f)
{
    if (file->identical) {
        bool none = file->state[0] == FILE_ABSENT;
        fprintf(f, "%s  %s\n", file->name, none ? "none, as the prototypes are parameters" : "identical");
        return;
    }
    if (print_trouble(file, f))
        return;
    if (file->differing > 0)
        fprintf(f, "%s  differs: %zu of %zu tensors\n", file->name, file->differing, file->tensors);
    else
        fprintf(f, "%s  every tensor is equal, but metadata '%s' is not\n", file->name, file->metadata);
    print_first(file, f);
}

void verify_print_comparison(const struct step_comparison *c, FILE *f)
{
    fprintf(f, "A  %s\nB  %s\n", c->directory[0], c->directory[1]);
    if (!c->identical) {
        print_keys(c, f);
        print_steps(c, f);
        print_provenance(c, f);
    }
    for (unsigned i = 0; i < COMPARED_FILES; i++)
        print_file(&c->files[i], f);
    fputs(c->identical ? "identical\n" : "different\n", f);
}

/* ---- comparison, as JSON ---- */

static json_t *keys_json(const struct step_comparison *c)
{
    json_t *list = json_array();
    for (size_t i = 0; i < c->key_count; i++)
        json_array_append_new(list, json_pack("{s:s, s:s, s:s, s:b}", "key", c->keys[i].name, "a", c->keys[i].value[0],
                                              "b", c->keys[i].value[1], "shapes_result", c->keys[i].shapes_result));
    return list;
}

static json_t *step_json(uint64_t step)
{
    return step == STEP_UNKNOWN ? json_null() : json_integer((json_int_t)step);
}

/* ULP counts may exceed what a JSON integer holds safely, when signs differ. */
static json_t *count_json(uint64_t count)
{
    return count <= INT64_MAX ? json_integer((json_int_t)count) : json_real((double)count);
}

static json_t *values_json(const struct file_comparison *file)
{
    const struct tensor_difference *v = &file->values;
    json_t *index = json_array();
    for (uint32_t d = 0; d < file->rank; d++)
        json_array_append_new(index, count_json(v->index[d]));
    return json_pack("{s:s, s:o, s:o, s:s, s:s, s:o, s:o, s:o, s:o}", "tensor", file->first, "flat",
                     count_json(v->first), "index", index, "a", v->a, "b", v->b, "ulp", count_json(v->ulp), "ulp_max",
                     count_json(v->ulp_max), "differing", count_json(v->differing), "elements",
                     count_json(v->elements));
}

static json_t *first_json(const struct file_comparison *file)
{
    switch (file->parting) {
    case TENSOR_ONLY_IN_A:
    case TENSOR_ONLY_IN_B:
        return json_pack("{s:s, s:s}", "tensor", file->first, "only_in", file->parting == TENSOR_ONLY_IN_A ? "a" : "b");
    case TENSOR_SHAPES_DIFFER:
        return json_pack("{s:s, s:s, s:s}", "tensor", file->first, "a", file->shape[0], "b", file->shape[1]);
    case TENSOR_VALUES_DIFFER:
        return values_json(file);
    case TENSORS_EQUAL:
        break;
    }
    return json_null();
}

static json_t *fingerprint_json(uint64_t f)
{
    char text[FINGERPRINT_TEXT];
    return f != 0 ? json_string(fingerprint_text(f, text)) : json_null();
}

static json_t *provenance_json(const struct provenance *p)
{
    json_t *o = json_pack("{s:o, s:o, s:o, s:o, s:o, s:o}", "data", fingerprint_json(p->data), "data_before",
                          fingerprint_json(p->data_before), "numerics", fingerprint_json(p->numerics), "numerics_other",
                          fingerprint_json(p->numerics_other), "server_numerics", fingerprint_json(p->server_numerics),
                          "server_other", fingerprint_json(p->server_other));
    if (p->data_before != 0)
        json_object_set_new(o, "data_since", json_integer((json_int_t)p->data_since));
    return o;
}

static json_t *file_json(const struct file_comparison *file)
{
    static const char *const states[] = {[FILE_ABSENT] = "absent", [FILE_DAMAGED] = "damaged", [FILE_SOUND] = "sound"};
    json_t *o = json_pack("{s:s, s:b, s:s, s:s, s:i, s:i, s:o}", "name", file->name, "identical", file->identical, "a",
                          states[file->state[0]], "b", states[file->state[1]], "tensors", (int)file->tensors,
                          "differing", (int)file->differing, "first", first_json(file));
    for (unsigned side = 0; side < 2; side++)
        if (file->state[side] == FILE_DAMAGED)
            json_object_set_new(o, side ? "damage_b" : "damage_a", json_string(file->damage[side].text));
    if (file->metadata[0])
        json_object_set_new(o, "metadata", json_string(file->metadata));
    if (!file->identical && file->state[0] == FILE_SOUND && file->state[1] == FILE_SOUND)
        json_object_set_new(
            o, "provenance",
            json_pack("[o, o]", provenance_json(&file->provenance[0]), provenance_json(&file->provenance[1])));
    return o;
}

json_t *verify_comparison_json(const struct step_comparison *c)
{
    json_t *files = json_array();
    for (unsigned i = 0; i < COMPARED_FILES; i++)
        json_array_append_new(files, file_json(&c->files[i]));
    return json_pack("{s:b, s:s, s:s, s:[o, o], s:o, s:o}", "identical", c->identical, "a", c->directory[0], "b",
                     c->directory[1], "step", step_json(c->step[0]), step_json(c->step[1]), "configuration",
                     keys_json(c), "files", files);
}

/* ---- checks ---- */

void verify_print_check(const struct step_entry *s, const struct step_check *c, FILE *f)
{
    fprintf(f, "%s  ", s->directory);
    if (c->problem_count == 0)
        fprintf(f, "ok%s\n", c->joint ? " (no mixture: the prototypes are parameters)" : "");
    print_history(&c->provenance, "the run", f);
    for (size_t i = 0; i < c->problem_count; i++)
        fprintf(f, "%s%s\n", i == 0 ? "NOT SOUND\n  " : "  ", c->problems[i].text);
}

json_t *verify_check_json(const struct step_entry *s, const struct step_check *c)
{
    json_t *problems = json_array();
    for (size_t i = 0; i < c->problem_count; i++)
        json_array_append_new(problems, json_string(c->problems[i].text));
    return json_pack("{s:s, s:o, s:b, s:b, s:o, s:o}", "directory", s->directory, "step", step_json(s->step), "joint",
                     c->joint, "sound", c->problem_count == 0, "problems", problems, "provenance",
                     provenance_json(&c->provenance));
}
