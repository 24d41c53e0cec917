"""A version of the mixture, as published (docs/PROTOCOL.md, section 6)."""
from __future__ import annotations

import dataclasses
import functools

import numpy as np

from . import wire

SPHERICAL, DIAGONAL = 0, 1
_PARTS = ("mean", "variance", "weight", "log_const")


@dataclasses.dataclass(frozen=True)
class Mixture:
    """Never changes: a newer version is another object, so that whoever holds one may go on with it."""

    generation: int
    version: int
    beta: float  # annealing exponent of the responsibilities
    mean: np.ndarray  # (K, D)
    variance: np.ndarray  # (K, D), or (K,) when spherical
    weight: np.ndarray  # (K,)
    log_const: np.ndarray  # (K,)
    price: np.ndarray | None = None  # (K,) nats, of a balanced E-step (mixture.balance)

    @property
    def components(self) -> int:
        return self.mean.shape[0]

    @property
    def dimensions(self) -> int:
        return self.mean.shape[1]

    @functools.cached_property
    def prototypes(self) -> np.ndarray:
        """(K, D) float32: the means at unit length, which losses use."""
        norm = np.linalg.norm(self.mean, axis=1, keepdims=True)
        return (self.mean / np.maximum(norm, 1e-12)).astype(np.float32)

    @functools.cached_property
    def operands(self) -> tuple[np.ndarray, np.ndarray]:
        """mean / variance and -1/2 / variance, (K, D) each, or (K, D) and (K, 1): what the E-step multiplies by."""
        variance = self.variance.reshape(self.components, -1)
        return self.mean / variance, -0.5 / variance

    @functools.cached_property
    def bias(self) -> np.ndarray:
        """(K,): what does not depend on the embedding in a component's log-likelihood."""
        return self.log_const if self.price is None else self.log_const + self.price

    @classmethod
    def full(cls, message: wire.Message) -> "Mixture":
        return cls(message.number("generation"), message.number("step"), message.scalar("beta", 1.0),
                   *(message.tensors[part].copy() for part in _PARTS), _price(message))

    def following(self, deltas: list[wire.Message]) -> "Mixture":
        """This version with the deltas of the next ones applied; they are in order and without gaps."""
        if not deltas:
            return self
        parts = [getattr(self, part).copy() for part in _PARTS]
        for delta in deltas:
            for name, part in zip(_PARTS, parts):
                part[delta.tensors["rows"]] = delta.tensors[name]
        return Mixture(self.generation, deltas[-1].number("step"), deltas[-1].scalar("beta", 1.0), *parts, _price(deltas[-1]))


def _price(message: wire.Message) -> np.ndarray | None:
    """Every version has those of all components, or none."""
    return message.tensors["price"].copy() if "price" in message.tensors else None
