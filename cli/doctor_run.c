/* What a configuration asks for: images, a network that fits them, a directory with room for its checkpoints. */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>
#include "cli/checkpoint.h"
#include "cli/doctor.h"
#include "cli/pid_file.h"
#include "cli/shell_quote.h"
#include "common/files.h"
#include "worker/freeze.h"
#include "worker/model_spec.h"

/* ---- data ---- */

static void check_test_images(struct doctor_report *r, const struct dataset_options *o)
{
    struct dataset test;
    struct error e = {0};
    if (dataset_load(o, DATASET_TEST, &test, &e) == 0) {
        doctor_find(r, FINDING_OK, "data", "%u test images", test.count);
        dataset_fini(&test);
        return;
    }
    doctor_find(r, FINDING_WARN, "data", "test images: %.400s", e.text);
    doctor_advise(r, "training works without them; `decant eval` needs them");
}

void doctor_check_data(struct doctor_report *r, const struct run_config *c, struct dataset *train)
{
    struct dataset_options o = dataset_options_of(c);
    struct error e = {0};
    char quoted[SHELL_QUOTE_MAX];
    memset(train, 0, sizeof *train);
    if (dataset_load(&o, DATASET_TRAIN, train, &e) != 0) {
        memset(train, 0, sizeof *train);
        doctor_find(r, FINDING_FAIL, "data", "%.400s", e.text);
        doctor_advise(r, "data.path names the images on every machine with a worker; see `decant dataset check`");
        return;
    }
    uint64_t needed = (uint64_t)(c->run.slots * c->run.slot_size);
    bool enough = train->count >= needed, whole = train->skipped == 0 && train->problem_count == 0;
    doctor_find(r,
                !enough ? FINDING_FAIL
                : whole ? FINDING_OK
                        : FINDING_WARN,
                "data", "%.200s: %u training images of %u x %u x %u, %s, %u left out", c->data.path, train->count,
                train->height, train->width, train->channels, train->labels ? "labelled" : "without labels",
                train->skipped);
    if (!enough)
        doctor_advise(r, "one step takes run.slots x run.slot_size = %" PRIu64 " images: make it smaller", needed);
    else if (!whole)
        doctor_advise(r, "`decant dataset check %s` names the files and what is wrong with them",
                      shell_quote(c->data.path, quoted, sizeof quoted));
    o.limit = 0; /* of training images */
    check_test_images(r, &o);
}

/* ---- model ---- */

static uint64_t mixture_bytes(const struct run_config *c)
{
    uint64_t K = (uint64_t)c->mixture.components, D = (uint64_t)c->mixture.dimensions;
    return K * (D * (2 * sizeof(double) + 2 * sizeof(float)) + 2 * sizeof(double) + 3 * sizeof(uint32_t));
}

/* At most at one time: one more than is kept while a new one is written. */
static uint64_t checkpoints_kept(const struct run_config *c, uint64_t steps)
{
    uint64_t every = (uint64_t)c->run.checkpoint_every, keep = (uint64_t)c->run.checkpoint_keep,
             for_good = (uint64_t)c->run.checkpoint_keep_every, written = every > 0 ? (steps + every - 1) / every : 1;
    if (keep == 0 || keep >= written)
        return written;
    uint64_t kept = keep + 1 + (for_good > 0 ? steps / for_good : 0);
    return kept < written ? kept : written;
}

static void estimate(const struct run_config *c, const struct dataset *train, const struct manifest *m,
                     struct doctor_needs *out)
{
    bool joint = c->loss.prototypes == PROTOTYPES_JOINT;
    uint64_t prototypes = (uint64_t)(c->mixture.components * c->mixture.dimensions),
             moments = c->optimiser.name == OPTIMISER_ADAMW ? 2 : 1, mixture = joint ? 0 : mixture_bytes(c);
    out->parameters = m->parameter_floats + (joint ? prototypes : 0);
    uint64_t vector = out->parameters * sizeof(float);
    out->checkpoint_bytes = (2 + moments) * vector + m->buffer_floats * sizeof(float) + mixture;
    out->checkpoints = checkpoints_kept(c, run_config_steps(c, train->count));
    uint64_t images = (uint64_t)train->count * train->height * train->width * train->channels;
    /* Parameter server: its vectors, a copy to write, the gradients of a step. Prototype server: two versions and a
     * copy to write. Worker: images, both networks, a gradient for each thread. */
    out->memory_bytes = 2 * (2 + moments) * vector + (uint64_t)c->run.slots * vector + 3 * mixture + images +
                        (2 + (uint64_t)c->worker.threads) * vector + prototypes * 2 * sizeof(float);
}

/* What runs well and learns little. */
static void check_recipe(struct doctor_report *r, const struct run_config *c, const struct dataset *train)
{
    if (c->loss.coding_rate > 0 && 2 * c->run.slot_size < c->mixture.dimensions) {
        doctor_find(r, FINDING_WARN, "loss",
                    "loss.coding_rate sees the %" PRId64 " rows of a slot, fewer than mixture.dimensions = %" PRId64,
                    2 * c->run.slot_size, c->mixture.dimensions);
        doctor_advise(r, "larger run.slot_size with fewer run.slots, or a smaller loss.coding_rate");
    }
    if (train->channels == 3 && c->augment.saturation == 0 && c->augment.hue == 0 && c->augment.greyscale == 0) {
        doctor_find(r, FINDING_WARN, "views", "colour images whose views share their palette: it is easy to learn");
        doctor_advise(r, "augment.preset = photos, drawings or objects changes colours too");
    }
}

/* Whether the network has the stages that encoder.freeze names. */
static int try_freeze(const struct run_config *c, const struct model *model, struct error *e)
{
    struct manifest m;
    int rc = manifest_copy(&m, model_manifest(model));
    if (rc == 0)
        rc = freeze_of(&m, c, e);
    manifest_fini(&m);
    return rc;
}

bool doctor_check_model(struct doctor_report *r, const struct run_config *c, const struct dataset *train,
                        struct doctor_needs *out)
{
    struct model_spec spec;
    struct model *model = NULL;
    struct error e = {0};
    *out = (struct doctor_needs){0};
    if (train->count == 0)
        return false;
    int rc = model_spec_of(c, train, &spec, &e);
    if (rc == 0)
        rc = model_new(&spec, &model, &e);
    if (rc == 0)
        rc = try_freeze(c, model, &e);
    if (rc != 0) {
        model_free(&model);
        doctor_find(r, FINDING_FAIL, "model", "%.400s", e.text);
        doctor_advise(r, "the encoder.* keys must fit the images; `decant config` explains each");
        return false;
    }
    estimate(c, train, model_manifest(model), out);
    doctor_find(r, FINDING_OK, "model", "%" PRIu64 " parameters, %" PRIu64 " steps", out->parameters,
                run_config_steps(c, train->count));
    check_recipe(r, c, train);
    model_free(&model);
    return true;
}

/* ---- run.out ---- */

/* The directory itself, or the nearest above it that exists: where it would be made. */
static void existing_ancestor(const char *path, char out[CHECKPOINT_PATH_MAX])
{
    snprintf(out, CHECKPOINT_PATH_MAX, "%s", path);
    while (access(out, F_OK) != 0) {
        char *slash = strrchr(out, '/');
        if (!slash)
            snprintf(out, CHECKPOINT_PATH_MAX, ".");
        else if (slash == out)
            out[1] = '\0';
        else
            *slash = '\0';
    }
}

/* Whether a file can be made there, found out by making one: permissions do not tell it of every file system. 0 or an
 * errno. */
static int try_file(const char *directory)
{
    char path[CHECKPOINT_PATH_MAX];
    if (path_format(path, sizeof path, "%s/.decant-doctor-XXXXXX", directory) != 0)
        return ENAMETOOLONG;
    int fd = mkstemp(path);
    if (fd < 0)
        return errno;
    close(fd);
    unlink(path);
    return 0;
}

static void check_content(struct doctor_report *r, const struct run_config *c)
{
    struct error e = {0};
    char step[CHECKPOINT_PATH_MAX], quoted[SHELL_QUOTE_MAX];
    int rc = pid_file_check(c->run.out, 0, &e);
    if (rc == ERR_STATE) {
        doctor_find(r, FINDING_WARN, "out", "%.400s", e.text);
        doctor_advise(r, "another run needs another run.out until this one has ended");
        return;
    }
    if (rc == 0)
        rc = checkpoint_find(c->run.out, step, &e);
    if (rc == ERR_IO) {
        doctor_find(r, FINDING_FAIL, "out", "%.400s", e.text);
        doctor_advise(r, "give this user the right to read it, or choose another run.out");
    } else if (rc == 0) {
        doctor_find(r, FINDING_OK, "out", "holds a run, newest checkpoint %s", strrchr(step, '/') + 1);
        doctor_advise(r, "`decant resume %s` goes on with it; a new run needs another directory",
                      shell_quote(c->run.out, quoted, sizeof quoted));
    }
}

static void check_space(struct doctor_report *r, const char *directory, const struct doctor_needs *needs)
{
    struct statvfs fs;
    char have[32], one[32], all[32];
    if (statvfs(directory, &fs) != 0)
        return;
    uint64_t available = (uint64_t)fs.f_bavail * fs.f_frsize, total = needs->checkpoint_bytes * needs->checkpoints;
    bool some = available >= 2 * needs->checkpoint_bytes, enough = some && available >= total;
    doctor_find(r,
                enough ? FINDING_OK
                : some ? FINDING_WARN
                       : FINDING_FAIL,
                "disk", "%s free for %" PRIu64 " checkpoints of about %s, %s", doctor_bytes(available, have),
                needs->checkpoints, doctor_bytes(needs->checkpoint_bytes, one), doctor_bytes(total, all));
    if (!enough)
        doctor_advise(r, "free space, or lower run.checkpoint_keep");
}

void doctor_check_out(struct doctor_report *r, const struct run_config *c, const struct doctor_needs *needs)
{
    char directory[CHECKPOINT_PATH_MAX];
    existing_ancestor(c->run.out, directory);
    bool there = strcmp(directory, c->run.out) == 0;
    int reason = try_file(directory);
    if (reason == 0) {
        doctor_find(r, FINDING_OK, "out", "%s %s", c->run.out, there ? "is writable" : "can be made");
    } else {
        doctor_find(r, FINDING_FAIL, "out", "%s: cannot write to %s: %s", c->run.out, directory, strerror(reason));
        doctor_advise(r, "choose another run.out, or give this user the right to write there");
    }
    check_content(r, c);
    if (needs)
        check_space(r, directory, needs);
}
