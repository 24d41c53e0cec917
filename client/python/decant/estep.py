"""The E-step: responsibilities of embeddings under a version of the mixture, in the form in which they travel.

Formulas: docs/PROTOCOL.md, section 5. The server multiplies, so what is sent is the embeddings and the responsibilities that matter.
"""
from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from .mixture import Mixture

NOVEL_MAX = 8  # candidates for re-seeding: a server moves a few components in a version


@dataclasses.dataclass
class Statistics:
    """Factored statistics of N embeddings: embedding i has the components index[start[i]:start[i+1]]."""

    h: np.ndarray  # (N, D) float32, unit rows
    start: np.ndarray  # (N + 1,) uint32
    index: np.ndarray  # (Z,) uint32
    gamma: np.ndarray  # (Z,) float32, the rows of an embedding adding up to 1
    novel: np.ndarray  # (V,) rows of h that unused components may move to: farthest from every prototype first, or the first
    distance: np.ndarray  # (V,) 1 - their largest cosine
    assigned: np.ndarray  # (N,) uint32: component of the largest responsibility
    loglik: float  # sum of log p(h) at beta = 1
    dropped: float  # mass of responsibilities that were left out

    def tensors(self) -> dict[str, np.ndarray]:
        return {"h": self.h, "start": self.start, "index": self.index, "gamma": self.gamma, "novel": self.h[self.novel],
                "novel_distance": self.distance.astype(np.float32), "assigned": self.assigned}

    def scalars(self) -> dict[str, float]:
        return {"count": float(len(self.h)), "loglik": self.loglik, "dropped": self.dropped}


def _is_torch(array: Any) -> bool:
    return type(array).__module__.split(".")[0] == "torch"


def unit_rows(h: np.ndarray) -> np.ndarray:
    norm = np.linalg.norm(h, axis=1, keepdims=True)
    if not np.isfinite(norm).all() or (norm == 0).any():
        raise ValueError("embeddings must be finite and not 0")
    return h / norm


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
    by_mean, by_square = mixture.operands
    square = h * h if by_square.shape[1] > 1 else np.sum(h * h, axis=1, keepdims=True)
    likelihood = h @ by_mean.T + square @ by_square.T + mixture.bias
    peak = likelihood.max(axis=1, keepdims=True)
    mass = np.exp(likelihood - peak)
    loglik = float(np.sum(peak[:, 0] + np.log(mass.sum(axis=1)), dtype=np.float64))
    gamma = mass if mixture.beta == 1 else np.exp(mixture.beta * (likelihood - peak))
    gamma /= gamma.sum(axis=1, keepdims=True)
    cosine = (h @ mixture.prototypes.T).max(axis=1)
    novel = (np.argsort(cosine, kind="stable") if farthest else np.arange(len(h)))[:NOVEL_MAX]
    keep = gamma >= min(drop, 0.5 / mixture.components)
    if 0 < top < mixture.components:
        keep &= gamma >= np.partition(gamma, -top, axis=1)[:, -top, None]
    row, index = np.nonzero(keep)
    return sparse(h, row, index, gamma[row, index], novel, 1 - cosine[novel], gamma.argmax(axis=1), loglik)


def sparse(h: np.ndarray, row: np.ndarray, index: np.ndarray, gamma: np.ndarray, novel: np.ndarray, distance: np.ndarray,
           assigned: np.ndarray, loglik: float) -> Statistics:
    """From what is kept of the responsibilities, by rows: the rest is made up for, and counted."""
    N, D = h.shape
    start = np.searchsorted(row, np.arange(N + 1)).astype(np.uint32)
    kept = np.add.reduceat(gamma.astype(np.float64), start[:-1].astype(np.int64))
    gamma = np.minimum(gamma / kept[row], 1.0)
    return Statistics(h, start, index.astype(np.uint32), gamma.astype(np.float32), novel, np.clip(distance, 0, 2),
                      assigned.astype(np.uint32), loglik - 0.5 * N * D * float(np.log(2 * np.pi)), max(0.0, float(N - kept.sum())))
