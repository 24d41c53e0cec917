/* Feature sets and the choice of the images they describe. */
#include "cli/feature_set.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "common/rng.h"
#include "worker/data/augment.h"

enum { PICK_SEED = 1 }; /* arbitrary; fixed so that numbers of different runs compare */

int feature_set_new(const struct dataset *d, const uint32_t *picked, uint32_t rows, uint32_t width,
                    struct feature_set *out)
{
    *out = (struct feature_set){.rows = rows, .width = width, .classes = d->classes};
    out->x = malloc((size_t)rows * width * sizeof *out->x);
    out->labels = d->labels ? malloc(rows * sizeof *out->labels) : NULL;
    if (!out->x || (d->labels && !out->labels)) {
        feature_set_fini(out);
        return ERR_MEMORY;
    }
    for (uint32_t i = 0; d->labels && i < rows; i++)
        out->labels[i] = d->labels[picked[i]];
    return 0;
}

void feature_set_fini(struct feature_set *s)
{
    free(s->x);
    free(s->labels);
    *s = (struct feature_set){0};
}

uint32_t *feature_set_pick(uint32_t count, uint32_t rows)
{
    ASSERT(rows <= count);
    uint32_t *picked = malloc((size_t)rows * sizeof *picked);
    for (uint32_t i = 0; picked && i < rows; i++)
        picked[i] = (uint32_t)permute(PICK_SEED, 0, i, count);
    return picked;
}

int feature_set_pixels(const struct dataset *d, const uint32_t *picked, uint32_t rows, const struct pixel_scale *scale,
                       struct feature_set *out, struct error *e)
{
    uint32_t pixels = d->height * d->width * d->channels;
    uint8_t *scratch = malloc(pixels);
    const uint8_t *image;
    int rc = feature_set_new(d, picked, rows, pixels, out);
    if (rc != 0 || scratch == NULL)
        rc = error_set(e, ERR_MEMORY, "out of memory for the pixels of %u images", rows);
    for (uint32_t i = 0; rc == 0 && i < rows; i++)
        if ((rc = dataset_image(d, picked[i], scratch, &image, e)) == 0)
            augment_standardise(scale, d->channels, image, pixels, out->x + (size_t)i * pixels);
    free(scratch);
    if (rc != 0)
        feature_set_fini(out);
    return rc;
}

/* mean and 1 / deviation of each column of s. */
static void column_moments(const struct feature_set *s, double *mean, double *scale)
{
    uint32_t F = s->width;
    memset(mean, 0, F * sizeof *mean);
    memset(scale, 0, F * sizeof *scale);
    for (uint32_t i = 0; i < s->rows; i++)
        for (uint32_t f = 0; f < F; f++)
            mean[f] += s->x[(size_t)i * F + f];
    for (uint32_t f = 0; f < F; f++)
        mean[f] /= s->rows;
    for (uint32_t i = 0; i < s->rows; i++)
        for (uint32_t f = 0; f < F; f++) {
            double d = s->x[(size_t)i * F + f] - mean[f];
            scale[f] += d * d;
        }
    for (uint32_t f = 0; f < F; f++)
        scale[f] = 1 / (sqrt(scale[f] / s->rows) + 1e-6);
}

int feature_set_standardise(const struct feature_set *reference, const struct feature_set *s, double **out)
{
    size_t F = s->width;
    ASSERT(reference->width == s->width);
    double *moments = malloc(sizeof(double) * 2 * F), *x = malloc(sizeof(double) * s->rows * F);
    *out = NULL;
    if (!moments || !x) {
        free(moments);
        free(x);
        return ERR_MEMORY;
    }
    column_moments(reference, moments, moments + F);
    for (uint32_t i = 0; i < s->rows; i++)
        for (size_t f = 0; f < F; f++)
            x[i * F + f] = (s->x[i * F + f] - moments[f]) * moments[F + f];
    free(moments);
    *out = x;
    return 0;
}
