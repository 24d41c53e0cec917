/* Splitting and joining; see path_list.h. */
#include "common/path_list.h"

#include <string.h>

const char *path_list_next(const char *list, char *path, size_t size)
{
    size_t used = 0;
    for (; *list != '\0' && *list != ':'; list++) {
        if (list[0] == '\\' && list[1] == ':')
            list++;
        if (used + 1 < size)
            path[used++] = *list;
    }
    path[used] = '\0';
    return *list == ':' ? list + 1 : NULL;
}

bool path_list_append(char *list, size_t size, const char *path)
{
    size_t start = strlen(list), used = start;
    bool fits = true;
    if (start > 0)
        list[used++] = ':'; /* in the place of the NUL */
    for (; *path != '\0' && fits; path++) {
        fits = used + 3 < size;
        if (fits && *path == ':')
            list[used++] = '\\';
        if (fits)
            list[used++] = *path;
    }
    fits = fits && used < size;
    list[fits ? used : start] = '\0';
    return fits;
}

bool path_list_is_one(const char *list)
{
    char none[1];
    return path_list_next(list, none, sizeof none) == NULL;
}
