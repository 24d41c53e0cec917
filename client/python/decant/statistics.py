"""Statistics of an E-step, and the forms in which they travel (docs/PROTOCOL.md, section 5)."""
from __future__ import annotations

import dataclasses

import numpy as np

from . import wire
from .mixture import Mixture


@dataclasses.dataclass
class Statistics:
    """Of N embeddings: embedding i has the components index[start[i]:start[i+1]]."""

    components: int  # K
    covariance: str  # of the mixture
    h: np.ndarray  # (N, D) float32, unit rows
    start: np.ndarray  # (N + 1,) uint32
    index: np.ndarray  # (Z,) uint32
    gamma: np.ndarray  # (Z,) float32, the rows of an embedding adding up to 1
    novel: np.ndarray  # (V,) rows of h that unused components may move to: farthest from every prototype first, or the first
    distance: np.ndarray  # (V,) 1 - their largest cosine
    assigned: np.ndarray  # (N,) uint32: component of the largest responsibility
    loglik: float  # sum of log p(h) at beta = 1
    dropped: float  # mass of responsibilities that were left out

    def message(self) -> tuple[int, dict[str, np.ndarray]]:
        """Encoding and tensors of a STATS message, the smallest of the three forms: factored, and the server multiplies, or the sums,
        where responsibilities are so many that these are less. A server takes no more than all sums have."""
        (N, D), Z = self.h.shape, len(self.gamma)
        used = np.flatnonzero(np.bincount(self.index, minlength=self.components))
        sums, shared = 1 + D + self._square_width(), D * D if self.covariance == "tied" else 0
        dense, rows, factored = self.components * sums + shared, len(used) * (1 + sums) + shared, N * D + N + 1 + 2 * Z  # words
        if factored < min(dense, rows):
            encoding, tensors = wire.FACTORED, {"h": self.h, "start": self.start, "index": self.index, "gamma": self.gamma}
        elif rows < dense:
            encoding, tensors = wire.ROWS, {"index": used.astype(np.uint32), **self._sums(used)}
        else:
            encoding, tensors = wire.DENSE, self._sums(np.arange(self.components))
        return encoding, {**tensors, "novel": self.h[self.novel], "novel_distance": self.distance.astype(np.float32),
                          "assigned": self.assigned}

    def scalars(self) -> dict[str, float]:
        return {"count": float(len(self.h)), "loglik": self.loglik, "dropped": self.dropped}

    def _square_width(self) -> int:
        """Floats of a component's s2."""
        D = self.h.shape[1]
        return {"vmf": 0, "tied": 0, "full": D * D}.get(self.covariance, D)

    def _sums(self, components: np.ndarray) -> dict[str, np.ndarray]:
        """n, s1 and s2 of these components, float32; no other one has any responsibility."""
        h, (N, D), R = self.h, self.h.shape, len(components)
        column = np.zeros(self.components, np.int64)
        column[components] = np.arange(R)
        gamma = np.zeros((N, R), np.float32)
        gamma[np.repeat(np.arange(N), np.diff(self.start)), column[self.index]] = self.gamma
        sums = {"n": gamma.sum(axis=0, dtype=np.float64).astype(np.float32), "s1": gamma.T @ h}
        if self.covariance == "full":
            sums["s2"] = np.stack([((gamma[:, r, None] * h).T @ h).ravel() for r in range(R)])
        elif self.covariance == "tied":
            sums["s2"] = h.T @ h
        elif self.covariance != "vmf":
            sums["s2"] = gamma.T @ (h * h)
        return sums


def sparse(mixture: Mixture, h: np.ndarray, row: np.ndarray, index: np.ndarray, gamma: np.ndarray, novel: np.ndarray,
           distance: np.ndarray, assigned: np.ndarray, loglik: float) -> Statistics:
    """From what is kept of the responsibilities under a mixture, by rows: the rest is made up for, and counted."""
    N = len(h)
    start = np.searchsorted(row, np.arange(N + 1)).astype(np.uint32)
    kept = np.add.reduceat(gamma.astype(np.float64), start[:-1].astype(np.int64))
    gamma = np.minimum(gamma / kept[row], 1.0)
    return Statistics(mixture.components, mixture.covariance, h, start, index.astype(np.uint32), gamma.astype(np.float32), novel,
                      np.clip(distance, 0, 2), assigned.astype(np.uint32), loglik, max(0.0, float(N - kept.sum())))
