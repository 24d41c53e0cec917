/* The stages of an evaluation, each freeing what it took. */
#include "cli/evaluation.h"

#include <stdlib.h>
#include <string.h>
#include "cli/checkpoint.h"
#include "cli/encoder_load.h"
#include "cli/knn.h"
#include "cli/linear_probe.h"
#include "cli/parallel.h"
#include "cli/prototype_set.h"
#include "common/vecmath.h"
#include "proto/provenance.h"

enum {
    PROBE_ITERATIONS = 100,
    RANDOM_SEED_OFFSET = 1000003 /* arbitrary: a seed that no run is likely to have used */
};
static const double probe_decay = 1e-4;

struct stage {
    const struct evaluation_options *options;
    const struct run_config *config;
    struct dataset train, test;
    uint32_t *bank, *queries; /* image numbers */
    uint32_t bank_rows, query_rows;
    unsigned threads;
};

static void say(const struct stage *s, const char *what)
{
    if (s->options->progress)
        fprintf(s->options->progress, "evaluating: %s\n", what);
}

static uint32_t rows_of(int64_t wanted, int64_t configured, const struct dataset *d)
{
    int64_t rows = wanted > 0 ? wanted : configured;
    return rows < (int64_t)d->count ? (uint32_t)rows : d->count;
}

/* Probes need labelled images of both splits; says which are missing. */
static void note_missing(const struct stage *s, const struct error *test, struct evaluation *out)
{
    if (!s->train.labels)
        snprintf(out->probes_missing, sizeof out->probes_missing, "the training images have no labels");
    else if (test->code != 0)
        snprintf(out->probes_missing, sizeof out->probes_missing, "%.250s", test->text);
    else if (!s->test.labels)
        snprintf(out->probes_missing, sizeof out->probes_missing, "the test images have no labels");
}

/* Without test images, and without labels to tell them apart, prototypes can be evaluated all the same. */
static int load_splits(struct stage *s, const char *path, struct evaluation *out, struct error *e)
{
    struct dataset_options o = dataset_options_of(s->config);
    struct error test = {0};
    o.path = path;
    o.limit = 0;
    int rc = dataset_load(&o, DATASET_TRAIN, &s->train, e);
    if (rc != 0)
        return rc;
    if (s->train.labels)
        rc = dataset_load(&o, DATASET_TEST, &s->test, &test);
    if (rc != 0 && rc != ERR_NOT_FOUND) {
        *e = test;
        return rc;
    }
    note_missing(s, &test, out);
    out->held_out = s->test.holdout > 0;
    return 0;
}

static int load_images(struct stage *s, struct evaluation *out, struct error *e)
{
    const char *path = s->options->data ? s->options->data : s->config->data.path;
    int rc = load_splits(s, path, out, e);
    if (rc != 0)
        return rc;
    bool probes = out->probes_missing[0] == '\0';
    if (probes &&
        (s->train.height != s->test.height || s->train.width != s->test.width || s->train.channels != s->test.channels))
        return error_set(e, ERR_FORMAT, "%s: training and test images differ in size; set data.side and data.channels",
                         path);
    if (s->train.classes < s->test.classes)
        s->train.classes = s->test.classes;
    s->test.classes = s->train.classes;
    s->bank_rows = rows_of(s->options->bank, s->config->eval.bank, &s->train);
    s->query_rows = probes ? rows_of(s->options->queries, s->config->eval.queries, &s->test) : 0;
    s->bank = feature_set_pick(s->train.count, s->bank_rows);
    s->queries = probes ? feature_set_pick(s->test.count, s->query_rows) : NULL;
    return s->bank && (s->queries || !probes) ? 0 : error_set(e, ERR_MEMORY, "out of memory for the choice of images");
}

/* Whether these are the images that the run was trained on, which data.limit may have cut. */
static int compare_images(const struct stage *s, const struct checkpoint *c, struct evaluation *out, struct error *e)
{
    struct provenance kept;
    struct dataset cut;
    int rc = provenance_from_metadata(&c->encoder, &kept, e);
    if (rc != 0)
        return rc;
    out->data_trained = kept.data;
    if (s->config->data.limit == 0) {
        out->data = dataset_fingerprint(&s->train);
        return 0;
    }
    struct dataset_options o = dataset_options_of(s->config);
    o.path = s->options->data ? s->options->data : s->config->data.path;
    rc = dataset_load(&o, DATASET_TRAIN, &cut, e);
    if (rc != 0)
        return rc;
    out->data = dataset_fingerprint(&cut);
    dataset_fini(&cut);
    return 0;
}

static void stage_fini(struct stage *s)
{
    dataset_fini(&s->train);
    dataset_fini(&s->test);
    free(s->bank);
    free(s->queries);
}

/* Both probes; consumes neither set. */
static int probe(const struct stage *s, const struct feature_set *bank, const struct feature_set *queries,
                 struct probe_scores *out)
{
    struct knn_options k = {.neighbours = (uint32_t)s->config->eval.neighbours,
                            .temperature = s->config->eval.temperature,
                            .threads = s->threads};
    struct linear_probe_options l = {.decay = probe_decay, .iterations = PROBE_ITERATIONS, .threads = s->threads};
    int rc = knn_accuracy(bank, queries, k, &out->knn);
    return rc == 0 ? linear_probe_accuracy(bank, queries, l, &out->linear) : rc;
}

/* Probes an encoder's features where there are queries; z, when not NULL, receives the bank's projections. */
static int probe_encoder(const struct stage *s, const struct encoder *enc, struct probe_scores *out, float **z)
{
    struct feature_set bank = {0}, queries = {0};
    int rc = encoder_features(enc, &s->train, s->bank, s->bank_rows, s->threads, &bank, z);
    if (rc == 0 && s->query_rows > 0)
        rc = encoder_features(enc, &s->test, s->queries, s->query_rows, s->threads, &queries, NULL);
    if (rc == 0 && s->query_rows > 0)
        rc = probe(s, &bank, &queries, out);
    feature_set_fini(&bank);
    feature_set_fini(&queries);
    return rc;
}

static int evaluate_encoder(const struct stage *s, const struct checkpoint *c, struct evaluation *out, struct error *e)
{
    struct encoder enc;
    struct prototype_set prototypes;
    float *z = NULL;
    int rc = encoder_load(c, &s->train, &enc, e);
    if (rc != 0)
        return rc;
    rc = prototype_set_load(c, &prototypes, e);
    if (rc == 0) {
        rc = probe_encoder(s, &enc, &out->encoder, &z);
        if (rc == 0)
            rc = prototype_scores_of(prototypes.unit, prototypes.K, prototypes.D, z, s->bank_rows, s->threads,
                                     &out->prototypes);
        if (rc != 0)
            error_set(e, rc, "out of memory in the evaluation");
        prototype_set_fini(&prototypes);
    }
    free(z);
    encoder_fini(&enc);
    return rc;
}

static int evaluate_pixels(const struct stage *s, struct probe_scores *out)
{
    struct feature_set bank = {0}, queries = {0};
    float mean = (float)s->config->data.mean, deviation = (float)s->config->data.deviation;
    int rc = feature_set_pixels(&s->train, s->bank, s->bank_rows, mean, deviation, &bank);
    if (rc == 0)
        rc = feature_set_pixels(&s->test, s->queries, s->query_rows, mean, deviation, &queries);
    if (rc == 0)
        rc = probe(s, &bank, &queries, out);
    feature_set_fini(&bank);
    feature_set_fini(&queries);
    return rc;
}

static int evaluate_random(const struct stage *s, struct probe_scores *out, struct error *e)
{
    struct encoder enc;
    uint64_t seed = (uint64_t)s->config->run.seed + RANDOM_SEED_OFFSET;
    int rc = encoder_random(s->config, &s->train, seed, &enc, e);
    if (rc != 0)
        return rc;
    rc = probe_encoder(s, &enc, out, NULL);
    encoder_fini(&enc);
    return rc == 0 ? 0 : error_set(e, rc, "out of memory for the random encoder's features");
}

static int evaluate_references(const struct stage *s, struct evaluation *out, struct error *e)
{
    say(s, "reference: raw pixels");
    int rc = evaluate_pixels(s, &out->pixels);
    if (rc != 0)
        return error_set(e, rc, "out of memory for the pixels' features");
    say(s, "reference: random encoder");
    return evaluate_random(s, &out->random, e);
}

static int evaluate_open(const struct checkpoint *c, const struct evaluation_options *o, struct evaluation *out,
                         struct error *e)
{
    struct stage s = {.options = o, .config = &c->config, .threads = parallel_threads()};
    snprintf(out->run, sizeof out->run, "%s", c->config.run.name);
    snprintf(out->directory, sizeof out->directory, "%s", c->directory);
    out->step = c->step;
    out->joint = c->config.loss.prototypes == PROTOTYPES_JOINT;
    out->K = (uint32_t)c->config.mixture.components;
    out->D = (uint32_t)c->config.mixture.dimensions;
    int rc = load_images(&s, out, e);
    if (rc == 0)
        rc = compare_images(&s, c, out, e);
    out->bank = s.bank_rows;
    out->queries = s.query_rows;
    out->references = o->references && s.query_rows > 0;
    if (rc == 0) {
        say(&s, "trained encoder");
        rc = evaluate_encoder(&s, c, out, e);
    }
    if (rc == 0 && out->references)
        rc = evaluate_references(&s, out, e);
    stage_fini(&s);
    return rc;
}

int evaluate_checkpoint(const char *checkpoint, const struct evaluation_options *o, struct evaluation *out,
                        struct error *e)
{
    struct checkpoint c;
    memset(out, 0, sizeof *out);
    blas_single_threaded();
    int rc = checkpoint_open(checkpoint, &c, e);
    if (rc != 0)
        return rc;
    rc = evaluate_open(&c, o, out, e);
    checkpoint_close(&c);
    return rc;
}
