"""A version of the mixture, as published (docs/PROTOCOL.md, section 6)."""
from __future__ import annotations

import dataclasses
import functools

import numpy as np

from . import wire

COVARIANCES = ("spherical", "diag", "vmf", "full", "tied")  # mixture.covariance, in the order of its numbers on the wire


@dataclasses.dataclass(frozen=True)
class Mixture:
    """Never changes: a newer version is another object, so that whoever holds one may go on with it."""

    generation: int
    version: int
    covariance: str  # one of COVARIANCES
    beta: float  # annealing exponent of the responsibilities
    mean: np.ndarray  # (K, D)
    spread: np.ndarray  # diag: variances (K, D); spherical: (K,); vmf: 1 / kappa (K,); full and tied: W, see whitening
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

    @property
    def variance(self) -> np.ndarray:
        """(K, D); (K,) when spherical; von Mises-Fisher: 1 / kappa (K,)."""
        if _is_matrix(self.covariance):
            raise AttributeError(f"a mixture of {self.covariance} covariances has no variance but whitening")
        return self.spread

    @property
    def whitening(self) -> np.ndarray:
        """Full: (K, D, D), the lower triangular W_k of W_k V_k W_k' = I, V_k being the covariance. Tied: the one (D, D) of all."""
        if not _is_matrix(self.covariance):
            raise AttributeError(f"a mixture with covariance {self.covariance} has no whitening but variance")
        D = self.dimensions
        return self.spread.reshape(-1, D, D) if self.covariance == "full" else self.spread

    @functools.cached_property
    def operands(self) -> tuple[np.ndarray, ...]:
        """What the E-step multiplies by, made once a version: mean / variance (K, D) and, but for von Mises-Fisher, -1/2 / variance,
        (K, D) or (K, 1); full and tied: W and the means W mu (K, D)."""
        if self.covariance == "full":
            return self.whitening, np.matmul(self.whitening, self.mean[:, :, None])[:, :, 0]
        if self.covariance == "tied":
            return self.whitening, self.mean @ self.whitening.T
        variance = self.variance.reshape(self.components, -1)
        return (self.mean / variance,) if self.covariance == "vmf" else (self.mean / variance, -0.5 / variance)

    @functools.cached_property
    def bias(self) -> np.ndarray:
        """(K,): what does not depend on the embedding in a component's log-likelihood."""
        return self.log_const if self.price is None else self.log_const + self.price

    @functools.cached_property
    def log_det(self) -> float:
        """Tied: log det W, which log_const leaves out."""
        return float(np.log(np.diagonal(self.whitening).astype(np.float64)).sum())

    @classmethod
    def full(cls, message: wire.Message, covariance: str) -> "Mixture":
        return cls(message.number("generation"), message.number("step"), covariance, message.scalar("beta", 1.0),
                   *(message.tensors[part].copy() for part in _tensors(covariance)), _price(message))

    def following(self, deltas: list[wire.Message]) -> "Mixture":
        """This version with the deltas of the next ones applied; they are in order and without gaps."""
        if not deltas:
            return self
        parts = [part.copy() for part in (self.mean, self.spread, self.weight, self.log_const)]
        for delta in deltas:
            for name, part in zip(_tensors(self.covariance), parts):
                whole = name == "whitening" and self.covariance == "tied"  # one matrix, with every version
                part[... if whole else delta.tensors["rows"]] = delta.tensors[name]
        return Mixture(self.generation, deltas[-1].number("step"), self.covariance, deltas[-1].scalar("beta", 1.0), *parts,
                       _price(deltas[-1]))


def _is_matrix(covariance: str) -> bool:
    return covariance in ("full", "tied")


def _tensors(covariance: str) -> tuple[str, str, str, str]:
    """Names on the wire of mean, spread, weight and log_const."""
    return "mean", "whitening" if _is_matrix(covariance) else "variance", "weight", "log_const"


def _price(message: wire.Message) -> np.ndarray | None:
    """Every version has those of all components, or none."""
    return message.tensors["price"].copy() if "price" in message.tensors else None
