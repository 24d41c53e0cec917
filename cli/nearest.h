/* The rows of a bank that are nearest to each query by cosine. Exact; of equal cosines the earlier row is nearer. */
#ifndef DECANT_CLI_NEAREST_H
#define DECANT_CLI_NEAREST_H

#include <stdint.h>
#include "cli/evaluation_meter.h"

struct nearest_hit {
    float cosine;
    uint32_t row; /* of the bank */
};

struct nearest_search {
    const float *bank, *queries; /* (bank_rows, width), (query_rows, width), all of unit length */
    uint32_t bank_rows, query_rows, width;
    uint32_t k; /* 1 to bank_rows */
    unsigned threads;
    struct evaluation_meter *meter; /* NULL: nobody watches */
};

/* hits (query_rows, k), nearest first. 0 or ERR_MEMORY. */
int nearest_find(const struct nearest_search *s, struct nearest_hit *hits);

#endif
