/* The mean-entropy term (MSN: Assran et al., "Masked Siamese Networks for Label-Efficient Learning", ECCV 2022): the
 * student's softmax, averaged over the slot, should be spread over all prototypes. Adds w sum_k pbar_k log pbar_k, that
 * is -w H(pbar), to the loss, pbar the mean of the student's rows of both views. With respect to the logits of row i,
 * over tau_s and the number of rows, that is w (p_i (log pbar) - p_i (p_i . log pbar)): the objectives have this form
 * anyway and only need log pbar. The 1 of d(x log x) = log x + 1 cancels in it. */
#include "worker/loss/objective.h"
#include <math.h>

#define MEAN_MIN                                                                                                       \
    REAL(1e-37) /* for the logarithm of what underflowed; p is 0 in all rows there, and so is the gradient */

double mean_entropy_of(const real *sum, size_t rows, size_t n, real *log_mean)
{
    real share = 1 / (real)rows;
    double entropy = 0;
    for (size_t k = 0; k < n; k++) {
        real mean = sum[k] * share;
        double logarithm = log((double)(mean > MEAN_MIN ? mean : MEAN_MIN));
        entropy -= (double)mean * logarithm;
        log_mean[k] = (real)logarithm;
    }
    return entropy;
}
