/* Copies the encoder's keys into a model_spec; the only parsing is the list of channel widths. */
#include "worker/model_spec.h"

#include <stdlib.h>
#include <string.h>
#include "common/kernels.h"

enum { WIDTH_MAX = 65536 }; /* channels of a stage; far beyond what fits in memory here */

static int parse_widths(const char *text, struct model_spec *out, struct error *e)
{
    const char *p = text;
    out->stages = 0;
    while (out->stages < CONV_STAGES_MAX) {
        char *end;
        long width = strtol(p, &end, 10);
        if (end == p || width < 1 || width > WIDTH_MAX)
            break;
        out->widths[out->stages++] = (uint32_t)width;
        if (*end == '\0')
            return 0;
        if (*end != ',')
            break;
        p = end + 1;
    }
    return error_set(e, ERR_CONFIG, "encoder.widths = '%s': expected 1 to %d numbers in 1..%d, separated by commas",
                     text, CONV_STAGES_MAX, WIDTH_MAX);
}

int model_spec_of(const struct run_config *c, const struct dataset *images, struct model_spec *out, struct error *e)
{
    memset(out, 0, sizeof *out);
    out->family = c->encoder.model;
    out->height = images->height;
    out->width = images->width;
    out->channels = images->channels;
    out->groups = (uint32_t)c->encoder.groups;
    out->patch = (uint32_t)c->encoder.patch;
    out->dim = (uint32_t)c->encoder.dim;
    out->depth = (uint32_t)c->encoder.depth;
    out->heads = (uint32_t)c->encoder.heads;
    out->mlp = (uint32_t)c->encoder.mlp;
    out->pool = c->encoder.pool;
    out->layers = c->encoder.layers;
    out->base = (uint32_t)c->encoder.width;
    out->norm = c->encoder.norm;
    out->hidden = (uint32_t)c->head.hidden;
    out->projection = (uint32_t)c->mixture.dimensions;
    return c->encoder.model == ENCODER_CONV ? parse_widths(c->encoder.widths, out, e) : 0;
}

int model_precision_check(const struct run_config *c, struct error *e)
{
    if (c->encoder.precision == PRECISION_FLOAT32 || kernels_multiply_bf16(kernels_chosen()))
        return 0;
    for (int k = 0; k < KERNELS_COUNT; k++)
        if (kernels_multiply_bf16((enum kernels)k))
            return error_set(e, ERR_CONFIG,
                             "encoder.precision = bf16: the %s kernels, which " KERNELS_VARIABLE
                             " asks for, do not multiply bf16; unset it, or set encoder.precision = float32",
                             kernels_name(kernels_chosen()));
    return error_set(
        e, ERR_CONFIG,
        "encoder.precision = bf16: this processor has neither AVX512_BF16 nor AMX; set encoder.precision = "
        "float32, or train on one that has");
}
