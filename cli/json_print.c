/* Six significant digits: these are percentages and rates. */
#include "cli/json_print.h"

int json_print(json_t *object, FILE *f)
{
    if (!object)
        return ERR_MEMORY;
    int rc = json_dumpf(object, f, JSON_COMPACT | JSON_REAL_PRECISION(6)) == 0 && fputc('\n', f) != EOF ? 0 : ERR_IO;
    json_decref(object);
    return rc;
}
