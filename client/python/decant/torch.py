"""Decoupled prototypes for PyTorch: a module whose buffer follows the server's versions, and losses on its logits.

    prototypes = DecoupledPrototypes(1024, 128, "tcp://127.0.0.1:5711")
    loss_of = CARP(1024, block=256)
    ...
    z_student, z_teacher = student(views), teacher(views)      # (2b, 128) each: view 1, then view 2 of the same images
    prototypes.submit(z_teacher)                               # statistics go out; the newest version is taken over
    loss = loss_of(prototypes(z_student), prototypes(z_teacher).detach())

No gradient reaches the prototypes: they are a buffer, and the mixture behind them is fed by statistics alone.

The losses are those of Decant's own workers: means over all pairs of a row and the other view of its image.
"""
from __future__ import annotations

import threading
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .client import PrototypeClient


class DecoupledPrototypes(nn.Module):
    """Prototypes (K, D) of a server in stream mode, as the buffer `prototypes` with rows of unit length.

    A thread of its own fetches newer versions; they are taken over by `submit` and `refresh` only, so that all logits of a step are of one
    version. `source` is a client, or the address of a server, for which a client is made with the other arguments. The server says
    how many there are: K and D are checked against it.

    Under DistributedDataParallel each process has one of its own, which need not be a part of the wrapped module.
    """

    prototypes: Tensor

    def __init__(self, components: int, dimensions: int, source: PrototypeClient | str, run: str = "", **options: Any) -> None:
        super().__init__()
        self.client = source if isinstance(source, PrototypeClient) else PrototypeClient(source, run, **options)
        self._owns = not isinstance(source, PrototypeClient)
        mixture = self.client.mixture()
        if (mixture.components, mixture.dimensions) != (components, dimensions):
            shape = (mixture.components, mixture.dimensions)
            self.close()
            raise ValueError(f"the server has prototypes of shape {shape}, not {(components, dimensions)}")
        self.register_buffer("prototypes", torch.from_numpy(mixture.prototypes.copy()))
        self.version = mixture.version
        self._lock = threading.Lock()
        self._newest: tuple[int, Tensor] | None = None
        self._stop = threading.Event()
        self._follower = threading.Thread(target=self._follow, args=(mixture.generation, mixture.version), name="decant-follower",
                                          daemon=True)
        self._follower.start()

    def _follow(self, generation: int, version: int) -> None:
        while not self._stop.is_set():
            try:
                mixture = self.client.wait_newer(generation, version, timeout=0.2)
            except TimeoutError:
                continue
            except RuntimeError:
                return  # closed or refused: submit says so
            generation, version = mixture.generation, mixture.version
            prototypes = torch.from_numpy(mixture.prototypes).to(self.prototypes.device)
            with self._lock:
                self._newest = version, prototypes

    def refresh(self) -> int:
        """Takes the newest version over; which that is."""
        with self._lock:
            newest, self._newest = self._newest, None
        if newest is not None:
            self.version = newest[0]
            with torch.no_grad():
                self.prototypes.copy_(newest[1])
        return self.version

    def submit(self, embeddings: Tensor, timeout: float | None = None) -> int:
        """Sends the statistics of embeddings (N, D), of any length, and refreshes. See PrototypeClient.submit."""
        number = self.client.submit(embeddings.detach(), timeout)
        self.refresh()
        return number

    def forward(self, embeddings: Tensor) -> Tensor:
        """Cosines (N, K) of embeddings (N, D) with the prototypes."""
        # A copy: what autograd keeps for the backward pass must not change when a version is taken over before it.
        return F.normalize(embeddings, dim=1) @ self.prototypes.clone().t()

    def close(self, timeout: float = 20.0) -> None:
        """Ends the thread, and the client if it is ours."""
        if hasattr(self, "_stop"):
            self._stop.set()
            self._follower.join()
        if self._owns:
            self.client.close(timeout)


def other_view(rows: Tensor) -> Tensor:
    """Row i of the result is the other view of row i: view 1 stands first, then view 2."""
    return rows.roll(rows.shape[0] // 2, dims=0)


def _check(student: Tensor, teacher: Tensor) -> None:
    if student.shape != teacher.shape or student.dim() != 2 or student.shape[0] % 2:
        raise ValueError(f"logits of shapes {tuple(student.shape)} and {tuple(teacher.shape)}: expected two of (2b, K)")


def _cross_entropy(student: Tensor, targets: Tensor, temperature: float) -> Tensor:
    return -(other_view(targets) * F.log_softmax(student / temperature, dim=1)).sum(dim=1).mean()


class DINO(nn.Module):
    """Cross entropy with the teacher's centred and sharpened softmax (Caron et al., ICCV 2021). The centre is the buffer `center`, an
    average of the teacher's logits, over all processes when there are several."""

    center: Tensor

    def __init__(self, components: int, temperature_student: float = 0.1, temperature_teacher: float = 0.04,
                 center_momentum: float = 0.9) -> None:
        super().__init__()
        self.temperature_student, self.temperature_teacher, self.momentum = temperature_student, temperature_teacher, center_momentum
        self.register_buffer("center", torch.zeros(components))

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        """The loss of logits (2b, K); moves the centre when training."""
        _check(student, teacher)
        teacher = teacher.detach()
        targets = F.softmax((teacher - self.center) / self.temperature_teacher, dim=1)
        if self.training:
            self._move(teacher.mean(dim=0))
        return _cross_entropy(student, targets, self.temperature_student)

    @torch.no_grad()
    def _move(self, mean: Tensor) -> None:
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            torch.distributed.all_reduce(mean)
            mean = mean / torch.distributed.get_world_size()
        self.center.mul_(self.momentum).add_(mean, alpha=1 - self.momentum)


class SwAV(nn.Module):
    """Cross entropy with a balanced assignment of each view by Sinkhorn-Knopp (Caron et al., NeurIPS 2020), within a process."""

    def __init__(self, temperature: float = 0.1, epsilon: float = 0.05, iterations: int = 3) -> None:
        super().__init__()
        self.temperature, self.epsilon, self.iterations = temperature, epsilon, iterations

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        """The loss of logits (2b, K)."""
        _check(student, teacher)
        targets = torch.cat([self.assign(view) for view in teacher.detach().chunk(2)])
        return _cross_entropy(student, targets, self.temperature)

    def assign(self, logits: Tensor) -> Tensor:
        """Rows that sum to 1, columns of about equal mass."""
        q = torch.exp((logits - logits.max()) / self.epsilon)
        for _ in range(self.iterations):
            q = q / (q.sum(dim=0, keepdim=True).clamp_min(1e-30) * q.shape[1])
            q = q / (q.sum(dim=1, keepdim=True).clamp_min(1e-30) * q.shape[0])
        return q * q.shape[0]


class CARP(nn.Module):
    """Consistency within random blocks of the prototypes, and an even use of them (Silva and Ramirez Rivera, NeurIPS 2023)."""

    CLAMP = 2.0 ** -23

    def __init__(self, components: int, block: int = 256, temperature_student: float = 0.1, temperature_teacher: float = 0.1,
                 entropy_weight: float = 3.0) -> None:
        super().__init__()
        if components % block:
            raise ValueError(f"block {block} does not divide {components} components")
        self.components, self.block, self.entropy_weight = components, block, entropy_weight
        self.temperature_student, self.temperature_teacher = temperature_student, temperature_teacher

    def forward(self, student: Tensor, teacher: Tensor, order: Tensor | None = None) -> Tensor:
        """The loss of logits (2b, K). order (K,): which prototypes are in a block; by default drawn anew."""
        _check(student, teacher)
        if order is None:
            order = torch.randperm(self.components, device=student.device)
        p = self._blocks(student, order, self.temperature_student)
        q = self._blocks(teacher.detach(), order, self.temperature_teacher)
        agreement = (p * other_view(q)).sum(dim=2).clamp(self.CLAMP, 1 - self.CLAMP)
        mean = torch.cat([p, q]).mean(dim=0)
        entropy = torch.log(torch.tensor(float(self.block))) + (mean * mean.clamp(self.CLAMP, 1 - self.CLAMP).log()).sum(dim=1)
        return -agreement.log().mean() + self.entropy_weight * entropy.mean()

    def _blocks(self, logits: Tensor, order: Tensor, temperature: float) -> Tensor:
        """(2b, K / P, P), each block a softmax."""
        return F.softmax(logits[:, order].view(logits.shape[0], -1, self.block) / temperature, dim=2)
