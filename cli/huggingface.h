/* Vision transformers in the form of Hugging Face's transformers, ViTModel: a directory with model.safetensors,
 * config.json and preprocessor_config.json. Out of a checkpoint of ours, and back into a file that encoder.init reads.
 *
 *   ours                        theirs                                                     shape there
 *   embed.cls (dim)             embeddings.cls_token                                       (1,1,dim)
 *   embed.positions (T,dim)     embeddings.position_embeddings                             (1,T,dim)
 *   embed.weight (dim,P P C)    embeddings.patch_embeddings.projection.weight              (dim,C,P,P)
 *   embed.bias                  embeddings.patch_embeddings.projection.bias
 *   blockN.norm1, .norm2        encoder.layer.N-1.layernorm_before, .layernorm_after
 *   blockN.qkv (3 dim,dim)      encoder.layer.N-1.attention.attention.query, .key, .value  (dim,dim) each
 *   blockN.out                  encoder.layer.N-1.attention.output.dense
 *   blockN.mlp1, .mlp2          encoder.layer.N-1.intermediate.dense, .output.dense
 *   norm                        layernorm
 *
 * each but the first four with .weight and .bias. The head has no counterpart. */
#ifndef DECANT_CLI_HUGGINGFACE_H
#define DECANT_CLI_HUGGINGFACE_H

#include "cli/checkpoint.h"

struct huggingface_shape {
    uint32_t dim, depth, mlp, patch, channels, tokens; /* tokens: with CLS; mlp: hidden width over dim */
    uint32_t heads;                                    /* 0: not known */
};

/* The teacher of c into the directory `out`, which is made, and in which files of these names are replaced. ERR_CONFIG
 * when it is no transformer with a CLS token, or its images are no squares; other ERR_* with a text. */
int huggingface_export(const struct checkpoint *c, const char *out, struct huggingface_shape *shape, struct error *e);
/* path: such a directory, or a safetensors file, whose names may all have a prefix ("vit."). out: a safetensors file
 * with our names. ERR_FORMAT names what is missing or has another shape. */
int huggingface_import(const char *path, const char *out, struct huggingface_shape *shape, struct error *e);

#endif
