/* Copies tensors out of the checkpoint and normalises the rows. */
#include "cli/prototype_set.h"

#include <stdlib.h>
#include <string.h>
#include "common/vecmath.h"

static void *copy_tensor(const struct safetensors *file, const char *name, enum dtype dtype, uint32_t rank,
                         const uint64_t *shape, struct error *e)
{
    const struct tensor_view *t = safetensors_find(file, name, dtype, rank, shape, e);
    void *copy = t ? malloc(t->size) : NULL;
    if (copy)
        memcpy(copy, t->data, t->size);
    else if (t)
        error_set(e, ERR_MEMORY, "out of memory for tensor '%s'", name);
    return copy;
}

static int load_mixture(const struct safetensors *file, const uint64_t shape[2], struct prototype_set *out,
                        struct error *e)
{
    out->unit = copy_tensor(file, "mean", DTYPE_F32, 2, shape, e);
    out->weight = out->unit ? copy_tensor(file, "weight", DTYPE_F32, 1, shape, e) : NULL;
    out->mass = out->weight ? copy_tensor(file, "mass", DTYPE_F64, 1, shape, e) : NULL;
    out->usage = out->mass ? copy_tensor(file, "usage", DTYPE_F64, 1, shape, e) : NULL;
    return out->usage ? 0 : ERR_FORMAT;
}

static int load_joint(const struct safetensors *file, const uint64_t shape[2], struct prototype_set *out,
                      struct error *e)
{
    out->unit = copy_tensor(file, "teacher.prototypes", DTYPE_F32, 2, shape, e);
    return out->unit ? 0 : ERR_FORMAT;
}

int prototype_set_load(const struct checkpoint *c, struct prototype_set *out, struct error *e)
{
    const uint64_t shape[2] = {(uint64_t)c->config.mixture.components, (uint64_t)c->config.mixture.dimensions};
    bool joint = c->config.loss.prototypes == PROTOTYPES_JOINT;
    *out = (struct prototype_set){.K = (uint32_t)shape[0], .D = (uint32_t)shape[1], .step = c->step};
    if (!joint && !c->has_mixture)
        return error_set(e, ERR_NOT_FOUND, "%s: has no mixture.safetensors", c->directory);
    int rc = joint ? load_joint(&c->encoder, shape, out, e) : load_mixture(&c->mixture, shape, out, e);
    if (rc == 0 && !vec_all_finite(out->unit, (size_t)out->K * out->D))
        rc = error_set(e, ERR_FORMAT, "%s: a prototype holds a value that is not finite", c->directory);
    if (rc != 0) {
        prototype_set_fini(out);
        return rc;
    }
    vec_normalise_rows(out->unit, out->K, out->D, NULL);
    return 0;
}

void prototype_set_fini(struct prototype_set *s)
{
    free(s->unit);
    free(s->weight);
    free(s->mass);
    free(s->usage);
    *s = (struct prototype_set){0};
}
