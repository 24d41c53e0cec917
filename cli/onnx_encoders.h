/* The backbone of each encoder family as layers of an ONNX graph: from x, the standardised images (N, channels, height,
 * width), to "features" (N, F). */
#ifndef DECANT_CLI_ONNX_ENCODERS_H
#define DECANT_CLI_ONNX_ENCODERS_H

#include "cli/onnx_layers.h"

void onnx_conv_encoder(struct onnx_layers *x);
void onnx_resnet_encoder(struct onnx_layers *x);
void onnx_vit_encoder(struct onnx_layers *x);

#endif
