"""Sums over tokens that are still being read."""

from __future__ import annotations

import math

import torch
from scipy.sparse.linalg import eigsh
from torch import Tensor

from readwrite_edit.errors import ModelError
from readwrite_edit.geometry import subspace_overlap
from readwrite_edit.statistics.moments import OVERLAP_RANKS, Moments

_SMALL = 1024


class RunningMoments:
    """Σ x xᵀ and Σ x of one vector a token: products in float32, sums in float64.

    Args:
        first_position: Whether the first position of each sequence counts.
        unit_norm: Scale each token's vector to norm 1 first (a zero vector stays).
        halves: Keep the sums of two halves of the text apart, to compare their subspaces; it takes
            twice the memory.
    """

    def __init__(self, *, first_position: bool = True, unit_norm: bool = False, halves: bool = True) -> None:
        self.first_position, self.unit_norm = first_position, unit_norm
        self.rows = [0, 0] if halves else [0]
        self._totals: Tensor | None = None
        self._sum = torch.zeros(())
        self._first_energy = 0.0 if first_position else math.nan

    def add(self, x: Tensor, mask: Tensor, half: int) -> None:
        """Add the tokens of x, (batch, time, d) or the same flattened, that the mask, (batch, time), keeps."""
        x = x.reshape(*mask.shape, x.shape[-1])  # OPT runs its MLP on (batch · time, d)
        if self.unit_norm:
            x = torch.nn.functional.normalize(x.float(), dim=-1)
        if self.first_position:
            self._first_energy += float(x[:, 0].float().double().square().sum())
        else:
            x, mask = x[:, 1:], mask[:, 1:]
        self.add_rows(x[mask] if not mask.all() else x.flatten(0, 1), half)

    def add_rows(self, rows: Tensor, half: int = 0, *, count: int | None = None) -> None:
        """Add tokens, (tokens, d).

        Args:
            rows: One row a token.
            half: Which half of the text they belong to.
            count: Tokens they stand for, where rows of zeros were left out.
        """
        rows = rows.float()
        if self._totals is None:
            dim = rows.shape[1]
            self._totals = torch.zeros(len(self.rows), dim, dim, dtype=torch.float64, device=rows.device)
            self._sum = torch.zeros(dim, dtype=torch.float64, device=rows.device)
        half %= len(self.rows)
        self._totals[half] += rows.T @ rows
        self._sum += rows.sum(dim=0)
        self.rows[half] += rows.shape[0] if count is None else count

    def moment(self, *, centred: bool = False) -> Tensor:
        """C = E[x xᵀ] so far, or the covariance, shape (d, d), float64; for after the first token."""
        moment = self._total() / sum(self.rows)
        mean = self._sum / sum(self.rows)
        return moment - torch.outer(mean, mean) if centred else moment

    def finish(self, subject: str) -> Moments:
        """The finished moments, on the CPU; the sums are given up.

        Args:
            subject: What x is, for messages, such as "the input of site 'a'".

        Raises:
            ModelError: Nothing was added, or the sums are not finite.
        """
        if self._totals is None:
            raise ModelError(f"{subject} was never computed in a forward pass of the model")
        total = self._total()
        if not bool(torch.isfinite(total).all()):
            raise ModelError(f"{subject} is not finite: the weights hold NaN or infinity, or overflow")
        count = sum(self.rows)
        energy = float(total.trace())
        share = self._first_energy / energy if energy else math.nan
        moments = Moments(total.cpu(), (self._sum / count).cpu(), count, share, self._overlap())
        self._totals = None  # an accelerator's memory is needed for what comes next
        return moments

    def _total(self) -> Tensor:
        assert self._totals is not None
        return self._totals.sum(dim=0)

    def _overlap(self) -> dict[int, float]:
        """Overlap of the top-k subspaces of the halves; k must leave each half enough rows."""
        assert self._totals is not None
        dim = self._totals.shape[1]
        ranks = [k for k in OVERLAP_RANKS if k < dim and k <= min(self.rows)]
        if len(self.rows) < 2 or not ranks:
            return {}
        first, second = (_leading(half, max(ranks)) for half in self._totals.cpu())
        return {k: subspace_overlap(first[:, :k], second[:, :k]) for k in ranks}


def _leading(matrix: Tensor, k: int) -> Tensor:
    """Top-k eigenvectors, (d, k), to the accuracy of a diagnosis.

    All of them in float32 where that is quick; Lanczos iteration in float64 where it is not.
    """
    if matrix.shape[0] <= _SMALL:
        return torch.linalg.eigh((matrix / matrix.trace()).float())[1].flip(1)[:, :k]
    start = torch.ones(matrix.shape[0], dtype=torch.float64).numpy()
    values, vectors = eigsh(matrix.numpy(), k=k, which="LA", v0=start)
    return torch.from_numpy(vectors[:, values.argsort()[::-1]].copy())
