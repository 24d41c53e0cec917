/* (7) Re-seeding by novelty: the least used components move, greedily, to embeddings that are far from every
 * prototype. */
#ifndef DECANT_SERVER_PROTOTYPE_MIXTURE_RESEED_H
#define DECANT_SERVER_PROTOTYPE_MIXTURE_RESEED_H

#include "server/prototype/mixture.h"

/* After the step's fold. Fills m->reseeds and counts; rows that moved have their updated_step set. distance (V):
 * scratch, starting as sent. */
void mixture_reseed(struct mixture *m, const struct stats_rows *s, float *distance, uint32_t version);

#endif
