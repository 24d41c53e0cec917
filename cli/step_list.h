/* The steps that a directory holds, oldest first, found without opening their files. */
#ifndef DECANT_CLI_STEP_LIST_H
#define DECANT_CLI_STEP_LIST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "cli/checkpoint.h"

struct step_entry {
    uint64_t step; /* from the directory's name; STEP_UNKNOWN for a step's directory of another name */
    char directory[CHECKPOINT_PATH_MAX];
    bool has_encoder, has_mixture;
};
#define STEP_UNKNOWN UINT64_MAX

struct step_list {
    struct step_entry *items;
    size_t count;
    bool direct; /* the path given was a step's directory itself */
};

/* path: a run's directory, its checkpoints directory, or a step's. ERR_NOT_FOUND when no step is there. */
int step_list_read(const char *path, struct step_list *out, struct error *e);
void step_list_fini(struct step_list *l);
/* NULL when there is none of that step. */
const struct step_entry *step_list_find(const struct step_list *l, uint64_t step);

/* Whether all files of the step are there. A step without a mixture is complete only if its encoder says that the run
 * is joint. */
bool step_entry_complete(const struct step_entry *s);

#endif
