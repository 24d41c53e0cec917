"""The E-step: responsibilities of embeddings under a version of the mixture. Formulas: docs/PROTOCOL.md, section 5."""
from __future__ import annotations

from typing import Any, Callable

import numpy as np

from .mixture import Mixture
from .statistics import Statistics, sparse

NOVEL_MAX = 8  # candidates for re-seeding: a server moves a few components in a version


def _is_torch(array: Any) -> bool:
    return type(array).__module__.split(".")[0] == "torch"


def unit_rows(h: np.ndarray) -> np.ndarray:
    norm = np.linalg.norm(h, axis=1, keepdims=True)
    if not np.isfinite(norm).all() or (norm == 0).any():
        raise ValueError("embeddings must be finite and not 0")
    return h / norm


def log_likelihoods(h: Any, mixture: Mixture, here: Callable[[np.ndarray], Any]) -> tuple[Any, float]:
    """Log-likelihoods (N, K) of unit rows h (N, D), numpy or torch, without what is the same for all components of an embedding; and the
    sum of that over the embeddings. `here` brings an array of the mixture to where h is."""
    operands, bias = tuple(map(here, mixture.operands)), here(mixture.bias)
    if mixture.covariance == "vmf":
        return h @ operands[0].T + bias, 0.0
    shared = -0.5 * h.shape[0] * h.shape[1] * float(np.log(2 * np.pi))
    if mixture.covariance == "full":
        return bias - 0.5 * _square_distances(h, *operands), shared
    if mixture.covariance == "tied":
        W, means = operands
        whitened = h @ W.T
        shared += h.shape[0] * mixture.log_det - 0.5 * float((whitened * whitened).sum())
        return whitened @ means.T + (bias - 0.5 * (means * means).sum(axis=1)), shared
    by_mean, by_square = operands
    square = h * h if by_square.shape[1] > 1 else (h * h).sum(axis=1)[:, None]
    return h @ by_mean.T + square @ by_square.T + bias, shared


def _square_distances(h: Any, W: Any, means: Any) -> Any:
    """|W_k h_i - means_k|^2 (N, K) for triangles W (K, D, D): a row of all triangles at a time, so that nothing of size N K D is held, and
    only as far as its diagonal. Squares are added, none subtracted: narrow components lose no digits."""
    total = 0
    for d in range(h.shape[1]):
        y = h[:, :d + 1] @ W[:, d, :d + 1].T - means[:, d]
        y *= y
        total += y
    return total


def smallest_kept(mixture: Mixture, drop: float) -> float:
    """Of responsibilities: each embedding keeps one, and none that is too small for a float of full precision."""
    return max(min(drop, 0.5 / mixture.components), float(np.finfo(np.float32).tiny))


def expectation(embeddings: Any, mixture: Mixture, drop: float = 1e-6, top: int = 0, farthest: bool = True) -> Statistics:
    """Statistics of embeddings (N, D), numpy or torch; a tensor is worked on where it is. They are brought to unit length.

    Responsibilities below `drop`, and, with `top`, those that are not among an embedding's largest so many, are left out.
    Candidates for re-seeding are the embeddings farthest from every prototype, or the first ones (`mixture.reseed_choice`)."""
    if embeddings.ndim != 2 or embeddings.shape[1] != mixture.dimensions or embeddings.shape[0] == 0:
        raise ValueError(f"embeddings have shape {tuple(embeddings.shape)}, expected (N, {mixture.dimensions})")
    if _is_torch(embeddings):
        from ._torch_estep import torch_expectation
        return torch_expectation(embeddings, mixture, drop, top, farthest)
    h = unit_rows(np.asarray(embeddings, np.float32))
    likelihood, shared = log_likelihoods(h, mixture, lambda array: array)
    peak = likelihood.max(axis=1, keepdims=True)
    mass = np.exp(likelihood - peak)
    loglik = shared + float(np.sum(peak[:, 0] + np.log(mass.sum(axis=1)), dtype=np.float64))
    gamma = mass if mixture.beta == 1 else np.exp(mixture.beta * (likelihood - peak))
    gamma /= gamma.sum(axis=1, keepdims=True)
    cosine = (h @ mixture.prototypes.T).max(axis=1)
    novel = (np.argsort(cosine, kind="stable") if farthest else np.arange(len(h)))[:NOVEL_MAX]
    keep = gamma >= smallest_kept(mixture, drop)
    if 0 < top < mixture.components:
        keep &= gamma >= np.partition(gamma, -top, axis=1)[:, -top, None]
    row, index = np.nonzero(keep)
    return sparse(mixture, h, row, index, gamma[row, index], novel, 1 - cosine[novel], gamma.argmax(axis=1), loglik)
