/* A trained encoder as an ONNX file, for engines of other people: the teacher, with everything that happens to
 * pixels.
 *
 *   images (N, channels, height, width) float, 0..1, red first  ->  features (N, F)      the backbone's
 *                                                                   projections (N, D)   the head's, of any length
 *
 * Standardisation by data.mean and data.deviation is part of the graph, and BatchNorm's running statistics are
 * folded into the layer before it. Operators: those of opset 13 that convolutions and transformers commonly need; N
 * is free. */
#ifndef DECANT_CLI_ONNX_EXPORT_H
#define DECANT_CLI_ONNX_EXPORT_H

#include "cli/checkpoint.h"

struct onnx_summary {
    uint32_t height, width, channels, features, projections;
};

/* side: of the images that the file is for, in pixels; 0: that of the run's own, as data.side says, or as they are
 * where that is 0. ERR_CONFIG when neither tells, or the architecture does not take it; other ERR_* with a text. */
int onnx_export(const struct checkpoint *c, uint32_t side, const char *path, struct onnx_summary *out, struct error *e);

#endif
