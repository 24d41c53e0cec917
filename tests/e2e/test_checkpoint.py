#!/usr/bin/python3
"""Checkpoints are safetensors that Python reads from the format's description alone: struct, json and numpy."""
import json
import os
import struct
import subprocess
import sys
import tempfile

import numpy

BUILD = os.path.realpath(os.environ.get("BUILD", "build"))
K, D, STEPS = 64, 16, 12
DTYPES = {"F32": "<f4", "F64": "<f8", "U32": "<u4", "U64": "<u8", "U8": "u1"}
results = []


def check(name, condition):
    results.append(bool(condition))
    print(("ok    " if condition else "FAIL  ") + name)


def read(path):
    """The tensors by name and the metadata; every rule of the format is checked on the way."""
    data = open(path, "rb").read()
    (n,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + n])
    metadata = header.pop("__metadata__")
    body, tensors, expected = data[8 + n :], {}, 0
    for name, t in header.items():
        begin, end = t["data_offsets"]
        assert begin == expected, f"{name}: a gap at {begin}"
        expected = end
        tensors[name] = numpy.frombuffer(body[begin:end], DTYPES[t["dtype"]]).reshape(t["shape"])
    assert expected == len(body), "bytes after the last tensor"
    assert all(isinstance(v, str) for v in metadata.values())
    return tensors, metadata


def train(out, *settings):
    command = [BUILD + "/bin/decant", "train", "--run", "e2e", "--out", out, "--no-eval", "--no-redis"]
    options = ["run.steps=%d" % STEPS, "mixture.components=%d" % K, "mixture.dimensions=%d" % D, "loss.block=32",
               "head.hidden=32", "data.limit=1024", "run.slot_size=8", "encoder.widths=8,16", *settings]
    for option in options:
        command += ["--set", option]
    subprocess.run(command, check=True, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL, timeout=120)
    return out + "/checkpoints/step-%06d/" % STEPS


def version():
    """What `decant version` says: "decant 1.2.3, protocol 1"."""
    text = subprocess.run([BUILD + "/bin/decant", "version"], check=True, capture_output=True, text=True).stdout
    return text.split()[1].rstrip(",")


def finite(tensors):
    return all(numpy.isfinite(t).all() for t in tensors.values() if t.dtype.kind == "f")


def check_encoder(directory, joint):
    kind = "joint" if joint else "decoupled"
    encoder, meta = read(directory + "encoder.safetensors")
    manifest = json.loads(encoder["manifest"].tobytes())
    check(kind + " encoder: finite", finite(encoder))
    check(kind + " encoder: step", int(meta["step"]) == STEPS)
    check(kind + " encoder: version", meta["version"] == version())
    for prefix in ("student", "teacher", "adam_m", "adam_v"):
        check(kind + " encoder: %s tensors have the manifest's shapes" % prefix,
              all(list(encoder[prefix + "." + p["name"]].shape) == p["shape"] for p in manifest["parameters"]))
    check(kind + " encoder: buffers",
          all(list(encoder["buffer." + b["name"]].shape) == b["shape"] for b in manifest["buffers"]))
    check(kind + " encoder: the configuration is inside", b"components = %d" % K in encoder["config_ini"].tobytes())
    check(kind + " encoder: trained", any(numpy.abs(encoder["student." + p["name"]] - encoder["teacher." + p["name"]]).max() > 0
                                          for p in manifest["parameters"]))
    return encoder


def check_mixture(directory):
    mixture, meta = read(directory + "mixture.safetensors")
    check("mixture: finite", finite(mixture))
    check("mixture: step", int(meta["step"]) == STEPS)
    check("mixture: version", meta["version"] == version())
    shapes = {"mean": (K, D), "variance": (K, D), "weight": (K,), "mass": (K,), "usage": (K,), "s1": (K, D), "s2": (K, D)}
    check("mixture: shapes", all(mixture[name].shape == shape for name, shape in shapes.items()))
    check("mixture: mean = s1 / mass", numpy.allclose(mixture["mean"], mixture["s1"] / mixture["mass"][:, None], atol=1e-6))
    check("mixture: variances at or above the floor", (mixture["variance"] >= 1e-3 * (1 - 1e-6)).all())
    check("mixture: weights sum to 1", abs(mixture["weight"].sum() - 1) < 1e-5)


def main():
    with tempfile.TemporaryDirectory(prefix="decant-e2e-") as work:
        decoupled = train(work + "/decoupled")
        check_encoder(decoupled, joint=False)
        check_mixture(decoupled)
        joint = check_encoder(train(work + "/joint", "loss.prototypes=joint"), joint=True)
        check("joint: prototypes are unit rows",
              numpy.allclose(numpy.linalg.norm(joint["student.prototypes"], axis=1), 1, atol=1e-5))
    print("%d passed, %d failed" % (sum(results), len(results) - sum(results)))
    sys.exit(0 if all(results) else 1)


main()
