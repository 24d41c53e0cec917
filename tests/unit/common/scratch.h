/* A scratch directory per test: cmocka setup and teardown. *state is its path. */
#ifndef DECANT_TESTS_UNIT_COMMON_SCRATCH_H
#define DECANT_TESTS_UNIT_COMMON_SCRATCH_H

#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int scratch_setup(void **state)
{
    *state = mkdtemp(strdup("/tmp/decant-test-XXXXXX"));
    return *state == NULL ? -1 : 0;
}

static int scratch_remove_one(const char *path, const struct stat *st, int kind, struct FTW *at)
{
    (void)st, (void)kind, (void)at;
    return remove(path);
}

static int scratch_teardown(void **state)
{
    int rc = nftw(*state, scratch_remove_one, 8, FTW_DEPTH | FTW_PHYS);
    free(*state);
    return rc;
}

/* Writes n bytes to NAME in the scratch directory; path (size 512) receives where. */
static inline void scratch_write(void **state, const char *name, const void *bytes, size_t n, char *path)
{
    snprintf(path, 512, "%s/%s", (const char *)*state, name);
    FILE *f = fopen(path, "we");
    if (f == NULL || (n > 0 && fwrite(bytes, 1, n, f) != n) || fclose(f) != 0)
        abort();
}

#define scratch_test(f) cmocka_unit_test_setup_teardown(f, scratch_setup, scratch_teardown)

#endif
