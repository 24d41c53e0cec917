/* The shape of a set of prototypes, as pictures need it: their projection on the two directions in which they differ
 * most, how dense they are at each angle there, how evenly they are used, and which lie closest together.
 *
 * The projection: rows of unit length, minus their mean, on the two leading eigenvectors of their covariance.
 * Prototypes that are spread over the sphere make a ring or a disc that is about equally dense all around; copies of
 * each other make spikes. An eigenvector's sign is free: it is chosen so that the picture resembles the one before. */
#ifndef DECANT_CLI_DASHBOARD_SHAPE_H
#define DECANT_CLI_DASHBOARD_SHAPE_H

#include <stdint.h>
#include "cli/prototype_scores.h"
#include "cli/prototype_set.h"
#include "cli/run_source.h"

enum {
    SHAPE_ANGLES = 72,   /* bins of 5 degrees, counter-clockwise from the first direction */
    SHAPE_USAGE = 12,    /* bins of usage, by powers of two around an even share: dashboard_usage_bin */
    SHAPE_PAIRS = 12,    /* closest pairs that are kept */
    SHAPE_DOTS = 2048,   /* prototypes that a picture shows; of more, every n-th */
    SHAPE_K_MAX = 16384, /* pairs and covers cost K^2 D: of more prototypes they are left out */
    SHAPE_D_MAX = 2048,  /* the projection costs D^3: some seconds here */
};

struct shape_pair {
    uint32_t a, b;
    double cosine;
};

struct dashboard_shape {
    uint32_t K, D;     /* 0: nothing known yet */
    uint64_t step;     /* that the prototypes belong to */
    float *x, *y;      /* (K) projections, scaled so that the farthest prototype is at distance 1 */
    double *usage;     /* (K) shares, summing to 1; NULL in a joint run */
    uint32_t *nearest; /* (K), and its cosine; NULL beyond SHAPE_K_MAX */
    float *cosine;
    double *axes;                 /* (2,D) the two directions; kept for the sign of the next */
    double spread[2];             /* share of the variance that lies along each */
    double density[SHAPE_ANGLES]; /* smoothed; 1 everywhere when even */
    uint32_t usage_bins[SHAPE_USAGE];
    struct shape_pair pairs[SHAPE_PAIRS]; /* largest cosine first */
    size_t pair_count;
    double unique[SCORE_EPS]; /* percent; NaN beyond SHAPE_K_MAX */
    double perplexity;        /* of usage; NaN in a joint run */
};

/* Takes usage of the set over (it becomes NULL there). The former content of *s is replaced; on failure it stays.
 * ERR_MEMORY, ERR_RANGE for more dimensions than SHAPE_D_MAX. */
int dashboard_shape_of(struct prototype_set *set, struct dashboard_shape *s, struct error *e);
void dashboard_shape_fini(struct dashboard_shape *s);

/* All prototypes of a run's mirror, to be freed with prototype_set_fini: unit, usage and step only. within_ms: for all
 * of them. ERR_FORMAT when one is absent or malformed, ERR_RANGE for more than SHAPE_K_MAX or SHAPE_D_MAX. */
int dashboard_shape_mirror(struct run_source *s, int within_ms, struct prototype_set *out, struct error *e);

/* Bin of a share of usage, by how many times an even share 1/K it is: 0 none at all, 1 below 1/8, 2 below 1/4, ...
 * 5 from 1 to 2, ... 11 from 64. */
unsigned dashboard_usage_bin(double usage, uint32_t K);

/* Share of all prototypes in the densest eighth of the circle: 1/8 when they are evenly around it. NaN without any. */
double dashboard_shape_spike(const struct dashboard_shape *s);

#endif
