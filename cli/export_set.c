/* Picks tensors by the prefixes and names that the two servers write. */
#include "cli/export_set.h"

#include <stdlib.h>
#include <string.h>

const char *const export_names[EXPORT_WHATS] = {
    [EXPORT_TEACHER] = "teacher",       [EXPORT_STUDENT] = "student", [EXPORT_ENCODER] = "encoder",
    [EXPORT_PROTOTYPES] = "prototypes", [EXPORT_MIXTURE] = "mixture",
};

static bool has_name(const struct export_set *s, const char *name)
{
    for (size_t i = 0; i < s->count; i++)
        if (strcmp(s->tensors[i].name, name) == 0)
            return true;
    return false;
}

/* Adds t under `name`, which is part of its own. */
static int add(const struct tensor_view *t, const char *name, struct export_set *out, struct error *e)
{
    if (has_name(out, name))
        return error_set(e, ERR_FORMAT, "two tensors would be named '%s'; use --what encoder", name);
    struct tensor_view *added = &out->tensors[out->count++];
    *added = *t;
    memmove(added->name, name, strlen(name) + 1);
    return 0;
}

/* Tensors PREFIX.NAME, under NAME or, when `keep`, their own. */
static int add_prefixed(const struct safetensors *f, const char *prefix, bool keep, struct export_set *out,
                        struct error *e)
{
    size_t length = strlen(prefix);
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < f->tensor_count; i++) {
        const char *name = f->tensors[i].name;
        if (strncmp(name, prefix, length) == 0 && name[length] == '.' && name[length + 1] != '\0')
            rc = add(&f->tensors[i], keep ? name : name + length + 1, out, e);
    }
    return rc;
}

static int add_network(const struct checkpoint *c, enum export_what what, struct export_set *out, struct error *e)
{
    static const char *const prefixes[] = {"student", "teacher", "buffer"};
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < 3; i++)
        if (what == EXPORT_ENCODER || i == 2 || strcmp(prefixes[i], export_names[what]) == 0)
            rc = add_prefixed(&c->encoder, prefixes[i], what == EXPORT_ENCODER, out, e);
    return rc;
}

static int add_prototypes(const struct checkpoint *c, struct export_set *out, struct error *e)
{
    struct prototype_set *p = &out->prototypes;
    int rc = prototype_set_load(c, p, e);
    if (rc != 0)
        return rc;
    const struct tensor_view t = {.dtype = DTYPE_F32,
                                  .rank = 2,
                                  .shape = {p->K, p->D},
                                  .data = p->unit,
                                  .size = (size_t)p->K * p->D * sizeof(float)};
    return add(&t, "prototypes", out, e);
}

static int add_mixture(const struct checkpoint *c, struct export_set *out, struct error *e)
{
    static const char *const names[] = {"mean", "variance", "weight", "mass", "usage", "price"};
    int rc = c->has_mixture
                 ? 0
                 : error_set(e, ERR_NOT_FOUND, "%s has no mixture; a joint run has --what prototypes", c->directory);
    for (size_t i = 0; rc == 0 && i < c->mixture.tensor_count; i++)
        for (size_t k = 0; rc == 0 && k < sizeof names / sizeof names[0]; k++)
            if (strcmp(c->mixture.tensors[i].name, names[k]) == 0)
                rc = add(&c->mixture.tensors[i], names[k], out, e);
    return rc;
}

int export_set_make(const struct checkpoint *c, enum export_what what, struct export_set *out, struct error *e)
{
    *out = (struct export_set){0};
    out->tensors = calloc(c->encoder.tensor_count + c->mixture.tensor_count + 1, sizeof *out->tensors);
    if (!out->tensors)
        return error_set(e, ERR_MEMORY, "out of memory for the list of tensors");
    int rc;
    if (what == EXPORT_PROTOTYPES)
        rc = add_prototypes(c, out, e);
    else if (what == EXPORT_MIXTURE)
        rc = add_mixture(c, out, e);
    else
        rc = add_network(c, what, out, e);
    if (rc == 0 && out->count == 0)
        rc = error_set(e, ERR_NOT_FOUND, "%s has no tensor of '%s'", c->directory, export_names[what]);
    if (rc != 0)
        export_set_fini(out);
    return rc;
}

void export_set_fini(struct export_set *s)
{
    free(s->tensors);
    prototype_set_fini(&s->prototypes);
    *s = (struct export_set){0};
}
