"""What a snapshot says of one matrix beyond its fractions: curves over k, singular values, the share of each head.

All from the factors: nothing larger than (d, r) or (r, number of directions) is
formed. Figures are rounded to five digits: they are many, and drawn.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from readwrite_edit.geometry import LowRank

_ALL_UP_TO = 1024
_ELSE = 256
HEADS_ROWS = ("q_proj", "k_proj", "v_proj")
HEADS_COLUMNS = ("o_proj",)


def direction_count(d: int, k: int) -> int:
    """How many directions of a side are kept: all up to width 1024, else 256, and never fewer than k."""
    return min(d, max(k, d if d <= _ALL_UP_TO else _ELSE))


def curve_counts(d: int, k: int) -> list[int]:
    """The k of a curve: 1, 2, 4, … as far as directions are kept, the snapshot's own k, and d."""
    kept = direction_count(d, k)
    powers = (1 << exponent for exponent in range(kept.bit_length()))
    return sorted({count for count in powers if count <= kept} | {min(k, d), d})


def energy_curve(second_moment: Tensor, directions: Tensor, counts: Sequence[int]) -> list[float]:
    """The energy null at each count: share of tr(C) in the first so many directions; 1 at the last.

    Args:
        second_moment: C, shape (d, d).
        directions: Eigenvectors of C, strongest first, shape (d, K).
        counts: As ``curve_counts`` gives them.
    """
    shares = (directions * (second_moment @ directions)).sum(dim=0).cumsum(0) / second_moment.trace()
    return at_counts(shares, counts)


@dataclass(frozen=True)
class Detail:
    """One update ΔW = B A, with A seen in coordinates of its own span.

    Attributes:
        update: B, shape (d_out, r), and A in those coordinates, shape (r, r).
        triangle: R of B = Q R: every norm of B M is one of R M.
        lora_a: A itself, shape (r, d_in).
        read: Qᵀ U of the read directions, shape (r, K); Q spans A's rows.
        read_counts: k of the read curve.
        written: V of the prediction subspace, shape (d_out, K), where the matrix writes the residual stream.
        write_counts: k of the write curve.
    """

    update: LowRank
    triangle: Tensor
    lora_a: Tensor
    read: Tensor
    read_counts: Sequence[int]
    written: Tensor | None
    write_counts: Sequence[int]

    def fields(self, role: str, d_head: int) -> dict[str, Any]:
        """The fields of ``geometry.jsonl``; all None of an update that is zero or not finite."""
        core = self.triangle @ self.update.A
        squared_norm = core.square().sum()
        if not 0 < float(squared_norm) < math.inf:
            return dict.fromkeys(("read_curve", "write_curve", "singular_values", "head_norms"))
        heads = self._heads(role, d_head)
        return {
            "read_curve": self._curve((core @ self.read).square().sum(dim=0), squared_norm, self.read_counts),
            "write_curve": None if self.written is None else self._write_curve(self.written, squared_norm),
            "singular_values": rounded(torch.linalg.svdvals(core)),
            "head_norms": None if heads is None else rounded(heads.sqrt()),
        }

    def _write_curve(self, written: Tensor, squared_norm: Tensor) -> list[float]:
        energy = (written.T @ self.update.B @ self.update.A).square().sum(dim=1)
        return self._curve(energy, squared_norm, self.write_counts)

    def _curve(self, energy: Tensor, squared_norm: Tensor, counts: Sequence[int]) -> list[float]:
        return at_counts((energy.cumsum(0) / squared_norm).clamp_max(1.0), counts)

    def _heads(self, role: str, d_head: int) -> Tensor | None:
        """Squared norm of each head: its rows of Q, K and V, its columns of O; None where the role has no heads."""
        if role in HEADS_ROWS:
            energy = (self.update.B @ self.update.A).square().sum(dim=1)
        elif role in HEADS_COLUMNS:
            energy = (self.triangle @ self.lora_a).square().sum(dim=0)
        else:
            return None
        return energy.view(-1, d_head).sum(dim=1) if len(energy) % d_head == 0 else None


def at_counts(cumulative: Tensor, counts: Sequence[int]) -> list[float]:
    """A cumulative share at some counts of directions; 1 at a count beyond those that were kept: there it is d."""
    kept = [count for count in counts if count <= len(cumulative)]
    return rounded(cumulative[torch.tensor(kept) - 1]) + [1.0] * (len(counts) - len(kept))


def rounded(values: Tensor) -> list[float]:
    """Five digits each."""
    return [float(f"{value:.5g}") for value in values.tolist()]
