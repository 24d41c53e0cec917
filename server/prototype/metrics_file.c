/* Appending of metric lines. */
#include "server/prototype/metrics_file.h"

#include <errno.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "common/files.h"
#include "common/log.h"

struct prototype_metrics {
    FILE *stream;
    bool failing; /* the newest write failed */
};

int prototype_metrics_open(const char *out, struct prototype_metrics **file, struct error *e)
{
    char path[1280];
    *file = NULL;
    if (path_format(path, sizeof path, "%s/metrics-prototype.jsonl", out) != 0)
        return error_set(e, ERR_RANGE, "run.out is too long: %s", out);
    struct prototype_metrics *f = calloc(1, sizeof *f);
    if (f == NULL)
        return error_set(e, ERR_MEMORY, "out of memory");
    f->stream = fopen(path, "ae");
    if (f->stream == NULL) {
        free(f);
        return error_set(e, ERR_IO, "%s: %s", path, strerror(errno));
    }
    *file = f;
    return 0;
}

static char *line_of(const struct msg *metrics, double time)
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

void prototype_metrics_append(struct prototype_metrics *f, const struct msg *metrics, double time)
{
    char *line = line_of(metrics, time);
    bool failed = line == NULL || fprintf(f->stream, "%s\n", line) < 0 || fflush(f->stream) != 0;
    if (failed && !f->failing)
        log_warn("event=metrics_not_written text=\"%s\"", strerror(errno));
    f->failing = failed;
    free(line);
}

void prototype_metrics_close(struct prototype_metrics **f)
{
    if (*f == NULL)
        return;
    fclose((*f)->stream);
    free(*f);
    *f = NULL;
}
