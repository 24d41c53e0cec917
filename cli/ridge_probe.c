/* W (C,F) = (X^T X + lambda I)^-1 X^T Y, X centred, Y the one-hot labels minus the classes' shares; a query's label
 * is the largest of x W^T + bias. X^T Y are sums of the rows of each class. */
#include "cli/ridge_probe.h"

#include <cblas.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "cli/gram.h"
#include "cli/parallel.h"
#include "common/rng.h"

enum { QUERY_BLOCK = 128, PICK_SEED = 2 /* arbitrary; fixed so that figures of different runs compare */ };

const double few_shot_share[FEW_SHOTS] = {0.01, 0.1};

/* lambda = the larger of: this share of the rows, for there may be many; and this many for each feature, without which
 * a few rows would be fitted exactly. */
static const double decay_rows = 0.01, decay_features = 0.25;

/* LAPACK: Cholesky factor, and solving with it. The header of liblapacke is not a dependency. */
void dpotrf_(const char *uplo, const int *n, double *a, const int *lda, int *info);
void dpotrs_(const char *uplo, const int *n, const int *nrhs, const double *a, const int *lda, double *b,
             const int *ldb, int *info);

struct ridge {
    uint32_t F, C;
    double *matrix; /* (F,F) */
    double *w;      /* (C,F) */
    double *bias;   /* (C) */
    double *mean;   /* (F) of the rows fitted */
    unsigned threads;
};

/* What is fitted: rows of x (.,F) and their labels. */
struct sample {
    const double *x;
    const uint16_t *labels;
    uint32_t n;
};

static void ridge_fini(struct ridge *r)
{
    free(r->matrix);
    free(r->w);
    free(r->bias);
    free(r->mean);
}

static int ridge_init(struct ridge *r, uint32_t F, uint32_t C, unsigned threads)
{
    *r = (struct ridge){.F = F, .C = C, .threads = threads};
    r->matrix = malloc(sizeof(double) * F * F);
    r->w = malloc(sizeof(double) * C * F);
    r->bias = malloc(sizeof(double) * C);
    r->mean = malloc(sizeof(double) * F);
    return r->matrix && r->w && r->bias && r->mean ? 0 : ERR_MEMORY;
}

/* w = sums of each class's rows minus the mean; bias = the classes' shares; mean. */
static void class_sums(struct ridge *r, struct sample s)
{
    size_t F = r->F;
    memset(r->w, 0, sizeof(double) * r->C * F);
    memset(r->bias, 0, sizeof(double) * r->C);
    memset(r->mean, 0, sizeof(double) * F);
    for (uint32_t i = 0; i < s.n; i++) {
        cblas_daxpy((int)F, 1, s.x + i * F, 1, r->w + s.labels[i] * F, 1);
        cblas_daxpy((int)F, 1.0 / s.n, s.x + i * F, 1, r->mean, 1);
        r->bias[s.labels[i]] += 1.0 / s.n;
    }
    for (uint32_t c = 0; c < r->C; c++)
        cblas_daxpy((int)F, -r->bias[c] * s.n, r->mean, 1, r->w + c * F, 1);
}

/* progress: of the whole fit. Its products take n F^2 / threads of the time that the rest, on one thread, takes
 * F^3 / 3 + 2 F^2 C of. */
static void ridge_fit(struct ridge *r, struct sample s, struct gram_progress progress)
{
    int F = (int)r->F, C = (int)r->C, info;
    double lambda = fmax(decay_rows * s.n, decay_features * F);
    double products = (double)s.n / r->threads;
    progress.share *= products / (products + F / 3.0 + 2.0 * C);
    class_sums(r, s);
    gram_centred(s.x, s.n, r->F, r->mean, r->threads, progress, r->matrix);
    for (int f = 0; f < F; f++)
        r->matrix[(size_t)f * F + f] += lambda;
    dpotrf_("L", &F, r->matrix, &F, &info); /* our upper triangle, by rows, is LAPACK's lower one */
    ASSERT(info == 0);                      /* all eigenvalues are at least about lambda */
    dpotrs_("L", &F, &C, r->matrix, &F, r->w, &F, &info);
    for (int c = 0; c < C; c++)
        r->bias[c] -= cblas_ddot(F, r->w + (size_t)c * F, 1, r->mean, 1);
}

struct predict_job {
    const struct ridge *r;
    const double *x;
    double *scores[PARALLEL_THREADS_MAX]; /* (QUERY_BLOCK, C) each */
    uint16_t *predicted;
};

static void predict_block(void *arg, size_t begin, size_t end, unsigned thread)
{
    const struct predict_job *j = arg;
    size_t F = j->r->F, C = j->r->C, rows = end - begin;
    double *scores = j->scores[thread];
    for (size_t i = 0; i < rows; i++)
        memcpy(scores + i * C, j->r->bias, C * sizeof *scores);
    cblas_dgemm(CblasRowMajor, CblasNoTrans, CblasTrans, (int)rows, (int)C, (int)F, 1, j->x + begin * F, (int)F,
                j->r->w, (int)F, 1, scores, (int)C);
    for (size_t i = 0; i < rows; i++) {
        size_t best = 0;
        for (size_t c = 1; c < C; c++)
            if (scores[i * C + c] > scores[i * C + best])
                best = c;
        j->predicted[begin + i] = (uint16_t)best;
    }
}

static int ridge_predict(const struct ridge *r, const double *x, uint32_t n, uint16_t *predicted)
{
    struct predict_job job = {.r = r, .x = x, .predicted = predicted};
    int rc = 0;
    for (unsigned i = 0; i < r->threads; i++)
        rc = (job.scores[i] = malloc(sizeof(double) * QUERY_BLOCK * r->C)) ? rc : ERR_MEMORY;
    if (rc == 0)
        parallel_for(n, QUERY_BLOCK, r->threads, predict_block, &job);
    for (unsigned i = 0; i < r->threads; i++)
        free(job.scores[i]);
    return rc;
}

/* ---- few-shot ---- */

uint32_t few_shot_pick(const uint16_t *labels, uint32_t n, uint32_t classes, double share, uint32_t draw,
                       uint32_t *rows)
{
    uint32_t quota[DATASET_CLASSES_MAX] = {0}, picked = 0;
    ASSERT(classes <= DATASET_CLASSES_MAX);
    for (uint32_t i = 0; i < n; i++)
        quota[labels[i]]++;
    for (uint32_t c = 0; c < classes; c++)
        quota[c] = (uint32_t)ceil(share * quota[c] - 1e-9); /* 0.1 * 30 is a little over 3 */
    for (uint32_t i = 0; i < n; i++) {
        uint32_t row = (uint32_t)permute(PICK_SEED, draw, i, n);
        if (quota[labels[row]] > 0) {
            quota[labels[row]]--;
            rows[picked++] = row;
        }
    }
    return picked;
}

/* What both the full probe and every draw look at. */
struct probe_data {
    double *x, *q; /* standardised bank and queries */
    const struct feature_set *bank, *queries;
    uint16_t *predicted; /* (queries) */
    double *few_x;       /* (few, F), labels beside: the rows of a draw */
    uint16_t *few_labels;
    uint32_t *few_rows; /* (bank) */
};

static int one_draw(struct ridge *r, struct probe_data *d, double share, uint32_t draw, struct few_shot *out,
                    double *percent)
{
    size_t F = r->F;
    uint32_t n = few_shot_pick(d->bank->labels, d->bank->rows, r->C, share, draw, d->few_rows);
    for (uint32_t i = 0; i < n; i++) {
        memcpy(d->few_x + i * F, d->x + d->few_rows[i] * F, F * sizeof(double));
        d->few_labels[i] = d->bank->labels[d->few_rows[i]];
    }
    ridge_fit(r, (struct sample){d->few_x, d->few_labels, n}, (struct gram_progress){NULL, 0});
    int rc = ridge_predict(r, d->q, d->queries->rows, d->predicted);
    if (rc == 0)
        *percent = accuracy_of(d->queries->labels, d->predicted, d->queries->rows, r->C, NULL).percent;
    out->rows = n;
    return rc;
}

static int few_shot(struct ridge *r, struct probe_data *d, double share, struct few_shot *out)
{
    double sum = 0, squares = 0;
    int rc = 0;
    for (uint32_t draw = 0; rc == 0 && draw < FEW_SHOT_DRAWS; draw++) {
        double percent = 0;
        rc = one_draw(r, d, share, draw, out, &percent);
        sum += percent;
        squares += percent * percent;
    }
    out->percent = sum / FEW_SHOT_DRAWS;
    out->deviation =
        sqrt(fmax(squares / FEW_SHOT_DRAWS - out->percent * out->percent, 0) * FEW_SHOT_DRAWS / (FEW_SHOT_DRAWS - 1));
    return rc;
}

/* ---- the probe ---- */

static void data_fini(struct probe_data *d)
{
    free(d->x);
    free(d->q);
    free(d->predicted);
    free(d->few_x);
    free(d->few_labels);
    free(d->few_rows);
}

static int data_init(struct probe_data *d, const struct feature_set *bank, const struct feature_set *queries, bool few)
{
    *d = (struct probe_data){.bank = bank, .queries = queries};
    if (feature_set_standardise(bank, bank, &d->x) != 0 || feature_set_standardise(bank, queries, &d->q) != 0)
        return ERR_MEMORY;
    d->predicted = malloc(sizeof(uint16_t) * queries->rows);
    if (!few)
        return d->predicted ? 0 : ERR_MEMORY;
    d->few_x = malloc(sizeof(double) * bank->rows * bank->width);
    d->few_labels = malloc(sizeof(uint16_t) * bank->rows);
    d->few_rows = malloc(sizeof(uint32_t) * bank->rows);
    return d->predicted && d->few_x && d->few_labels && d->few_rows ? 0 : ERR_MEMORY;
}

int ridge_probe(const struct feature_set *bank, const struct feature_set *queries, struct ridge_options o,
                struct ridge_scores *out)
{
    ASSERT(bank->width == queries->width && bank->rows > 0 && queries->rows > 0);
    struct probe_data d;
    struct ridge r;
    if (bank->width > RIDGE_WIDTH_MAX)
        return ERR_RANGE;
    int rc = data_init(&d, bank, queries, o.few);
    int memory = ridge_init(&r, bank->width, bank->classes, o.threads);
    rc = rc == 0 ? memory : rc;
    if (rc == 0) {
        ridge_fit(&r, (struct sample){d.x, bank->labels, bank->rows},
                  (struct gram_progress){o.meter, o.few ? 1.0 / (FEW_SHOTS + 1) : 1});
        rc = ridge_predict(&r, d.q, queries->rows, d.predicted);
    }
    if (rc == 0)
        out->all = accuracy_of(queries->labels, d.predicted, queries->rows, bank->classes, queries->third);
    for (int i = 0; rc == 0 && o.few && i < FEW_SHOTS; i++) {
        evaluation_meter_at(o.meter, (i + 1.0) / (FEW_SHOTS + 1));
        rc = few_shot(&r, &d, few_shot_share[i], &out->few[i]);
    }
    ridge_fini(&r);
    data_fini(&d);
    return rc;
}
