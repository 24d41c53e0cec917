#include "server/prototype/seeding_file.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include "common/vecmath.h"

static const char rows_name[] = "init_rows", distance_name[] = "init_distance", seeds_name[] = "init_seeds";
static const double unit_tolerance = 0.01; /* of a row's squared length, as statistics have it */

static struct tensor_view tensor_of(const char *name, enum dtype dtype, uint64_t rows, uint64_t width, const void *data)
{
    struct tensor_view t = {.dtype = dtype, .rank = width > 0 ? 2 : 1, .shape = {rows, width}, .data = data};
    snprintf(t.name, sizeof t.name, "%s", name);
    t.size = rows * (width > 0 ? width : 1) * dtype_size(dtype);
    return t;
}

size_t seeding_to_tensors(const struct seeding *s, struct tensor_view *out)
{
    size_t n = 0;
    out[n++] = tensor_of(rows_name, DTYPE_F32, s->gathered, s->D, s->rows);
    if (s->chosen > 0) {
        out[n++] = tensor_of(distance_name, DTYPE_F32, s->gathered, 0, s->distance);
        out[n++] = tensor_of(seeds_name, DTYPE_U32, s->chosen, 0, s->seeds);
    }
    return n;
}

static const struct tensor_view *find(const struct safetensors *f, const char *name)
{
    for (size_t i = 0; i < f->tensor_count; i++)
        if (strcmp(f->tensors[i].name, name) == 0)
            return &f->tensors[i];
    return NULL;
}

static int check_rows(const struct seeding *s, struct error *e)
{
    for (uint32_t i = 0; i < s->gathered; i++)
        if (!(fabs(vec_sum_squares(s->rows + (size_t)i * s->D, s->D) - 1) <= unit_tolerance))
            return error_set(e, ERR_FORMAT, "row %u of %s is not of unit length", i, rows_name);
    return 0;
}

static int check_seeds(const struct seeding *s, struct error *e)
{
    for (uint32_t i = 0; i < s->options.N; i++)
        if (!(s->distance[i] >= 0) || !isfinite(s->distance[i]))
            return error_set(e, ERR_FORMAT, "%s of row %u is %g", distance_name, i, (double)s->distance[i]);
    for (uint32_t k = 0; k < s->chosen; k++)
        if (s->seeds[k] >= s->options.N)
            return error_set(e, ERR_FORMAT, "%s names row %u of %u", seeds_name, s->seeds[k], s->options.N);
    return 0;
}

static int read_rows(const struct safetensors *f, uint64_t rows, struct seeding *s, struct error *e)
{
    const uint64_t shape[2] = {rows, s->D};
    const struct tensor_view *t = safetensors_find(f, rows_name, DTYPE_F32, 2, shape, e);
    if (t == NULL)
        return ERR_FORMAT;
    memcpy(s->rows, t->data, t->size);
    s->gathered = (uint32_t)rows;
    return check_rows(s, e);
}

/* When all are chosen the file has none of this. */
static int read_seeds(const struct safetensors *f, struct seeding *s, struct error *e)
{
    const struct tensor_view *seeds = find(f, seeds_name);
    const uint64_t rows = s->options.N;
    if (seeds == NULL)
        return 0;
    const struct tensor_view *distance = safetensors_find(f, distance_name, DTYPE_F32, 1, &rows, e);
    if (distance == NULL)
        return ERR_FORMAT;
    if (seeds->dtype != DTYPE_U32 || seeds->rank != 1 || seeds->shape[0] >= s->K || s->gathered < s->options.N)
        return error_set(e, ERR_FORMAT, "%s does not fit %u components and %" PRIu32 " of %u rows", seeds_name, s->K,
                         s->gathered, s->options.N);
    memcpy(s->distance, distance->data, distance->size);
    s->chosen = (uint32_t)seeds->shape[0];
    memcpy(s->seeds, seeds->data, seeds->size);
    return check_seeds(s, e);
}

int seeding_from_file(const struct safetensors *f, uint64_t rows, struct seeding **s, struct error *e)
{
    if (find(f, rows_name) == NULL) {
        seeding_free(s);
        return 0;
    }
    int rc = read_rows(f, rows, *s, e);
    return rc == 0 ? read_seeds(f, *s, e) : rc;
}
