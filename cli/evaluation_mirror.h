/* Notes of evaluations in Redis, for those who watch a run there: an entry of the stream decant:<run>:evaluation for
 * each, with the fields of the line in metrics-eval.jsonl (docs/REDIS.md). Written by whoever evaluates, since no
 * server knows of it; like the mirror one way, and best effort. */
#ifndef DECANT_CLI_EVALUATION_MIRROR_H
#define DECANT_CLI_EVALUATION_MIRROR_H

#include "cli/evaluation_note.h"
#include "cli/run_figures.h"
#include "proto/run_config.h"

/* To the Redis of c; does nothing without redis.enabled. The first note of a run takes the place
 * of what another of its name left. Waits 3 s at most. ERR_IO, ERR_FORMAT, ERR_CONFIG with a text. */
int evaluation_mirror_write(const struct run_config *c, const struct evaluation_note *n, struct error *e);
/* The newest note that a mirror holds; out is left empty when there is none. */
void evaluation_mirror_read(struct run_source *s, struct run_figures *out);

#endif
