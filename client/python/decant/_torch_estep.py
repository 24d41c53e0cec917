"""The E-step on a tensor's device; only what is kept of it comes to the host."""
from __future__ import annotations

import torch

from .estep import NOVEL_MAX, log_likelihoods, smallest_kept
from .mixture import Mixture
from .statistics import Statistics, sparse


@torch.no_grad()
def torch_expectation(embeddings: torch.Tensor, mixture: Mixture, drop: float, top: int, farthest: bool) -> Statistics:
    """See estep.expectation, which is the same in numpy."""
    h = embeddings.detach().to(torch.float32)
    norm = h.norm(dim=1, keepdim=True)
    if not torch.isfinite(norm).all() or (norm == 0).any():
        raise ValueError("embeddings must be finite and not 0")
    h = h / norm

    def here(array) -> torch.Tensor:
        return torch.as_tensor(array, dtype=torch.float32, device=h.device)

    likelihood, shared = log_likelihoods(h, mixture, here)
    loglik = shared + float(torch.logsumexp(likelihood, dim=1).double().sum())
    gamma = torch.softmax(mixture.beta * likelihood, dim=1)
    cosine = (h @ here(mixture.prototypes).T).max(dim=1).values
    novel = (torch.argsort(cosine) if farthest else torch.arange(len(h), device=h.device))[:NOVEL_MAX]
    keep = gamma >= smallest_kept(mixture, drop)
    if 0 < top < mixture.components:
        keep &= gamma >= gamma.topk(top, dim=1).values[:, -1:]
    row, index = torch.nonzero(keep, as_tuple=True)
    return sparse(mixture, *(t.cpu().numpy() for t in (h, row, index, gamma[row, index], novel, 1 - cosine[novel], gamma.argmax(dim=1))), loglik)
