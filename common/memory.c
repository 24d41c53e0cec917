/* Two calls of mallopt. */
#include "common/memory.h"

#include <malloc.h>
#include <stdlib.h>

void memory_keep(void)
{
#ifdef __GLIBC__
    if (getenv("MALLOC_TRIM_THRESHOLD_") || getenv("MALLOC_MMAP_THRESHOLD_") || getenv("GLIBC_TUNABLES"))
        return;
    (void)mallopt(M_TRIM_THRESHOLD, MEMORY_KEPT_BYTES);
    (void)mallopt(M_MMAP_THRESHOLD, MEMORY_PIECE_BYTES);
#endif
}
