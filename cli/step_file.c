/* Metadata and the record of the configuration. */
#include "cli/step_file.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include "cli/printable.h"
#include "common/files.h"
#include "proto/run_dir.h"

/* Of hostile length and content, as all in a file. */
static int copy_meta(const struct safetensors *file, const char *key, char *out, size_t size, struct error *e)
{
    const char *text = safetensors_meta(file, key);
    if (!text || text[0] == '\0' || strlen(text) >= size)
        return error_set(e, ERR_FORMAT, "metadata '%s' is missing or too long", key);
    memcpy(out, text, strlen(text) + 1);
    printable(out);
    return 0;
}

static int read_step(const struct safetensors *file, uint64_t *step, struct error *e)
{
    const char *text = safetensors_meta(file, "step");
    char *end = NULL;
    if (text)
        *step = strtoull(text, &end, 10);
    if (!text || end == text || *end != '\0')
        return error_set(e, ERR_FORMAT, "metadata 'step' is missing or not a number");
    return 0;
}

int step_identity_read(const struct safetensors *file, struct step_identity *out, struct error *e)
{
    *out = (struct step_identity){.step = STEP_UNKNOWN};
    int rc = read_step(file, &out->step, e);
    if (rc == 0)
        rc = copy_meta(file, "run", out->run, sizeof out->run, e);
    if (safetensors_meta(file, "data") && rc == 0)
        rc = copy_meta(file, "data", out->data, sizeof out->data, e);
    return rc == 0 ? copy_meta(file, "config", out->config, sizeof out->config, e) : rc;
}

/* The name may be hidden behind "." or a trailing slash. */
uint64_t step_of_directory(const char *directory)
{
    uint64_t step = STEP_UNKNOWN;
    char *full = realpath(directory, NULL);
    const char *name = full ? strrchr(full, '/') : NULL;
    if (!name || !run_dir_parse_step(name + 1, &step))
        step = STEP_UNKNOWN;
    free(full);
    return step;
}

int step_identity_placed(const struct step_identity *file, uint64_t step, struct error *e)
{
    if (step == STEP_UNKNOWN || file->step == step)
        return 0;
    return error_set(e, ERR_STATE, "says step %" PRIu64 ", its directory %" PRIu64, file->step, step);
}

int step_identity_match(const struct step_identity *encoder, const struct step_identity *mixture, struct error *e)
{
    if (strcmp(mixture->run, encoder->run) != 0)
        return error_set(e, ERR_STATE, "belongs to run '%s', the encoder beside it to run '%s'", mixture->run,
                         encoder->run);
    if (mixture->step != encoder->step)
        return error_set(e, ERR_STATE, "is of step %" PRIu64 ", the encoder beside it of step %" PRIu64, mixture->step,
                         encoder->step);
    if (strcmp(mixture->config, encoder->config) != 0)
        return error_set(e, ERR_STATE, "has configuration %s, the encoder beside it %s", mixture->config,
                         encoder->config);
    if (mixture->data[0] != '\0' && encoder->data[0] != '\0' && strcmp(mixture->data, encoder->data) != 0)
        return error_set(e, ERR_STATE, "metadata 'data' is %s, the encoder's is %s: they saw other images",
                         mixture->data, encoder->data);
    return 0;
}

/* OUT/config.ini of OUT/checkpoints/STEP; false for a step that lies elsewhere. */
static bool home_config(const char *directory, char path[RUN_PATH_MAX])
{
    char *full = realpath(directory, NULL), *step = full ? strrchr(full, '/') : NULL;
    if (step)
        *step = '\0';
    char *checkpoints = step ? strrchr(full, '/') : NULL;
    bool below = checkpoints && strcmp(checkpoints, "/checkpoints") == 0;
    if (below)
        *checkpoints = '\0';
    below = below && path_format(path, RUN_PATH_MAX, "%s/config.ini", full) == 0;
    free(full);
    return below;
}

int step_identity_home(const struct step_identity *encoder, const struct run_config *config, const char *directory,
                       struct error *e)
{
    char path[RUN_PATH_MAX], keys[256];
    struct run_config home;
    if (!home_config(directory, path))
        return 0;
    int rc = file_probe(path, e);
    if (rc != 0 || run_config_load(&home, path, NULL, NULL, 0, NULL) != 0) /* another version's: no judgement */
        return rc == ERR_NOT_FOUND ? 0 : rc;
    if (strcmp(home.run.name, encoder->run) != 0)
        return error_set(e, ERR_STATE, "belongs to run '%s', its directory to run '%s'", encoder->run, home.run.name);
    if (run_config_differences(config, &home, keys, sizeof keys) == 0)
        return 0;
    return error_set(e, ERR_STATE, "is of a run with %s, unlike its directory's config.ini", keys);
}

int step_file_config(const struct safetensors *encoder, struct run_config *out, struct error *e)
{
    const struct tensor_view *record = safetensors_bytes(encoder, "config_ini");
    if (!record)
        return error_set(e, ERR_FORMAT, "has no tensor 'config_ini'");
    return run_config_from_record(out, record->data, record->size, "config_ini", e);
}

bool step_is_stream(const char *directory)
{
    char path[RUN_PATH_MAX], encoder[RUN_PATH_MAX];
    struct run_config config;
    struct safetensors file;
    if (path_format(path, sizeof path, "%s/" MIXTURE_FILE, directory) != 0 ||
        path_format(encoder, sizeof encoder, "%s/" ENCODER_FILE, directory) != 0 ||
        file_probe(encoder, NULL) != ERR_NOT_FOUND || safetensors_read(path, &file, NULL) != 0)
        return false;
    bool stream = step_file_config(&file, &config, NULL) == 0 && config.run.mode == MODE_STREAM;
    safetensors_fini(&file);
    return stream;
}
