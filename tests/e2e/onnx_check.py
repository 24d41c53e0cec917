#!/usr/bin/env python3
"""Runs an ONNX file of `decant export` on images and compares with the features of `decant embed`.
Usage: onnx_check.py MODEL.onnx EMBEDDING.npz

The file is read from nothing but the description of protobuf and of the operators, and computed by NumPy and, where it is
installed, by OpenCV's engine: both to 1e-4."""
import math
import struct
import sys

import numpy as np
from PIL import Image


def varint(data, at):
    value = shift = 0
    while True:
        value |= (data[at] & 127) << shift
        shift += 7
        at += 1
        if data[at - 1] < 128:
            return value - (1 << 64) if value >> 63 else value, at


def fields(data):
    """{field: [value, ...]} of one message: integers, floats and bytes."""
    out, at = {}, 0
    while at < len(data):
        key, at = varint(data, at)
        if key & 7 == 0:
            value, at = varint(data, at)
        elif key & 7 == 2:
            size, at = varint(data, at)
            value, at = bytes(data[at:at + size]), at + size
            assert len(value) == size
        else:
            assert key & 7 == 5, key
            value, at = struct.unpack_from("<f", data, at)[0], at + 4
        out.setdefault(key >> 3, []).append(value)
    return out


def text(message, field):
    return message[field][0].decode()


def tensor(data):
    m = fields(data)
    kind = {1: "<f4", 7: "<i8"}[m[2][0]]
    return text(m, 8), np.frombuffer(m[9][0], kind).reshape([int(d) for d in m.get(1, [])])


def attribute(data):
    m = fields(data)
    return text(m, 1), {1: lambda: m[2][0], 2: lambda: m[3][0], 7: lambda: m[8]}[m[20][0]]()


def convolution(x, w, b, strides, pads, kernel_shape):
    assert list(w.shape[2:]) == kernel_shape
    x = np.pad(x, ((0, 0), (0, 0), (pads[0], pads[2]), (pads[1], pads[3])))
    windows = np.lib.stride_tricks.sliding_window_view(x, kernel_shape, (2, 3))[:, :, ::strides[0], ::strides[1]]
    y = np.einsum("nchwij,ocij->nohw", windows, w)
    return y if b is None else y + b[:, None, None]


def instance_norm(x, scale, shift, epsilon):
    axes = tuple(range(2, x.ndim))
    wide = (-1,) + (1,) * len(axes)
    mean, variance = x.mean(axes, keepdims=True), x.var(axes, keepdims=True)
    return (x - mean) / np.sqrt(variance + epsilon) * scale.reshape(wide) + shift.reshape(wide)


def pad(x, pads):
    return np.pad(x, list(zip(pads[:x.ndim], pads[x.ndim:])))


def reshape(x, shape):
    return x.reshape([x.shape[i] if d == 0 else d for i, d in enumerate(shape)])


def softmax(x, axis):
    e = np.exp(x - x.max(axis, keepdims=True))
    return e / e.sum(axis, keepdims=True)


def cut(x, first, end, axis):
    return np.take(x, range(int(first[0]), int(end[0])), int(axis[0]))


OPERATORS = {
    "Add": lambda a, b: a + b, "Sub": lambda a, b: a - b, "Mul": lambda a, b: a * b, "Div": lambda a, b: a / b,
    "MatMul": lambda a, b: a @ b, "Relu": lambda x: np.maximum(x, 0), "Erf": np.vectorize(math.erf),
    "Conv": lambda x, w, b=None, **a: convolution(x, w, b, **a), "InstanceNormalization": instance_norm,
    "GlobalAveragePool": lambda x: x.mean((2, 3), keepdims=True), "Gemm": lambda x, w, b, transB: x @ (w.T if transB else w) + b,
    "Sqrt": np.sqrt,
    "Reshape": reshape, "Transpose": lambda x, perm: x.transpose(perm), "Softmax": softmax, "Pad": pad, "Slice": cut,
}


def run(graph, images):
    values = {"images": images.astype(np.float64)}
    values.update(tensor(t) for t in graph[5])
    for node in map(fields, graph[1]):
        inputs = [values[name.decode()] for name in node[1]]
        values[text(node, 2)] = OPERATORS[text(node, 4)](*inputs, **dict(map(attribute, node.get(5, []))))
    return values["features"], values["projections"]


def compare(who, found, wanted, tolerance):
    f, z = found
    z = z / np.linalg.norm(z, axis=1, keepdims=True)
    for name, a, b in (("features", f, wanted["features"]), ("projections", z, wanted["projections"])):
        assert a.shape == b.shape, (a.shape, b.shape)
        worst = (abs(a - b) / (1 + abs(b))).max()
        print(f"{who}: {name} differ by {worst:.2g} at most")
        assert worst < tolerance, (who, name, worst)


def main():
    with open(sys.argv[1], "rb") as f:
        model = fields(f.read())
    assert model[1] == [7] and fields(model[8][0])[2] == [13], "IR version and opset"
    graph = fields(model[7][0])
    wanted = np.load(sys.argv[2])
    images = np.stack([np.asarray(Image.open(name)) for name in wanted["names"]]).astype(np.float32) / 255
    images = np.ascontiguousarray(images.reshape(images.shape[:3] + (-1,)).transpose(0, 3, 1, 2))
    assert wanted["features"].std(0).max() > 1e-2, "features that tell images apart"
    compare("NumPy", run(graph, images), wanted, 1e-4)
    try:
        import cv2
    except ImportError:
        print("OpenCV is not installed")
        return
    for n in (1, len(images)):
        net = cv2.dnn.readNetFromONNX(sys.argv[1])
        net.setInput(images[:n], "images")
        compare("OpenCV", net.forward(["features", "projections"]), {k: wanted[k][:n] for k in ("features", "projections")}, 1e-4)


if __name__ == "__main__":
    main()
