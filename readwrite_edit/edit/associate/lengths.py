"""How long a step must be: a scalar search for many facts at once, without gradients."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

Margins = Callable[[Tensor, Tensor], Tensor]
"""Margins of some facts at given lengths: (lengths (n,), rows (n,)) → (n,)."""

_CLOSE = 0.25  # nats above the wanted margin that are not worth another pass
_EDGE = 0.1  # a guess keeps this share of the bracket away from its ends, so that the bracket shrinks


@dataclass(eq=False)
class Lengths:
    """Where a search ended, each of shape (facts,).

    Attributes:
        length: The shortest length found that reaches the margin; where none does the one that came nearest.
        margin: The margin there.
        reached: Whether it is the wanted one.
        passes: Margins computed of the fact.
    """

    length: Tensor
    margin: Tensor
    reached: Tensor
    passes: Tensor


def shortest(
    at: Margins, start: Tensor, zero: Tensor, wanted: float, *, doublings: int, refinements: int, known: Tensor | None
) -> Lengths:
    """Find the shortest lengths that reach a margin.

    From ``start`` lengths double until the margin is reached, then the last
    bracket is narrowed by false position, kept off its ends. The margin need
    not grow with the length: what is found reaches it, and something shorter
    by less than the bracket does not.

    Args:
        at: Margins at given lengths.
        start: First lengths, above 0, shape (facts,).
        zero: Margins at length 0.
        wanted: The margin to reach.
        doublings: Most doublings.
        refinements: Most passes over a bracket.
        known: Margins at ``start`` where they are known already.

    Returns:
        The lengths; a fact whose margin is there at length 0 keeps length 0.
    """
    rows = torch.arange(len(start), device=start.device)
    first = at(start, rows) if known is None else known
    search = _Search(start.clone(), zero.clone(), first.clone(), wanted, int(known is None))
    for _ in range(doublings):
        rows = (~search.reached).nonzero().squeeze(1)
        if not len(rows):
            break
        search.grow(rows, at)
    for _ in range(refinements):
        rows = search.open()
        if not len(rows):
            break
        search.narrow(rows, at)
    return search.result()


class _Search:
    """Brackets: below, the margin is not reached; above, it is."""

    def __init__(self, start: Tensor, zero: Tensor, first: Tensor, wanted: float, passes: int) -> None:
        self._wanted = wanted
        self._low, self._low_margin = torch.zeros_like(start), zero
        self._high, self._high_margin = start, first
        # no length at all is no answer, even where every length makes it worse
        self._best, self._best_margin = start.clone(), first.clone()
        self._passes = torch.full_like(start, passes, dtype=torch.int64)
        there = zero >= wanted
        self._high = torch.where(there, 0.0, self._high)
        self._high_margin = torch.where(there, zero, self._high_margin)
        self.reached = self._high_margin >= wanted

    def grow(self, rows: Tensor, at: Margins) -> None:
        """Double the length of facts that have not reached the margin."""
        self._low[rows], self._low_margin[rows] = self._high[rows], self._high_margin[rows]
        self._high[rows] *= 2
        self._high_margin[rows] = self._tried(self._high[rows], rows, at)
        self.reached[rows] = self._high_margin[rows] >= self._wanted

    def open(self) -> Tensor:
        """Facts whose length may still be shortened by much."""
        width = (self._high - self._low) / self._high.clamp_min(1e-30)
        loose = self._high_margin - self._wanted > _CLOSE
        return (self.reached & loose & (width > 0.01)).nonzero().squeeze(1)

    def narrow(self, rows: Tensor, at: Margins) -> None:
        """Halve brackets, roughly: at the point where a straight line meets the margin."""
        low, high = self._low[rows], self._high[rows]
        below, above = self._low_margin[rows], self._high_margin[rows]
        share = ((self._wanted + _CLOSE / 2 - below) / (above - below)).clamp(_EDGE, 1 - _EDGE)
        guess = low + share * (high - low)
        found = self._tried(guess, rows, at)
        good = found >= self._wanted
        self._high[rows], self._high_margin[rows] = torch.where(good, guess, high), torch.where(good, found, above)
        self._low[rows], self._low_margin[rows] = torch.where(good, low, guess), torch.where(good, below, found)

    def result(self) -> Lengths:
        """Lengths as they stand."""
        length = torch.where(self.reached, self._high, self._best)
        margin = torch.where(self.reached, self._high_margin, self._best_margin)
        return Lengths(length, margin, self.reached, self._passes)

    def _tried(self, lengths: Tensor, rows: Tensor, at: Margins) -> Tensor:
        found = at(lengths, rows)
        self._passes[rows] += 1
        better = self._higher(self._best[rows], self._best_margin[rows], lengths, found)
        self._best[rows], self._best_margin[rows] = better
        return found

    @staticmethod
    def _higher(first: Tensor, its: Tensor, second: Tensor, other: Tensor) -> tuple[Tensor, Tensor]:
        better = other > its
        return torch.where(better, second, first), torch.where(better, other, its)
