#!/usr/bin/env python3
"""Computes Hugging Face's ViTModel from a directory as `decant export --format huggingface` writes it, and compares with
the features of `decant embed`. Usage: vit_check.py DIRECTORY EMBEDDING.npz

What the model does is as its documentation and source have it: modeling_vit.py of transformers."""
import json
import math
import os
import sys

import numpy as np
from PIL import Image

ERF = np.vectorize(math.erf)


def load(directory):
    with open(os.path.join(directory, "model.safetensors"), "rb") as f:
        raw = f.read()
    n = int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8:8 + n])
    assert header.pop("__metadata__")["format"] == "pt"
    return {k: np.frombuffer(raw[8 + n + v["data_offsets"][0]:8 + n + v["data_offsets"][1]], "<f4").reshape(v["shape"]).astype(float)
            for k, v in header.items()}


def config(directory, name):
    with open(os.path.join(directory, name), encoding="utf-8") as f:
        return json.load(f)


class Model:
    def __init__(self, directory):
        self.w, self.c = load(directory), config(directory, "config.json")
        assert self.c["model_type"] == "vit" and self.c["hidden_act"] == "gelu" and self.c["qkv_bias"]

    def dense(self, x, name):
        return x @ self.w[name + ".weight"].T + self.w[name + ".bias"]

    def norm(self, x, name):
        apart = x - x.mean(-1, keepdims=True)
        return apart / np.sqrt((apart ** 2).mean(-1, keepdims=True) + self.c["layer_norm_eps"]) * self.w[name + ".weight"] + self.w[name + ".bias"]

    def embed(self, pixels):
        kernel, p = self.w["embeddings.patch_embeddings.projection.weight"], self.c["patch_size"]
        n, channels, side, _ = pixels.shape
        assert kernel.shape == (self.c["hidden_size"], channels, p, p) and side == self.c["image_size"]
        patches = pixels.reshape(n, channels, side // p, p, side // p, p).transpose(0, 2, 4, 1, 3, 5).reshape(n, (side // p) ** 2, -1)
        x = patches @ kernel.reshape(len(kernel), -1).T + self.w["embeddings.patch_embeddings.projection.bias"]
        cls = np.broadcast_to(self.w["embeddings.cls_token"], (n, 1, x.shape[2]))
        return np.concatenate([cls, x], 1) + self.w["embeddings.position_embeddings"]

    def attention(self, x, layer):
        n, tokens, dim = x.shape
        heads = self.c["num_attention_heads"]
        q, k, v = (self.dense(x, f"{layer}.attention.attention.{name}").reshape(n, tokens, heads, -1).transpose(0, 2, 1, 3)
                   for name in ("query", "key", "value"))
        scores = q @ k.transpose(0, 1, 3, 2) / math.sqrt(dim / heads)
        e = np.exp(scores - scores.max(-1, keepdims=True))
        mixed = (e / e.sum(-1, keepdims=True)) @ v
        return self.dense(mixed.transpose(0, 2, 1, 3).reshape(n, tokens, dim), f"{layer}.attention.output.dense")

    def forward(self, pixels):
        x = self.embed(pixels)
        for i in range(self.c["num_hidden_layers"]):
            layer = f"encoder.layer.{i}"
            x = x + self.attention(self.norm(x, layer + ".layernorm_before"), layer)
            hidden = self.dense(self.norm(x, layer + ".layernorm_after"), layer + ".intermediate.dense")
            assert hidden.shape[2] == self.c["intermediate_size"]
            x = x + self.dense(hidden * 0.5 * (1 + ERF(hidden / math.sqrt(2))), layer + ".output.dense")
        return self.norm(x, "layernorm")


def main():
    wanted, images = np.load(sys.argv[2]), config(sys.argv[1], "preprocessor_config.json")
    pixels = np.stack([np.asarray(Image.open(name)) for name in wanted["names"]]) * images["rescale_factor"]
    pixels = ((pixels - images["image_mean"]) / images["image_std"]).transpose(0, 3, 1, 2)
    features = Model(sys.argv[1]).forward(pixels)[:, 0]
    worst = (abs(features - wanted["features"]) / (1 + abs(wanted["features"]))).max()
    print(f"features differ by {worst:.2g} at most")
    assert worst < 1e-4 and wanted["features"].std(0).max() > 1e-2, worst


if __name__ == "__main__":
    main()
