/* The step is pinned, then looked at, then noted. */
#include "cli/evaluation_note.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>
#include "cli/checkpoint.h"
#include "cli/encoder_load.h"
#include "cli/step_file.h"
#include "cli/knn.h"
#include "common/blas.h"
#include "common/clock.h"
#include "common/files.h"
#include "proto/run_dir.h"

enum { LOWEST = 19 /* niceness */, TEXT_MAX = 128 };

struct look {
    const struct checkpoint *checkpoint;
    char checkpoints[CHECKPOINT_PATH_MAX]; /* OUT/checkpoints */
    uint32_t images;
    struct dataset bank, queries;
};

void evaluation_note_give_way(void)
{
    (void)setpriority(PRIO_PROCESS, 0, LOWEST); /* where every core computes, 1.5 % of one: SCHED_IDLE would get none */
}

/* ---- pointers ---- */

/* OUT/checkpoints of OUT/checkpoints/step-NNNNNN. */
static int find_checkpoints(const char *step, char out[CHECKPOINT_PATH_MAX], struct error *e)
{
    const char *slash = strrchr(step, '/');
    uint64_t number;
    if (!run_dir_parse_step(slash ? slash + 1 : step, &number))
        return error_set(e, ERR_CONFIG, "%s is not a step in a run's directory, where it could be noted", step);
    return path_format(out, CHECKPOINT_PATH_MAX, "%.*s", slash ? (int)(slash - step) : 1, slash ? step : ".") == 0
               ? 0
               : error_set(e, ERR_RANGE, "path too long: %s", step);
}

static int write_pointer(const char *checkpoints, const char *name, const char *text, struct error *e)
{
    char path[CHECKPOINT_PATH_MAX];
    if (path_format(path, sizeof path, "%s/%s", checkpoints, name) != 0)
        return error_set(e, ERR_RANGE, "path too long: %s", checkpoints);
    return file_write_atomic(path, &(struct file_part){text, strlen(text)}, 1, e);
}

static int pin(const char *checkpoints, uint64_t step, struct error *e)
{
    char text[TEXT_MAX];
    snprintf(text, sizeof text, "step-%06" PRIu64 "\n", step);
    return write_pointer(checkpoints, "candidate", text, e);
}

static void unpin(const char *checkpoints)
{
    char path[CHECKPOINT_PATH_MAX];
    if (path_format(path, sizeof path, "%s/candidate", checkpoints) == 0)
        unlink(path);
}

/* The best so far, of as many images; false when there is none, or its step is gone. */
static bool read_best(const char *checkpoints, uint32_t images, uint64_t *step, double *knn)
{
    char path[CHECKPOINT_PATH_MAX], text[TEXT_MAX] = "";
    struct buf *file;
    uint32_t of;
    if (path_format(path, sizeof path, "%s/best", checkpoints) != 0 ||
        file_read(path, sizeof text - 1, &file, NULL) != 0)
        return false;
    memcpy(text, file->data, file->size);
    buf_unref(&file);
    if (sscanf(text, "step-%" SCNu64 " knn=%lf images=%" SCNu32, step, knn, &of) != 3 || of != images)
        return false;
    return path_format(path, sizeof path, "%s/step-%06" PRIu64 "/" ENCODER_FILE, checkpoints, *step) == 0 &&
           access(path, R_OK) == 0;
}

/* Of equals the earlier stays. */
static int keep_best(const struct look *l, struct evaluation_note *note, struct error *e)
{
    char text[TEXT_MAX];
    bool known = read_best(l->checkpoints, l->images, &note->best_step, &note->best);
    if (known && !(note->knn > note->best) && note->best_step != note->step)
        return 0;
    note->best_step = note->step;
    note->best = note->knn;
    snprintf(text, sizeof text, "step-%06" PRIu64 " knn=%.4f images=%" PRIu32 "\n", note->step, note->knn, l->images);
    return write_pointer(l->checkpoints, "best", text, e);
}

/* ---- k-NN ---- */

static int load(const struct look *l, enum dataset_split split, struct dataset *out, struct error *e)
{
    struct dataset_options o = dataset_options_of(&l->checkpoint->config);
    o.limit = o.limit == 0 || o.limit > l->images ? l->images : o.limit;
    o.on_demand = false; /* these few are held while they are looked at */
    int rc = dataset_load(&o, split, out, e);
    if (rc == ERR_NOT_FOUND && split == DATASET_TEST)
        return error_set(e, ERR_CONFIG, "no k-NN: the run has no test images, and data.holdout is 0");
    if (rc != 0 || out->labels != NULL)
        return rc;
    dataset_fini(out);
    return error_set(e, ERR_CONFIG, "no k-NN: %s has no labels", o.path);
}

/* Features and projections of all of d; the bank's statistics become the encoder's. */
static int features_of(struct encoder *encoder, const struct dataset *d, bool bank, struct feature_set *out, float **z,
                       struct error *e)
{
    uint32_t *all = feature_set_pick(d->count, d->count); /* in no order, for the statistics */
    int rc = all ? 0 : error_set(e, ERR_MEMORY, "out of memory for the choice of images");
    if (rc == 0 && bank)
        rc = encoder_measure(encoder, d, all, d->count, 1, e);
    if (rc == 0)
        rc = encoder_features(encoder, d, all, d->count, 1, out, z, e);
    free(all);
    return rc;
}

/* out: of features, then of projections. */
static int vote(const struct run_config *c, struct feature_set *bank, struct feature_set *queries, float *bank_z,
                float *query_z, struct accuracy out[2])
{
    const struct knn_options o = {
        .neighbours = (uint32_t)c->eval.neighbours, .temperature = c->eval.temperature, .threads = 1};
    int rc = knn_accuracy(bank, queries, o, &out[0]);
    struct feature_set b = *bank, q = *queries; /* projections take the features' places */
    b.x = bank_z;
    q.x = query_z;
    b.width = q.width = (uint32_t)c->mixture.dimensions;
    return rc == 0 ? knn_accuracy(&b, &q, o, &out[1]) : rc;
}

static int score(const struct look *l, struct evaluation_note *note, struct error *e)
{
    struct encoder encoder;
    struct feature_set bank = {0}, queries = {0};
    float *bank_z = NULL, *query_z = NULL;
    struct accuracy found[2];
    int rc = encoder_load(l->checkpoint, &l->bank, &encoder, e);
    if (rc != 0)
        return rc;
    rc = features_of(&encoder, &l->bank, true, &bank, &bank_z, e);
    if (rc == 0)
        rc = features_of(&encoder, &l->queries, false, &queries, &query_z, e);
    if (rc == 0 && (rc = vote(&l->checkpoint->config, &bank, &queries, bank_z, query_z, found)) != 0)
        error_set(e, rc, "out of memory for a k-NN of %u images", l->images);
    if (rc == 0) {
        note->knn = found[0].percent;
        note->knn_projections = found[1].percent;
    }
    feature_set_fini(&bank);
    feature_set_fini(&queries);
    free(bank_z);
    free(query_z);
    encoder_fini(&encoder);
    return rc;
}

static int look(struct look *l, struct evaluation_note *note, struct error *e)
{
    int rc = load(l, DATASET_TRAIN, &l->bank, e);
    if (rc != 0)
        return rc;
    rc = load(l, DATASET_TEST, &l->queries, e);
    if (rc == 0) {
        uint32_t classes = l->bank.classes > l->queries.classes ? l->bank.classes : l->queries.classes;
        l->bank.classes = l->queries.classes = classes;
        note->bank = l->bank.count;
        note->queries = l->queries.count;
        rc = score(l, note, e);
        dataset_fini(&l->queries);
    }
    dataset_fini(&l->bank);
    return rc;
}

/* ---- the note ---- */

static int append_line(const char *checkpoints, struct evaluation_note *n, struct error *e)
{
    struct stat st;
    char path[CHECKPOINT_PATH_MAX], line[512];
    int fd;
    if (path_format(path, sizeof path, "%s/../" EVALUATION_METRICS, checkpoints) != 0)
        return error_set(e, ERR_RANGE, "path too long: %s", checkpoints);
    int length = snprintf(line, sizeof line,
                          "{\"step\":%" PRIu64 ",\"time\":%.3f,\"knn\":%.4f,\"knn_projections\":%.4f,\"bank\":%" PRIu32
                          ",\"queries\":%" PRIu32 ",\"best_step\":%" PRIu64 ",\"best\":%.4f}\n",
                          n->step, unix_time(), n->knn, n->knn_projections, n->bank, n->queries, n->best_step, n->best);
    int rc = file_open(path, O_WRONLY | O_CREAT | O_APPEND, &fd, e);
    if (rc != 0)
        return rc;
    n->first = fstat(fd, &st) == 0 && st.st_size == 0;
    if (write(fd, line, (size_t)length) != length)
        rc = error_set(e, ERR_IO, "%s: %s", path, strerror(errno));
    close(fd);
    return rc;
}

static int note_step(const struct checkpoint *c, int64_t images, struct look *l, struct evaluation_note *out,
                     struct error *e)
{
    int64_t most = images > 0 ? images : c->config.eval.images;
    l->checkpoint = c;
    l->images = most < UINT32_MAX ? (uint32_t)most : UINT32_MAX;
    *out = (struct evaluation_note){.step = c->step};
    snprintf(out->run, sizeof out->run, "%s", c->config.run.name);
    if (path_format(out->config, sizeof out->config, "%s/../config.ini", l->checkpoints) != 0)
        return error_set(e, ERR_RANGE, "path too long: %s", l->checkpoints);
    int rc = look(l, out, e);
    if (rc == 0)
        rc = keep_best(l, out, e);
    return rc == 0 ? append_line(l->checkpoints, out, e) : rc;
}

int evaluation_note(const char *path, int64_t images, struct evaluation_note *out, struct error *e)
{
    char step[CHECKPOINT_PATH_MAX];
    struct checkpoint c;
    struct look l = {0};
    blas_single_threaded();
    int rc = checkpoint_find(path, step, e);
    if (rc == 0)
        rc = find_checkpoints(step, l.checkpoints, e);
    if (rc == 0)
        rc = pin(l.checkpoints, step_of_directory(step), e);
    if (rc != 0)
        return rc;
    rc = checkpoint_open(step, &c, e);
    if (rc == 0) {
        rc = note_step(&c, images, &l, out, e);
        checkpoint_close(&c);
    }
    unpin(l.checkpoints);
    return rc;
}
