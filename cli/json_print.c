/* Six significant digits: these are percentages and rates. */
#include "cli/json_print.h"

#include <stdlib.h>
#include <string.h>
#include "common/error.h"

int json_print(json_t *object, FILE *f)
{
    if (!object)
        return ERR_MEMORY;
    int rc = json_dumpf(object, f, JSON_COMPACT | JSON_REAL_PRECISION(6)) == 0 && fputc('\n', f) != EOF ? 0 : ERR_IO;
    json_decref(object);
    return rc;
}

json_t *json_print_text(const char *text)
{
    json_t *whole = json_string(text); /* NULL when it is no UTF-8 */
    char *copy = whole ? NULL : strdup(text);
    if (!copy)
        return whole;
    for (char *p = copy; *p; p++)
        if ((unsigned char)*p >= 0x80)
            *p = '?';
    whole = json_string(copy);
    free(copy);
    return whole;
}
