/* OpenBLAS's threads and kernels; see blas.h. */
#include "common/blas.h"

#include <cblas.h>
#include <limits.h>
#include <stdlib.h>
#include <strings.h>
#include <unistd.h>

void blas_single_threaded(void)
{
    openblas_set_num_threads(1);
}

const char *blas_kernels(void)
{
    return openblas_get_corename();
}

const char *blas_better_kernels(const char *theirs, enum kernels ours)
{
    static const char *const current[] = {"Haswell", "Zen", "Excavator", "SkylakeX", "Cooperlake", "SapphireRapids"};
    for (size_t i = 0; i < sizeof current / sizeof current[0]; i++)
        if (strcasecmp(theirs, current[i]) == 0)
            return NULL;
    if (ours >= KERNELS_AVX512)
        return "SkylakeX";
    return ours == KERNELS_AVX2 ? "Haswell" : NULL;
}

void blas_restart_if_behind(char **argv)
{
    const char *better = blas_better_kernels(blas_kernels(), kernels_chosen()), *told = getenv(BLAS_VARIABLE);
    if (!better || (told && *told))
        return;
    /* Not /proc/self/exe itself: the process would be listed as "exe". */
    char self[PATH_MAX];
    ssize_t length = readlink("/proc/self/exe", self, sizeof self);
    if (length <= 0 || (size_t)length == sizeof self || setenv(BLAS_VARIABLE, better, 1) != 0)
        return;
    self[length] = '\0';
    execv(self, argv);
    unsetenv(BLAS_VARIABLE);
}
