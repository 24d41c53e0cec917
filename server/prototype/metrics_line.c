/* Numbers that are whole are written so. */
#include "server/prototype/metrics_line.h"

#include <jansson.h>
#include <stdbool.h>

char *metrics_line(const struct msg *metrics, double time)
{
    json_t *object = json_object();
    json_object_set_new(object, "time", json_real(time));
    json_object_set_new(object, "step", json_integer((json_int_t)metrics->step));
    for (uint32_t i = 0; i < metrics->scalar_count; i++) {
        double v = metrics->scalars[i].value;
        bool whole = v == (double)(json_int_t)v && v < 1e15 && v > -1e15;
        json_object_set_new(object, metrics->scalars[i].name, whole ? json_integer((json_int_t)v) : json_real(v));
    }
    char *line = json_dumps(object, JSON_COMPACT | JSON_REAL_PRECISION(15));
    json_decref(object);
    return line;
}
