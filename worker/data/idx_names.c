/* Names are compared without what people put between their words. */
#include "worker/data/idx_names.h"

#include <ctype.h>
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include "common/files.h"
#include "worker/data/limits.h"

static int is_visible(const struct dirent *x)
{
    return x->d_name[0] != '.';
}

static int by_bytes(const struct dirent **a, const struct dirent **b)
{
    return strcmp((*a)->d_name, (*b)->d_name);
}

static bool is_file(const char *directory, const char *name)
{
    char full[DATASET_PATH_MAX];
    struct stat st;
    return path_format(full, sizeof full, "%s/%s", directory, name) == 0 && stat(full, &st) == 0 && S_ISREG(st.st_mode);
}

/* Small letters, and '-' for every sign that people put between the words. */
static void plain(const char *name, char out[256])
{
    snprintf(out, 256, "%s", name);
    for (char *p = out; *p; p++)
        *p = *p == '.' || *p == '_' || *p == ' ' ? '-' : (char)tolower((unsigned char)*p);
}

static bool is_near(const char *name, const char *wanted)
{
    char is[256], stem[16];
    snprintf(stem, sizeof stem, "%.*s", (int)(strstr(wanted, "-idx") - wanted), wanted);
    plain(name, is);
    bool of_idx = strstr(is, "idx") || strstr(is, "ubyte");
    bool of_test = strncmp(stem, "t10k", 4) == 0 && (strstr(is, "test") && strstr(is, stem + 4));
    size_t n = strlen(wanted);
    bool exact = strncmp(name, wanted, n) == 0 && (name[n] == '\0' || strcmp(name + n, ".gz") == 0);
    return of_idx && !exact && (strstr(is, stem) || of_test);
}

bool idx_near_name(const char *directory, const char *wanted, char name[256])
{
    struct dirent **names = NULL;
    int n = scandir(directory, &names, is_visible, by_bytes);
    bool found = false;
    for (int i = 0; i < n && !found; i++) {
        found = is_near(names[i]->d_name, wanted) && is_file(directory, names[i]->d_name);
        if (found)
            snprintf(name, 256, "%s", names[i]->d_name);
    }
    for (int i = 0; i < n; i++)
        free(names[i]);
    free(names);
    return found;
}
