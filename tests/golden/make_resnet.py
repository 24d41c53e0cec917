#!/usr/bin/env python3
"""Writes resnet_group.json and resnet_batch.json: the residual encoder and its head in PyTorch, in float64: outputs,
gradients and running statistics of small networks. Every number that goes in is a hash of its index (value below), so
that the fixtures hold only what comes out. tests/unit/worker/test_resnet_golden.c has the same hash and reads them.
Usage: make_resnet.py (python3-torch)."""
import json
import os

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F

ROWS, HEIGHT, WIDTH, CHANNELS, BASE, GROUPS, HIDDEN, PROJECTION = 6, 8, 11, 3, 4, 2, 9, 5
IMAGES, WEIGHTS, PROBE = 1 << 24, 2 << 24, 3 << 24  # where each array's indices begin
DEPTH = (1, 1, 1, 1)


def value(first, n):
    """n numbers in [-1, 1) of 24 bits, exact in float32: a mixing function of the index."""
    x = np.arange(first, first + n, dtype=np.uint64)
    for shift, factor in ((16, 0x7FEB352D), (15, 0x846CA68B)):
        x = (x ^ (x >> np.uint64(shift))) * np.uint64(factor) & np.uint64(0xFFFFFFFF)
    x ^= x >> np.uint64(16)
    return torch.from_numpy(((x >> np.uint64(8)).astype(np.float64) - 2 ** 23) / 2 ** 23)


class Basic(nn.Module):
    def __init__(self, before, width, stride, norm):
        super().__init__()
        self.conv1, self.norm1 = nn.Conv2d(before, width, 3, stride, 1, bias=False), norm(width)
        self.conv2, self.norm2 = nn.Conv2d(width, width, 3, 1, 1, bias=False), norm(width)
        self.shortcut = self.norm3 = nn.Identity()
        if stride != 1 or before != width:
            self.shortcut, self.norm3 = nn.Conv2d(before, width, 1, stride, bias=False), norm(width)

    def forward(self, x):
        y = F.relu(self.norm1(self.conv1(x)))
        return F.relu(self.norm2(self.conv2(y)) + self.norm3(self.shortcut(x)))


def network(norm):
    stem = nn.Sequential(nn.Conv2d(CHANNELS, BASE, 3, 1, 1, bias=False), norm(BASE), nn.ReLU())
    blocks, before = [], BASE
    for stage, depth in enumerate(DEPTH):
        for i in range(depth):
            blocks.append(Basic(before, BASE << stage, 2 if stage > 0 and i == 0 else 1, norm))
            before = BASE << stage
    encoder = nn.Sequential(stem, *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten())
    head = nn.Sequential(
        nn.Linear(before, HIDDEN), nn.BatchNorm1d(HIDDEN), nn.GELU(),
        nn.Linear(HIDDEN, HIDDEN), nn.BatchNorm1d(HIDDEN), nn.GELU(), nn.Linear(HIDDEN, PROJECTION))
    return encoder.double(), head.double()


def flat(tensor):
    """In the order that Decant keeps: convolutions are (out, rows, columns, in)."""
    return (tensor.permute(0, 2, 3, 1) if tensor.dim() == 4 else tensor).reshape(-1)


def fill(module):
    """Parameters from the hash, in the order of the manifest; returns them."""
    parameters, at = [], 0
    for name, layer in module:
        for tensor in (layer.weight, layer.bias):
            if tensor is None:
                continue
            v = value(at, tensor.numel())
            scaled = 1 + v / 4 if tensor is layer.weight and "norm" in name else v / 2
            with torch.no_grad():
                if tensor.dim() == 4:
                    o, i, h, w = tensor.shape
                    tensor.copy_(scaled.view(o, h, w, i).permute(0, 3, 1, 2))
                else:
                    tensor.copy_(scaled.view(tensor.shape))
            parameters.append((name + (".weight" if tensor is layer.weight else ".bias"), tensor))
            at += tensor.numel()
    return parameters


def layers(encoder, head):
    yield "stem.conv", encoder[0][0]
    yield "stem.norm", encoder[0][1]
    for i in range(sum(DEPTH)):
        block, prefix = encoder[1 + i], f"block{i + 1}."
        for name in ("conv1", "norm1", "conv2", "norm2", "shortcut", "norm3"):
            if not isinstance(getattr(block, name), nn.Identity):
                yield prefix + name, getattr(block, name)
    for i in (0, 3, 6):
        yield f"head.linear{i // 3 + 1}", head[i]
        if i < 6:
            yield f"head.norm{i // 3 + 1}", head[i + 1]


def fixture(norm):
    encoder, head = network(norm)
    parameters = fill(layers(encoder, head))
    images = value(IMAGES, ROWS * HEIGHT * WIDTH * CHANNELS).view(ROWS, HEIGHT, WIDTH, CHANNELS).permute(0, 3, 1, 2)
    features = encoder(images)
    z = head(features)
    (z * value(WEIGHTS, z.numel()).view(z.shape)).sum().backward()
    gradients = {}
    for name, tensor in parameters:
        g = flat(tensor.grad)
        gradients[name] = [float(g.norm()), float(g @ value(PROBE, g.numel()))]
    # After one forward from (0, 1) with momentum 0.1: the contribution is what was mixed in.
    buffers = []
    for _, layer in layers(encoder, head):
        if isinstance(layer, (nn.BatchNorm1d, nn.BatchNorm2d)):
            buffers += (layer.running_mean / 0.1).tolist() + ((layer.running_var - 0.9) / 0.1).tolist()
    encoder.eval(), head.eval()
    for _, layer in layers(encoder, head):
        if isinstance(layer, (nn.BatchNorm1d, nn.BatchNorm2d)):
            layer.running_mean.copy_(value(0, layer.running_mean.numel()) / 4)
            layer.running_var.copy_(1 + value(7, layer.running_var.numel()) / 2)
    evaluated = encoder(images)
    return {"features": flat(features).tolist(), "z": flat(z).tolist(), "gradients": gradients, "buffers": buffers,
            "evaluated": flat(evaluated).tolist(), "evaluated_z": flat(head(evaluated)).tolist()}


def main():
    here = os.path.dirname(os.path.abspath(__file__))
    kinds = {"group": lambda width: nn.GroupNorm(GROUPS, width), "batch": nn.BatchNorm2d}
    for name, norm in kinds.items():
        with open(os.path.join(here, f"resnet_{name}.json"), "w", encoding="utf-8") as f:
            json.dump(fixture(norm), f, indent=0)
            f.write("\n")


if __name__ == "__main__":
    main()
