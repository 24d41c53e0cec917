/* The linear probe: multinomial logistic regression on standardised features, trained to convergence with L-BFGS. */
#ifndef DECANT_CLI_LINEAR_PROBE_H
#define DECANT_CLI_LINEAR_PROBE_H

#include "cli/accuracy.h"
#include "cli/evaluation_meter.h"
#include "cli/feature_set.h"

struct linear_probe_options {
    double decay;        /* loss = mean cross-entropy + decay |W|^2 */
    uint32_t iterations; /* of L-BFGS, at most */
    unsigned threads;
    struct evaluation_meter *meter;
};

/* Trains on `bank`, standardised with its own mean and deviation, and says how many of `queries` it labels
 * right. Same width and classes in both sets, neither empty. 0 or ERR_MEMORY. */
int linear_probe_accuracy(const struct feature_set *bank, const struct feature_set *queries,
                          struct linear_probe_options o, struct accuracy *out);

#endif
