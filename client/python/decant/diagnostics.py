"""Have the prototypes collapsed? The figures that the server shows, of any prototypes."""
from __future__ import annotations

import collections
from typing import Any

import numpy as np


def unique_percent(prototypes: np.ndarray, eps: float) -> float:
    """Percent of the prototypes in a greedy cover, in the order of their index: one counts when it is farther than eps, as a cosine
    distance, from all that count before it. 100 when no two are near, 100 / K when all are one."""
    rows = np.asarray(prototypes, np.float64)
    rows = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-30)
    free = np.ones(len(rows), bool)
    counted = 0
    for k, row in enumerate(rows):
        if free[k]:
            counted += 1
            free &= 1 - rows @ row >= eps
    return 100.0 * counted / len(rows)


class ActivePercent:
    """Percent of K components that were the largest responsibility, or logit, of some of the newest embeddings."""

    def __init__(self, components: int, embeddings: int = 50000) -> None:
        self.components, self.embeddings = components, embeddings
        self._batches: collections.deque[np.ndarray] = collections.deque()
        self._held = 0

    def add(self, assigned: Any) -> None:
        """(N,) components."""
        batch = np.asarray(assigned, np.int64).ravel()
        self._batches.append(batch)
        self._held += len(batch)
        while self._held - len(self._batches[0]) >= self.embeddings:
            self._held -= len(self._batches.popleft())

    def __call__(self) -> float:
        seen: set[int] = set()
        for batch in self._batches:
            seen.update(np.unique(batch).tolist())
        return 100.0 * len(seen) / self.components
