/* What `decant dataset check` says about an image set. */
#ifndef DECANT_CLI_DATASET_REPORT_H
#define DECANT_CLI_DATASET_REPORT_H

#include <stdio.h>
#include "worker/data/dataset.h"

struct dataset_report {
    struct dataset_options options;
    struct dataset train, test;
    struct error test_missing;      /* code 0: there are test images */
    struct dataset_moments moments; /* of the training images */
};

/* Loads both splits. 0 also when only the test images are missing, else the error of the load. */
int dataset_report_make(const struct dataset_options *o, struct dataset_report *out, struct error *e);
void dataset_report_fini(struct dataset_report *r);
uint32_t dataset_report_problems(const struct dataset_report *r); /* of both splits */

void dataset_report_print(const struct dataset_report *r, FILE *f);
int dataset_report_print_json(const struct dataset_report *r, FILE *f);

#endif
