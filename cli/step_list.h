/* The steps that a directory holds, oldest first. Of their files at most one is opened: the newest encoder without a
 * mixture, which says whether the run has mixtures at all. */
#ifndef DECANT_CLI_STEP_LIST_H
#define DECANT_CLI_STEP_LIST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "common/error.h"

enum { CHECKPOINT_PATH_MAX = 1280 };

struct step_entry {
    uint64_t step; /* from the directory's name; STEP_UNKNOWN for a step's directory of another name */
    char directory[CHECKPOINT_PATH_MAX];
    bool has_encoder, has_mixture;
    bool joint; /* it has no mixture, and need not have one: the prototypes are parameters */
};

struct step_list {
    struct step_entry *items;
    size_t count;
    bool direct; /* the path given was a step's directory itself */
};

/* path: a run's directory, its checkpoints directory, or a step's. ERR_NOT_FOUND when no step is there, ERR_IO when
 * that cannot be told, or a file of one may not be read. */
int step_list_read(const char *path, struct step_list *out, struct error *e);
void step_list_fini(struct step_list *l);
/* NULL when there is none of that step. */
const struct step_entry *step_list_find(const struct step_list *l, uint64_t step);

/* Whether all files of the step are there. */
bool step_entry_complete(const struct step_entry *s);

#endif
