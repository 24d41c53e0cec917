/* Element types of tensors (declared in safetensors.h): the one table of their sizes and names. */
#include <string.h>
#include "common/safetensors.h"

static const struct {
    const char *name;
    size_t size;
} dtypes[] = {[DTYPE_F32] = {"F32", 4},
              [DTYPE_F64] = {"F64", 8},
              [DTYPE_U32] = {"U32", 4},
              [DTYPE_U64] = {"U64", 8},
              [DTYPE_U8] = {"U8", 1}};

static const size_t dtype_end = sizeof dtypes / sizeof dtypes[0];

size_t dtype_size(enum dtype t)
{
    return (size_t)t < dtype_end ? dtypes[t].size : 0;
}

const char *dtype_name(enum dtype t)
{
    return (size_t)t < dtype_end && dtypes[t].name != NULL ? dtypes[t].name : "unknown";
}

int dtype_parse(const char *name, enum dtype *out)
{
    for (size_t t = 0; t < dtype_end; t++)
        if (dtypes[t].name != NULL && strcmp(dtypes[t].name, name) == 0) {
            *out = (enum dtype)t;
            return 0;
        }
    return ERR_RANGE;
}
