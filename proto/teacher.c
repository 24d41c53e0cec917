/* One kernel, and the walk over the manifest that a worker needs; the server calls the kernel block by block. */
#include "proto/teacher.h"

#include <string.h>
#include <xxhash.h>
#include "common/kernels.h"

KERNEL(void, teacher_average, (float m, const float *teacher, const float *student, float *to, size_t n),
       (m, teacher, student, to, n))
{
    const float rest = 1.0f - m;
#pragma GCC ivdep
    for (size_t i = 0; i < n; i++)
        to[i] = m * teacher[i] + rest * student[i];
}

void teacher_follow(const struct manifest *manifest, float m, const float *teacher, const float *student, float *to)
{
    for (size_t i = 0; i < manifest->parameter_count; i++) {
        const struct manifest_entry *e = &manifest->parameters[i];
        if (!manifest_entry_is_frozen(e))
            teacher_average(m, teacher + e->offset, student + e->offset, to + e->offset, e->count);
        else if (to != teacher)
            memcpy(to + e->offset, teacher + e->offset, e->count * sizeof(float));
    }
}

double teacher_check(const float *teacher, size_t n)
{
    return (double)(XXH3_64bits(teacher, n * sizeof *teacher) >> 11);
}
