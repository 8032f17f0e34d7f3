"""What one pass over a text leaves behind, per site."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from readwrite_edit.errors import DataError

OVERLAP_RANKS = (4, 16, 64)
_SHOWN = 6


@dataclass(frozen=True)
class Moments:
    """First and second moments of one site's input.

    Attributes:
        total: Σ x xᵀ over the tokens, shape (d, d), float64.
        mean: Σ x / count, shape (d,), float64.
        count: Number of tokens summed.
        first_position_share: Share of tr(Σ x xᵀ) that first positions hold
            (attention sinks sit there); NaN where first positions were left out.
        overlap: For each k the overlap of the top-k subspaces of two halves of
            the text (1 is converged, k/d is unrelated); empty when one batch
            was all there was.
    """

    total: Tensor
    mean: Tensor
    count: int
    first_position_share: float
    overlap: Mapping[int, float] = field(default_factory=dict)

    def second_moment(self, *, centred: bool = False) -> Tensor:
        """C = E[x xᵀ], or the covariance when ``centred``; shape (d, d), float64."""
        moment = self.total / self.count
        return moment - torch.outer(self.mean, self.mean) if centred else moment


@dataclass(frozen=True)
class Statistics:
    """Moments of every site that was asked for, from one text.

    Attributes:
        sites: Site name to its moments.
        tokens: Number of tokens read.
        centred: Whether :meth:`second_moment` takes the mean out.
        origin: What they are of, where that was noted: ``kind`` (``inputs`` or ``output_gradients``),
            ``model``, ``weights_sha256``, ``text``, and more.
    """

    sites: Mapping[str, Moments]
    tokens: int
    centred: bool = False
    origin: Mapping[str, str] = field(default_factory=dict)

    def second_moment(self, site: str) -> Tensor:
        """C of one site, shape (d, d), float64.

        Raises:
            DataError: The site was not collected.
        """
        if site not in self.sites:
            raise DataError(f"no statistics of site '{site}'; these hold {named(self.sites)}")
        return self.sites[site].second_moment(centred=self.centred)

    def smallest_overlap(self, k: int) -> tuple[int, float] | None:
        """The measured k nearest to the one asked for, and the worst agreement of two halves over the sites there."""
        measured = [moments.overlap for moments in self.sites.values() if moments.overlap]
        if not measured:
            return None
        nearest = min(measured[0], key=lambda rank: abs(rank - k))
        return nearest, min(overlap[nearest] for overlap in measured if nearest in overlap)


def named(sites: Iterable[str]) -> str:
    """The first names in order, and how many more there are."""
    names = sorted(sites)
    shown = ", ".join(names[:_SHOWN])
    return f"{shown} and {len(names) - _SHOWN} more" if len(names) > _SHOWN else shown or "none"


def mix(parts: Sequence[tuple[Statistics, float]]) -> Statistics:
    """Weighted mean of second moments per token, as one set of statistics.

    Args:
        parts: Statistics over the same sites with their weights.

    Returns:
        Statistics of the mixture: uncentred, C is Σ w C / Σ w. Overlaps and shares are not mixed.

    Raises:
        DataError: No parts, weights that do not add up to more than 0, or different sites.
    """
    weight_sum = sum(weight for _, weight in parts)
    if not parts or not weight_sum > 0 or any(weight < 0 for _, weight in parts):
        raise DataError(f"weights {[weight for _, weight in parts]} of protected texts must be ≥ 0 and not all 0")
    names = set(parts[0][0].sites)
    if any(set(statistics.sites) != names for statistics, _ in parts):
        raise DataError("statistics over different sites can not be mixed")
    sites = {
        name: _mix_site([(statistics.sites[name], weight / weight_sum) for statistics, weight in parts])
        for name in sorted(names)
    }
    return Statistics(sites, sum(statistics.tokens for statistics, _ in parts), parts[0][0].centred)


def _mix_site(parts: Sequence[tuple[Moments, float]]) -> Moments:
    count = sum(moments.count for moments, _ in parts)
    total = sum((moments.total * (share / moments.count) for moments, share in parts), torch.zeros(())) * count
    mean = sum((moments.mean * share for moments, share in parts), torch.zeros(()))
    return Moments(total, mean, count, float("nan"))
