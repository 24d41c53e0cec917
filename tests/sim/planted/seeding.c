/* Planted: a checkpoint, and whoever resumes from it, has the newest embedding twice that k-means++ has gathered. */
#include <string.h>
#include "server/prototype/seeding.h"

void __real_seeding_copy(struct seeding *to, const struct seeding *from);
void __wrap_seeding_copy(struct seeding *to, const struct seeding *from);

void __wrap_seeding_copy(struct seeding *to, const struct seeding *from)
{
    size_t D = from->D;
    __real_seeding_copy(to, from);
    if (from->gathered > 1)
        memcpy(to->rows + (from->gathered - 2) * D, to->rows + (from->gathered - 1) * D, D * sizeof *to->rows);
}
