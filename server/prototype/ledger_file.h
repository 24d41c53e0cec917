/* The ledger in a checkpoint of the mixture: one more tensor,
 *
 *   ledger U64 (1 + C, 3)   row 0: the largest forgotten name, contributions, lost;
 *                           then each client's name, owner, applied */
#ifndef DECANT_SERVER_PROTOTYPE_LEDGER_FILE_H
#define DECANT_SERVER_PROTOTYPE_LEDGER_FILE_H

#include "common/safetensors.h"
#include "server/prototype/ledger.h"

/* *out points into *rows, which the caller frees. 0 or ERR_MEMORY. */
int ledger_to_tensor(const struct ledger *l, uint64_t **rows, struct tensor_view *out);
/* A new ledger, of which everything is durable. ERR_FORMAT when the file has none, or one that cannot be;
 * ERR_MEMORY. */
int ledger_from_file(const struct safetensors *f, struct ledger **out, struct error *e);

#endif
