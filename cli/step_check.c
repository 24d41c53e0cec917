/* Every check runs whatever the others found, so that one look shows all. */
#include "cli/step_check.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include "common/files.h"
#include "common/vecmath.h"
#include "proto/run_dir.h"
#include "cli/step_file.h"

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
static void check_file(const char *name, const struct safetensors *f, struct step_check *out)
{
    if (!safetensors_meta(f, "checksum"))
        problem(out, name, "has no checksum, so that damage would not be seen");
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
    check_file(ENCODER_FILE, f, out);
    if (provenance_from_metadata(f, &out->provenance, &e) != 0)
        problem(out, ENCODER_FILE, "%s", e.text);
    if (step_file_config(f, &config, &e) != 0)
        problem(out, ENCODER_FILE, "%s", e.text);
    else
        out->joint = config.loss.prototypes == PROTOTYPES_JOINT;
}

/* Of this directory's step, and of each other. */
static void check_identities(const struct step_entry *s, const struct safetensors *encoder,
                             const struct safetensors *mixture, struct step_check *out)
{
    struct run_config config;
    const struct safetensors *const files[] = {encoder, mixture};
    const char *const names[] = {ENCODER_FILE, MIXTURE_FILE};
    struct step_identity identities[2];
    bool known[2] = {false, false};
    struct error e = {0};
    for (int i = 0; i < 2; i++) {
        if (!files[i]->file)
            continue;
        known[i] = step_identity_read(files[i], &identities[i], &e) == 0;
        if (!known[i] || step_identity_placed(&identities[i], s->step, &e) != 0)
            problem(out, names[i], "%s", e.text);
    }
    if (known[0] && step_file_config(encoder, &config, NULL) == 0 &&
        step_identity_home(&identities[0], &config, s->directory, &e) != 0)
        problem(out, ENCODER_FILE, "%s", e.text);
    if (known[0] && known[1] && step_identity_match(&identities[0], &identities[1], &e) != 0)
        problem(out, MIXTURE_FILE, "%s", e.text);
}

void step_check(const struct step_entry *s, struct step_check *out)
{
    struct safetensors encoder = {0}, mixture = {0};
    *out = (struct step_check){0};
    if (s->has_encoder)
        check_encoder(s, &encoder, out);
    else if (!step_is_stream(s->directory))
        problem(out, ENCODER_FILE, "is missing");
    if (s->has_mixture && open_file(s, MIXTURE_FILE, &mixture, out))
        check_file(MIXTURE_FILE, &mixture, out);
    else if (!s->has_mixture && !out->joint && encoder.file)
        problem(out, MIXTURE_FILE, "is missing");
    check_identities(s, &encoder, &mixture, out);
    safetensors_fini(&encoder);
    safetensors_fini(&mixture);
}
