/* What a user takes out of a checkpoint, under the names that the network gives its tensors: without optimiser moments,
 * sufficient statistics and the other things that only a resumed run needs. */
#ifndef DECANT_CLI_EXPORT_SET_H
#define DECANT_CLI_EXPORT_SET_H

#include "cli/checkpoint.h"
#include "cli/prototype_set.h"

enum export_what {
    EXPORT_TEACHER,    /* NAME: the teacher's parameters, and the running statistics of its layers */
    EXPORT_STUDENT,    /* the same of the student */
    EXPORT_ENCODER,    /* both, as student.NAME, teacher.NAME and buffer.NAME */
    EXPORT_PROTOTYPES, /* prototypes F32 (K,D), rows of unit length */
    EXPORT_MIXTURE,    /* mean, variance, weight, mass, usage */
    EXPORT_WHATS
};
extern const char *const export_names[EXPORT_WHATS]; /* "teacher" ... */

struct export_set {
    struct tensor_view *tensors; /* into the checkpoint, which must stay open, or into prototypes */
    size_t count;
    struct prototype_set prototypes;
};

/* ERR_NOT_FOUND when the checkpoint has nothing of the kind, ERR_FORMAT when it is not what it should be. */
int export_set_make(const struct checkpoint *c, enum export_what what, struct export_set *out, struct error *e);
void export_set_fini(struct export_set *s);

#endif
