/* Files for readers that want a path. They live in memory where there is a place for that (/dev/shm), because a disk
 * would be most of the time; $TMPDIR overrides. */
#ifndef DECANT_TESTS_FUZZ_SCRATCH_H
#define DECANT_TESTS_FUZZ_SCRATCH_H

#include <stddef.h>

/* Of a file in a directory that is made at the first call and removed at exit; "" is the directory. Valid until the
 * next call. */
const char *scratch_path(const char *name);
void scratch_put(const char *name, const void *bytes, size_t size);
/* The whole file, which must fit; its size. */
size_t scratch_get(const char *name, void *out, size_t room);
void scratch_empty(void); /* removes the files, not what lies in directories */

/* One file without a name, filled anew at each call; the path to open it by. */
const char *scratch_file(const void *bytes, size_t size);

#endif
