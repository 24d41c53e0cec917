/* The stages of an evaluation, each freeing what it took. */
#include "cli/evaluation.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "cli/checkpoint.h"
#include "cli/encoder_load.h"
#include "cli/gram.h"
#include "cli/image_set.h"
#include "cli/knn.h"
#include "cli/linear_probe.h"
#include "cli/parallel.h"
#include "cli/prototype_labels.h"
#include "cli/prototype_set.h"
#include "common/blas.h"
#include "common/vecmath.h"
#include "proto/provenance.h"

enum {
    PROBE_ITERATIONS = 100,
    RANDOM_SEED_OFFSET = 1000003 /* arbitrary: a seed that no run is likely to have used */
};
static const double probe_decay = 1e-4;
/* Images x features x classes up to which logistic regression is done unasked: about a minute on two cores. */
static const double linear_work_max = 4e9;

struct stage {
    const struct evaluation_options *options;
    const struct run_config *config;
    struct dataset train, test;
    uint32_t *bank, *queries; /* image numbers */
    uint8_t *third;           /* (classes): of the training images, accuracy_thirds; only with queries */
    uint32_t bank_rows, query_rows;
    unsigned threads;
    struct evaluation_meter *meter;
    bool *linear_left_out; /* the evaluation's */
};

/* Features and projections of the bank and the queries, by one encoder. */
struct extract {
    struct feature_set bank, queries;
    float *bank_z, *query_z; /* (rows, D); query_z only with queries */
    uint32_t D;
};

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
    image_set_fit(s->config, path, &o);
    o.path = path;
    o.limit = 0;
    o.progress = image_set_progress;
    o.progress_context = s->meter;
    int rc = dataset_load(&o, DATASET_TRAIN, &s->train, e);
    if (rc != 0)
        return s->options->data ? rc : image_set_own_failed(rc, "--data", e);
    if (s->train.labels)
        rc = dataset_load(&o, DATASET_TEST, &s->test, &test);
    if (rc != 0 && rc != ERR_NOT_FOUND) {
        *e = test;
        return rc;
    }
    note_missing(s, &test, out);
    out->held_out = s->test.holdout > 0;
    out->labelled = s->train.labels != NULL;
    return 0;
}

/* By all training images, whatever the bank has of them. */
static int find_thirds(struct stage *s, struct evaluation *out)
{
    uint32_t C = s->train.classes;
    s->third = calloc(C, sizeof *s->third);
    if (s->third == NULL || accuracy_thirds(s->train.labels, s->train.count, C, s->third) != 0)
        return ERR_MEMORY;
    for (uint32_t c = 0; c < C; c++)
        out->third_classes[s->third[c]]++;
    for (uint32_t i = 0; i < s->train.count; i++)
        out->third_images[s->third[s->train.labels[i]]]++;
    return 0;
}

static int load_images(struct stage *s, struct evaluation *out, struct error *e)
{
    const char *path = s->options->data ? s->options->data : s->config->data.path;
    evaluation_meter_stage(s->meter, "images", path);
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
    out->classes = s->train.classes;
    s->bank_rows = rows_of(s->options->bank, s->config->eval.bank, &s->train);
    s->query_rows = probes ? rows_of(s->options->queries, s->config->eval.queries, &s->test) : 0;
    s->bank = feature_set_pick(s->train.count, s->bank_rows);
    s->queries = probes ? feature_set_pick(s->test.count, s->query_rows) : NULL;
    rc = s->bank && (s->queries || !probes) ? 0 : ERR_MEMORY;
    if (rc == 0 && probes)
        rc = find_thirds(s, out);
    return rc == 0 ? 0 : error_set(e, rc, "out of memory for the choice of images");
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
    free(s->third);
}

static bool wants_linear(const struct stage *s, const struct feature_set *bank)
{
    bool brief = (double)bank->rows * bank->width * bank->classes <= linear_work_max;
    if (s->options->linear == EVALUATION_LINEAR_SHORT && !brief)
        *s->linear_left_out = true;
    return s->options->linear == EVALUATION_LINEAR_ALWAYS || (s->options->linear == EVALUATION_LINEAR_SHORT && brief);
}

/* Every probe of a pair of sets, and few-shot where `few` is not NULL. */
static int probe(const struct stage *s, const char *who, const struct feature_set *bank,
                 const struct feature_set *queries, struct probe_scores *out, struct few_shot *few)
{
    const struct knn_options k = {.neighbours = (uint32_t)s->config->eval.neighbours,
                                  .temperature = s->config->eval.temperature,
                                  .threads = s->threads,
                                  .meter = s->meter};
    const struct ridge_options r = {.few = few != NULL, .threads = s->threads, .meter = s->meter};
    const struct linear_probe_options l = {
        .decay = probe_decay, .iterations = PROBE_ITERATIONS, .threads = s->threads, .meter = s->meter};
    struct ridge_scores ridge = {.all = accuracy_none()};
    struct feature_set thirds = *queries;
    thirds.third = s->third;
    queries = &thirds;
    evaluation_meter_stage(s->meter, who, "k-NN");
    int rc = knn_accuracy(bank, queries, k, &out->knn);
    evaluation_meter_stage(s->meter, who, few ? "ridge regression and few-shot" : "ridge regression");
    if (rc == 0)
        rc = ridge_probe(bank, queries, r, &ridge);
    out->ridge = ridge.all;
    for (int i = 0; few && i < FEW_SHOTS; i++)
        few[i] = ridge.few[i];
    out->linear = accuracy_none();
    if ((rc != 0 && rc != ERR_RANGE) || !wants_linear(s, bank))
        return rc == ERR_RANGE ? 0 : rc;
    evaluation_meter_stage(s->meter, who, "logistic regression");
    return linear_probe_accuracy(bank, queries, l, &out->linear);
}

static void extract_fini(struct extract *x)
{
    feature_set_fini(&x->bank);
    feature_set_fini(&x->queries);
    free(x->bank_z);
    free(x->query_z);
}

static int extract(const struct stage *s, const char *who, struct encoder *enc, struct extract *out, struct error *e)
{
    *out = (struct extract){.D = enc->projection};
    enc->meter = s->meter;
    evaluation_meter_stage(s->meter, who, "statistics of normalisation");
    int rc = encoder_measure(enc, &s->train, s->bank, s->bank_rows, s->threads, e);
    evaluation_meter_stage(s->meter, who, "features of the bank");
    if (rc == 0)
        rc = encoder_features(enc, &s->train, s->bank, s->bank_rows, s->threads, &out->bank, &out->bank_z, e);
    evaluation_meter_stage(s->meter, who, "features of the queries");
    if (rc == 0 && s->query_rows > 0)
        rc = encoder_features(enc, &s->test, s->queries, s->query_rows, s->threads, &out->queries, &out->query_z, e);
    return rc;
}

/* ---- the trained encoder ---- */

static const char trained[] = "trained encoder";

/* k-NN on projections; their sets borrow what x holds. */
static int probe_projections(const struct stage *s, const struct extract *x, struct accuracy *out)
{
    const struct knn_options k = {.neighbours = (uint32_t)s->config->eval.neighbours,
                                  .temperature = s->config->eval.temperature,
                                  .threads = s->threads,
                                  .meter = s->meter};
    struct feature_set bank = x->bank, queries = x->queries;
    bank.x = x->bank_z;
    queries.x = x->query_z;
    queries.third = s->third;
    bank.width = queries.width = x->D;
    evaluation_meter_stage(s->meter, trained, "k-NN on projections");
    return knn_accuracy(&bank, &queries, k, out);
}

static double perplexity_of_usage(const struct prototype_set *p)
{
    double total = 0, entropy = 0;
    if (p->usage == NULL)
        return NAN;
    for (uint32_t k = 0; k < p->K; k++)
        total += p->usage[k];
    for (uint32_t k = 0; k < p->K; k++)
        if (p->usage[k] > 0)
            entropy -= p->usage[k] / total * log(p->usage[k] / total);
    return exp(entropy);
}

/* Prototypes as clusters of the bank's labels and, with queries, as a classifier. nearest: of the bank's images. */
static int score_labels(const struct stage *s, const struct prototype_set *p, const struct extract *x,
                        const uint32_t *nearest, struct encoder_scores *out)
{
    struct prototype_labels labels;
    uint16_t *predicted = malloc(sizeof *predicted * (s->query_rows + 1));
    if (predicted == NULL)
        return ERR_MEMORY;
    int rc = prototype_labels_of(nearest, x->bank.labels, s->bank_rows, p->K, &labels);
    if (rc == 0) {
        out->purity = labels.purity;
        out->nmi = labels.nmi;
        if (s->query_rows > 0)
            rc = prototype_labels_classify(&labels, p->unit, p->D, x->query_z, s->query_rows, s->threads, predicted);
        if (rc == 0 && s->query_rows > 0)
            out->prototype_classifier =
                accuracy_of(x->queries.labels, predicted, s->query_rows, x->queries.classes, s->third);
        prototype_labels_fini(&labels);
    }
    free(predicted);
    return rc;
}

/* Projections become unit vectors on the way. */
static int score_prototypes(const struct stage *s, const struct prototype_set *p, struct extract *x,
                            struct evaluation *out)
{
    uint32_t *nearest = malloc(sizeof *nearest * s->bank_rows);
    if (nearest == NULL)
        return ERR_MEMORY;
    evaluation_meter_stage(s->meter, trained, "prototypes");
    int rc = prototype_scores_of(p->unit, p->K, p->D, x->bank_z, s->bank_rows, s->threads, nearest, &out->prototypes);
    out->encoder.usage_perplexity = perplexity_of_usage(p);
    if (x->query_z)
        vec_normalise_rows(x->query_z, s->query_rows, p->D, NULL);
    if (rc == 0 && x->bank.labels)
        rc = score_labels(s, p, x, nearest, &out->encoder);
    free(nearest);
    return rc;
}

static int score_ranks(const struct stage *s, const struct extract *x, struct encoder_scores *out)
{
    evaluation_meter_stage(s->meter, trained, "effective ranks");
    int rc = gram_effective_rank(x->bank.x, x->bank.rows, x->bank.width, s->threads, &out->rank_features);
    return rc == 0 ? gram_effective_rank(x->bank_z, x->bank.rows, x->D, s->threads, &out->rank_projections) : rc;
}

static int score_encoder(const struct stage *s, struct encoder *enc, const struct prototype_set *p,
                         struct evaluation *out, struct error *e)
{
    struct extract x;
    int rc = extract(s, trained, enc, &x, e);
    if (rc == 0)
        rc = score_prototypes(s, p, &x, out);
    if (rc == 0)
        rc = score_ranks(s, &x, &out->encoder);
    if (rc == 0 && s->query_rows > 0)
        rc = probe_projections(s, &x, &out->encoder.knn_projections);
    if (rc == 0 && s->query_rows > 0)
        rc = probe(s, trained, &x.bank, &x.queries, &out->encoder.features, out->encoder.few);
    extract_fini(&x);
    return rc;
}

static int evaluate_encoder(const struct stage *s, const struct checkpoint *c, struct evaluation *out, struct error *e)
{
    struct encoder enc;
    struct prototype_set prototypes;
    int rc = encoder_load(c, &s->train, &enc, e);
    if (rc != 0)
        return rc;
    rc = prototype_set_load(c, &prototypes, e);
    if (rc == 0) {
        struct error why = {.text = "out of memory in the evaluation"};
        rc = score_encoder(s, &enc, &prototypes, out, &why);
        if (rc != 0)
            error_set(e, rc, "%s", why.text);
        prototype_set_fini(&prototypes);
    }
    encoder_fini(&enc);
    return rc;
}

/* ---- references ---- */

static int evaluate_pixels(const struct stage *s, struct probe_scores *out, struct error *e)
{
    struct feature_set bank = {0}, queries = {0};
    struct pixel_scale scale;
    int rc = pixel_scale_of(s->config, s->train.channels, &scale, NULL);
    if (rc == 0)
        rc = feature_set_pixels(&s->train, s->bank, s->bank_rows, &scale, &bank, e);
    if (rc == 0)
        rc = feature_set_pixels(&s->test, s->queries, s->query_rows, &scale, &queries, e);
    if (rc == 0)
        rc = probe(s, "raw pixels", &bank, &queries, out, NULL);
    feature_set_fini(&bank);
    feature_set_fini(&queries);
    return rc;
}

static int evaluate_random(const struct stage *s, struct probe_scores *out, struct error *e)
{
    struct encoder enc;
    struct extract x;
    uint64_t seed = (uint64_t)s->config->run.seed + RANDOM_SEED_OFFSET;
    int rc = encoder_random(s->config, &s->train, seed, &enc, e);
    if (rc != 0)
        return rc;
    struct error why = {.text = "out of memory for the random encoder's features"};
    rc = extract(s, "random encoder", &enc, &x, &why);
    if (rc == 0)
        rc = probe(s, "random encoder", &x.bank, &x.queries, out, NULL);
    extract_fini(&x);
    encoder_fini(&enc);
    return rc == 0 ? 0 : error_set(e, rc, "%s", why.text);
}

static int evaluate_references(const struct stage *s, struct evaluation *out, struct error *e)
{
    struct error why = {.text = "out of memory for the pixels' features"};
    int rc = evaluate_pixels(s, &out->pixels, &why);
    if (rc != 0)
        return error_set(e, rc, "%s", why.text);
    return evaluate_random(s, &out->random, e);
}

static int evaluate_open(const struct checkpoint *c, const struct evaluation_options *o, struct evaluation *out,
                         struct error *e)
{
    struct evaluation_meter meter;
    struct stage s = {.options = o,
                      .config = &c->config,
                      .threads = parallel_threads(),
                      .meter = &meter,
                      .linear_left_out = &out->linear_left_out};
    evaluation_meter_init(&meter, "evaluating", o->progress, o->progress && isatty(fileno(o->progress)));
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
    if (rc == 0)
        rc = evaluate_encoder(&s, c, out, e);
    if (rc == 0 && out->references)
        rc = evaluate_references(&s, out, e);
    evaluation_meter_end(&meter);
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
