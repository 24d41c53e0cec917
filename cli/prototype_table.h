/* One row per prototype, read from a run's mirror or checkpoint. */
#ifndef DECANT_CLI_PROTOTYPE_TABLE_H
#define DECANT_CLI_PROTOTYPE_TABLE_H

#include "cli/run_source.h"

/* Values that the source does not have are NaN, nearest then UINT32_MAX. */
struct prototype_row {
    uint32_t index;
    double weight;    /* share of the total mass */
    double mass;      /* N_k */
    double usage;     /* average share of the embeddings */
    uint32_t nearest; /* the other prototype of largest cosine */
    double cosine;    /* that cosine */
};

enum prototype_order { ORDER_INDEX, ORDER_WEIGHT /* largest first */, ORDER_NEAREST /* largest cosine first */ };

/* rows: *count of them, free() it. */
int prototype_table_read(struct run_source *s, struct prototype_row **rows, uint32_t *count, struct error *e);
void prototype_table_sort(struct prototype_row *rows, uint32_t count, enum prototype_order order);

#endif
