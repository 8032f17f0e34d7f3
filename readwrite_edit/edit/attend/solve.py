"""How an edited matrix' output must change, so that scores change as wanted."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from readwrite_edit.errors import EditError

_STEPS = 40
_HALVINGS = 7
_NOISE = 4
_LEAST_SHARE = 1e-6  # singular values under this share of the largest are rounding

Read = Callable[[Tensor], tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Solved:
    """The output that meets the constraints.

    Attributes:
        writes: r, shape (d_out,), float64.
        steps: Newton steps that it took; 1 where scores are linear in the output.
    """

    writes: Tensor
    steps: int


def solve_output(
    read: Read, size: int, blocks: Mapping[range, Sequence[int]], change: float, *, rounding: float
) -> Solved:
    """The shortest r of each block that changes every score by ``change``; Newton's method where that is not linear.

    Each step adds Jᵀ (J Jᵀ)⁻¹ (wanted − score) to a block of r, J the scores'
    derivative there: for linear scores the first is exact and the shortest. A
    step that does not bring the scores nearer is halved.

    Args:
        read: r to scores, (heads,), and J, (heads, d_out).
        size: d_out.
        blocks: Rows of r to the numbers (columns of ``read``'s scores) of the heads that they must move.
        change: Wanted change of every score.
        rounding: What a score is uncertain by; four times as much is accepted where no step comes nearer.

    Raises:
        EditError: A score does not depend on its block, more heads share a block than it has rows, or the change
            is out of reach.
    """
    writes = torch.zeros(size, dtype=torch.float64)
    scores, slopes = read(writes)
    first, wanted, close = scores, scores + change, 1e-4 * abs(change) + rounding
    for steps in range(_STEPS + 1):
        missing = wanted - scores
        if bool((missing.abs() <= close).all()):
            return Solved(writes, steps)
        step = _step(slopes, missing, blocks)
        better = _better(read, writes, step, wanted, missing)
        if better is None and bool((missing.abs() <= close + _NOISE * rounding).all()):
            return Solved(writes, steps)  # in half precision no step is nearer than this
        if better is None:
            break
        writes, scores, slopes = better
    if not bool(read(writes + step)[0].isfinite().all()):
        raise EditError(
            f"a change of the score by {change:+g} overflows the numbers that the model computes in; ask for less"
        )
    reached = ", ".join(f"{value:+.3g}" for value in (scores - first).tolist())
    raise EditError(
        f"a change of the score by {change:+g} is out of reach here (the model bounds its scores, by norms of queries "
        f"and keys or by a softcap); reached: {reached}; ask for less"
    )


def _better(
    read: Read, writes: Tensor, step: Tensor, wanted: Tensor, missing: Tensor
) -> tuple[Tensor, Tensor, Tensor] | None:
    """r, scores and derivative after the longest step that brings the scores nearer; None for none."""
    for halving in range(_HALVINGS + 1):
        factor = 0.5**halving
        tried = writes + factor * step
        scores, slopes = read(tried)
        nearer = float((wanted - scores).norm()) <= (1 - 0.1 * factor) * float(missing.norm())
        if nearer and bool(scores.isfinite().all()):
            return tried, scores, slopes
    return None


def _step(slopes: Tensor, missing: Tensor, blocks: Mapping[range, Sequence[int]]) -> Tensor:
    step = torch.zeros(slopes.shape[1], dtype=slopes.dtype)
    for rows, heads in blocks.items():
        J = slopes[list(heads)][:, rows.start : rows.stop]
        _require_solvable(J)
        step[rows.start : rows.stop] = torch.linalg.pinv(J, rtol=_LEAST_SHARE) @ missing[list(heads)]
    return step


def _require_solvable(J: Tensor) -> None:
    count, size = J.shape
    if count > size:
        raise EditError(
            f"{count} query heads share a key head of {size} dimensions: their scores can not be set one by one; "
            "name a head, or edit q_proj"
        )
    values = torch.linalg.svdvals(J)
    if not float(values[-1]) > _LEAST_SHARE * float(values[0]):
        raise EditError(
            "the scores of these heads do not depend on this matrix at these positions, or not each for itself: "
            "name one head, or edit the other of q_proj and k_proj"
        )
