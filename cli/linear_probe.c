/* Minimises f(W, b) = -1/n sum_i log softmax(x_i W + b)[y_i] + decay |W|^2 over W (F,C) and b (C), in double.
 *
 * Rows are cut into fixed parts; each part's loss and gradient is one pair of GEMMs on any thread, and the parts are
 * added in order, so the result does not depend on the number of threads. The variables are laid out as W row by row,
 * then b. */
#include "cli/linear_probe.h"

#include <cblas.h>
#include <lbfgs.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "cli/parallel.h"

enum { PART_ROWS = 2048, MEMORY = 10 /* pairs that L-BFGS remembers */ };

/* One part of the training rows. */
struct part {
    double *logits;   /* (PART_ROWS, C), then softmax - onehot */
    double *gradient; /* (F C + C) */
    double loss;      /* sum over the part's rows */
};

struct probe {
    const double *x; /* (n,F) standardised */
    const uint16_t *labels;
    uint32_t n, F, C;
    double decay;
    uint32_t iterations;
    unsigned threads;
    struct evaluation_meter *meter;
    const double *variables; /* of the evaluation in progress */
    struct part *parts;
    uint32_t part_count;
};

/* out (n,C) = x W + b */
static void logits_of(const double *x, uint32_t n, uint32_t F, uint32_t C, const double *variables, double *out)
{
    const double *b = variables + (size_t)F * C;
    for (uint32_t i = 0; i < n; i++)
        memcpy(out + (size_t)i * C, b, C * sizeof *b);
    cblas_dgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, (int)n, (int)C, (int)F, 1, x, (int)F, variables, (int)C, 1,
                out, (int)C);
}

/* Turns a row of logits into softmax - onehot(label); returns -log softmax[label]. */
static double row_loss(double *row, uint32_t C, uint16_t label)
{
    double top = row[0], target = row[label];
    for (uint32_t c = 1; c < C; c++)
        top = row[c] > top ? row[c] : top;
    double sum = row[0] = exp(row[0] - top);
    for (uint32_t c = 1; c < C; c++)
        sum += row[c] = exp(row[c] - top);
    for (uint32_t c = 0; c < C; c++)
        row[c] /= sum;
    row[label] -= 1;
    return log(sum) + top - target;
}

static void evaluate_part(struct probe *p, uint32_t index)
{
    struct part *part = &p->parts[index];
    uint32_t from = index * PART_ROWS, rows = p->n - from < PART_ROWS ? p->n - from : PART_ROWS, C = p->C;
    const double *x = p->x + (size_t)from * p->F;
    double *bias = part->gradient + (size_t)p->F * C;
    logits_of(x, rows, p->F, C, p->variables, part->logits);
    part->loss = 0;
    memset(bias, 0, C * sizeof *bias);
    for (uint32_t i = 0; i < rows; i++) {
        double *row = part->logits + (size_t)i * C;
        part->loss += row_loss(row, C, p->labels[from + i]);
        for (uint32_t c = 0; c < C; c++)
            bias[c] += row[c];
    }
    cblas_dgemm(CblasRowMajor, CblasTrans, CblasNoTrans, (int)p->F, (int)C, (int)rows, 1, x, (int)p->F, part->logits,
                (int)C, 0, part->gradient, (int)C);
}

static void evaluate_parts(void *arg, size_t begin, size_t end, unsigned thread)
{
    (void)thread;
    for (size_t i = begin; i < end; i++)
        evaluate_part(arg, (uint32_t)i);
}

static lbfgsfloatval_t objective(void *instance, const lbfgsfloatval_t *variables, lbfgsfloatval_t *gradient,
                                 const int n, const lbfgsfloatval_t step)
{
    (void)step;
    struct probe *p = instance;
    p->variables = variables;
    parallel_for(p->part_count, 1, p->threads, evaluate_parts, p);
    double loss = 0;
    memset(gradient, 0, (size_t)n * sizeof *gradient);
    for (uint32_t i = 0; i < p->part_count; i++) {
        loss += p->parts[i].loss / p->n;
        cblas_daxpy(n, 1.0 / p->n, p->parts[i].gradient, 1, gradient, 1);
    }
    int weights = (int)(p->F * p->C);
    cblas_daxpy(weights, 2 * p->decay, variables, 1, gradient, 1);
    return loss + p->decay * cblas_ddot(weights, variables, 1, variables, 1);
}

static void parts_free(struct probe *p)
{
    for (uint32_t i = 0; p->parts && i < p->part_count; i++) {
        free(p->parts[i].logits);
        free(p->parts[i].gradient);
    }
    free(p->parts);
}

static int parts_new(struct probe *p)
{
    p->part_count = (p->n + PART_ROWS - 1) / PART_ROWS;
    p->parts = calloc(p->part_count, sizeof *p->parts);
    for (uint32_t i = 0; p->parts && i < p->part_count; i++) {
        p->parts[i].logits = malloc(sizeof(double) * PART_ROWS * p->C);
        p->parts[i].gradient = malloc(sizeof(double) * (p->F + 1) * p->C);
        if (!p->parts[i].logits || !p->parts[i].gradient)
            return ERR_MEMORY;
    }
    return p->parts ? 0 : ERR_MEMORY;
}

/* L-BFGS's word after each iteration. */
static int on_iteration(void *instance, const lbfgsfloatval_t *x, const lbfgsfloatval_t *g, const lbfgsfloatval_t fx,
                        const lbfgsfloatval_t xnorm, const lbfgsfloatval_t gnorm, const lbfgsfloatval_t step, int n,
                        int k, int ls)
{
    const struct probe *p = instance;
    (void)x, (void)g, (void)fx, (void)xnorm, (void)gnorm, (void)step, (void)n, (void)ls;
    evaluation_meter_at(p->meter, (double)k / p->iterations);
    return 0;
}

/* Runs L-BFGS from zero. The iteration limit is its usual end; a line search that can no longer improve is an end as
 * well. */
static int train(struct probe *p, lbfgsfloatval_t *variables)
{
    int n = (int)((p->F + 1) * p->C);
    lbfgs_parameter_t parameters;
    lbfgs_parameter_init(&parameters);
    parameters.m = MEMORY;
    parameters.max_iterations = (int)p->iterations;
    memset(variables, 0, (size_t)n * sizeof *variables);
    int rc = lbfgs(n, variables, NULL, objective, on_iteration, p, &parameters);
    return rc == LBFGSERR_OUTOFMEMORY ? ERR_MEMORY : 0;
}

static uint32_t argmax(const double *row, uint32_t n)
{
    uint32_t best = 0;
    for (uint32_t c = 1; c < n; c++)
        if (row[c] > row[best])
            best = c;
    return best;
}

/* In blocks, since logits of all queries in all classes can be large. */
static int score(const struct feature_set *queries, const double *x, const double *variables, struct accuracy *out)
{
    uint32_t C = queries->classes, F = queries->width, n = queries->rows;
    double *logits = malloc(sizeof(double) * PART_ROWS * C);
    uint16_t *predicted = malloc(sizeof *predicted * n);
    int rc = logits && predicted ? 0 : ERR_MEMORY;
    for (uint32_t from = 0; rc == 0 && from < n; from += PART_ROWS) {
        uint32_t rows = n - from < PART_ROWS ? n - from : PART_ROWS;
        logits_of(x + (size_t)from * F, rows, F, C, variables, logits);
        for (uint32_t i = 0; i < rows; i++)
            predicted[from + i] = (uint16_t)argmax(logits + (size_t)i * C, C);
    }
    if (rc == 0)
        *out = accuracy_of(queries->labels, predicted, n, C, queries->third);
    free(logits);
    free(predicted);
    return rc;
}

int linear_probe_accuracy(const struct feature_set *bank, const struct feature_set *queries,
                          struct linear_probe_options o, struct accuracy *out)
{
    ASSERT(bank->width == queries->width && bank->rows > 0 && queries->rows > 0);
    uint32_t F = bank->width, C = bank->classes;
    struct probe p = {.labels = bank->labels,
                      .n = bank->rows,
                      .F = F,
                      .C = C,
                      .decay = o.decay,
                      .iterations = o.iterations,
                      .threads = o.threads,
                      .meter = o.meter};
    double *x = NULL, *q = NULL;
    lbfgsfloatval_t *variables = lbfgs_malloc((int)((F + 1) * C));
    int rc = parts_new(&p);
    if (rc == 0 && !variables)
        rc = ERR_MEMORY;
    if (rc == 0)
        rc = feature_set_standardise(bank, bank, &x);
    if (rc == 0)
        rc = feature_set_standardise(bank, queries, &q);
    p.x = x;
    if (rc == 0)
        rc = train(&p, variables);
    if (rc == 0)
        rc = score(queries, q, variables, out);
    free(x);
    free(q);
    lbfgs_free(variables);
    parts_free(&p);
    return rc;
}
