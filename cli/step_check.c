/* Every check runs whatever the others found, so that one look shows all. */
#include "cli/step_check.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include "common/files.h"
#include "common/vecmath.h"
#include "proto/run_dir.h"

static void problem(struct step_check *out, const char *file, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
static void problem(struct step_check *out, const char *file, const char *format, ...)
{
    if (out->problem_count == STEP_PROBLEMS_MAX)
        return;
    char text[400];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    error_set(&out->problems[out->problem_count++], ERR_FORMAT, "%s: %s", file, text);
}

static bool all_finite(const struct tensor_view *t)
{
    size_t n = t->size / dtype_size(t->dtype);
    if (t->dtype == DTYPE_F32)
        return vec_all_finite(t->data, n);
    return t->dtype != DTYPE_F64 || vec_all_finite_f64(t->data, n);
}

/* What both kinds of file promise. */
static void check_file(const char *name, const struct safetensors *f, uint64_t expected, struct step_check *out)
{
    struct error e = {0};
    uint64_t step;
    if (!safetensors_meta(f, "checksum"))
        problem(out, name, "has no checksum, so that damage would not be seen");
    if (checkpoint_step(f, &step, &e) != 0)
        problem(out, name, "%s", e.text);
    else if (expected != STEP_UNKNOWN && step != expected)
        problem(out, name, "says step %" PRIu64 ", its directory %" PRIu64, step, expected);
    for (size_t i = 0; i < f->tensor_count; i++)
        if (!all_finite(&f->tensors[i])) {
            problem(out, name, "tensor '%s' holds a value that is not finite", f->tensors[i].name);
            return;
        }
}

static bool open_file(const struct step_entry *s, const char *name, struct safetensors *f, struct step_check *out)
{
    char path[CHECKPOINT_PATH_MAX];
    struct error e = {0};
    if (path_format(path, sizeof path, "%s/%s", s->directory, name) != 0)
        error_set(&e, ERR_RANGE, "its path is too long");
    else if (safetensors_read(path, f, &e) == 0)
        return true;
    /* The text begins with the path, which the reader of the list knows. */
    size_t known = strlen(path);
    problem(out, name, "%s", strncmp(e.text, path, known) == 0 ? e.text + known + 2 : e.text);
    return false;
}

static void check_encoder(const struct step_entry *s, struct safetensors *f, struct step_check *out)
{
    struct run_config config;
    struct error e = {0};
    if (!open_file(s, ENCODER_FILE, f, out))
        return;
    check_file(ENCODER_FILE, f, s->step, out);
    if (provenance_from_metadata(f, &out->provenance, &e) != 0)
        problem(out, ENCODER_FILE, "%s", e.text);
    if (checkpoint_config(f, &config, &e) != 0)
        problem(out, ENCODER_FILE, "%s", e.text);
    else
        out->joint = config.loss.prototypes == PROTOTYPES_JOINT;
}

static void check_together(const struct safetensors *encoder, const struct safetensors *mixture, struct step_check *out)
{
    static const char *const keys[] = {"run", "step", "config", "data"};
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) {
        const char *a = safetensors_meta(encoder, keys[i]), *b = safetensors_meta(mixture, keys[i]);
        if (a && b && strcmp(a, b) != 0)
            problem(out, MIXTURE_FILE, "metadata '%s' is %.80s, the encoder's is %.80s", keys[i], b, a);
    }
}

void step_check(const struct step_entry *s, struct step_check *out)
{
    struct safetensors encoder = {0}, mixture = {0};
    *out = (struct step_check){0};
    if (s->has_encoder)
        check_encoder(s, &encoder, out);
    else
        problem(out, ENCODER_FILE, "is missing");
    if (s->has_mixture && open_file(s, MIXTURE_FILE, &mixture, out)) {
        check_file(MIXTURE_FILE, &mixture, s->step, out);
        check_together(&encoder, &mixture, out);
    } else if (!s->has_mixture && !out->joint && encoder.file) {
        problem(out, MIXTURE_FILE, "is missing");
    }
    safetensors_fini(&encoder);
    safetensors_fini(&mixture);
}
