#!/usr/bin/env python3
"""Writes loss_terms.json: mean entropy and coding rate of the loss fixtures beside it, in numpy and float64, with the gradients
of -W H - L R for the small ones. It checks each gradient by central differences before it writes. Run it from anywhere."""
import glob, json, os
import numpy as np

HERE = os.path.dirname(os.path.abspath(__file__))
W, L = 2.0, 1.5                                    # weights of the two terms
unit = lambda x: x / np.linalg.norm(x, axis=1, keepdims=True)


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def probabilities(f, Z, C):
    """(2b, blocks, P) of the student: CARP's softmax is within blocks, the others have one block."""
    logits = Z @ C.T / f["tau_s"]
    if f["kind"] != "carp":
        return softmax(logits)[:, None, :]
    return softmax(logits[:, f["perm"]].reshape(len(Z), f["R"], f["P"]))


def entropy(f, Z, C):
    mean = probabilities(f, Z, C).mean(0)
    return -(mean * np.log(mean)).sum(-1).mean()


def rate(Z, eps):
    m, p = Z.shape
    return (p + m) / (p * m) * np.linalg.slogdet(np.eye(p) + p / (m * eps) * Z.T @ Z)[1]


def embed(f, zs):
    return unit(zs) if f.get("znorm", 1) else zs


def total(f, zs, C, eps):
    Z = embed(f, zs)
    return -W * entropy(f, Z, C) - L * rate(Z, eps)


def gradients(f, zs, C, eps):
    Z, rows = embed(f, zs), len(zs)
    m, p = Z.shape
    P = probabilities(f, Z, C)
    log_mean = np.log(P.mean(0))
    d = W / (rows * P.shape[1] * f["tau_s"]) * P * (log_mean - (P * log_mean).sum(-1, keepdims=True))
    dl = np.empty((rows, len(C)))
    dl[:, f["perm"] if f["kind"] == "carp" else slice(None)] = d.reshape(rows, -1)
    dZ = dl @ C - L * (p + m) / (p * m) * 2 * p / (m * eps) * Z @ np.linalg.inv(np.eye(p) + p / (m * eps) * Z.T @ Z)
    if f.get("znorm", 1):
        dZ = (dZ - Z * (dZ * Z).sum(1, keepdims=True)) / np.linalg.norm(zs, axis=1, keepdims=True)
    return dZ, dl.T @ Z


def check(value, x, gradient):
    for i in np.ndindex(x.shape):
        h, kept = 1e-5, x[i]
        x[i] = kept + h
        above = value()
        x[i] = kept - h
        below = value()
        x[i] = kept
        assert abs((above - below) / (2 * h) - gradient[i]) < 1e-7 * max(1, abs(gradient).max()), i


cases = []
for path in sorted(glob.glob(HERE + "/loss_*_B*.json")):
    f = json.load(open(path))
    zs, C = np.array(f["zs"]), np.array(f["C"])
    for eps in (0.5, 0.1):
        Z = embed(f, zs)
        case = dict(fixture=os.path.basename(path), weight_entropy=W, weight_rate=L, epsilon=eps,
                    mean_entropy=entropy(f, Z, C), coding_rate=rate(Z, eps))
        dz, dC = gradients(f, zs, C, eps)
        check(lambda: total(f, zs, C, eps), zs, dz)
        check(lambda: total(f, zs, C, eps), C, dC)
        if f["D"] < 8:
            case.update(grad_zs=dz.tolist(), grad_C=dC.tolist())
        cases.append(case)
json.dump(cases, open(HERE + "/loss_terms.json", "w"), indent=0)
print(len(cases), "cases")
