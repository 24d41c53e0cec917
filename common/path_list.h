/* Several paths in one text: PATH[:PATH]..., where a colon in a path is written "\:" and a backslash before anything
 * else is itself. Used by configuration keys of the type PATHS. */
#ifndef DECANT_COMMON_PATH_LIST_H
#define DECANT_COMMON_PATH_LIST_H

#include <stdbool.h>
#include <stddef.h>

/* Copies the first path; returns the rest of the list, NULL after the last path. A path that does not fit is cut, which
 * no file will have: size beyond the text's length rules it out. */
const char *path_list_next(const char *list, char *path, size_t size);
/* Appends; list is NUL-terminated text in size bytes. False, and the list as it was, when it does not fit. */
bool path_list_append(char *list, size_t size, const char *path);
bool path_list_is_one(const char *list);

#endif
