"""The kept part of one matrix' change, and how much of the change it is."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from readwrite_edit.edit.settings.extract import Restricted
from readwrite_edit.geometry.fractions import LowRank, Update
from readwrite_edit.geometry.truncation import (
    Truncated,
    read_part,
    recompressed,
    squared_norm,
    truncated_svd,
    write_part,
)
from readwrite_edit.interventions.changes import Change
from readwrite_edit.models.architectures import WRITE_ROLES
from readwrite_edit.models.pathways import Projection

_NOTHING = 1e-18  # of ‖ΔW‖²: what rounding alone leaves of a change that lies outside a subspace


@dataclass(frozen=True, eq=False)
class Part:
    """What is kept of the change of one matrix.

    Attributes:
        projection: The matrix.
        squared_norm: ‖ΔW‖².
        projected: Squared norm of what of it lies in the subspace; all of it where there is none.
        kept: Its best approximation of the rank asked for; None where nothing is left.
    """

    projection: Projection
    squared_norm: float
    projected: float
    kept: Truncated | None

    @property
    def retained(self) -> float:
        """‖ΔW_r‖² of what is kept."""
        return 0.0 if self.kept is None else min(self.kept.retained, self.projected)

    @property
    def change(self) -> Change | None:
        """As factors in float32; None where nothing is kept."""
        if self.kept is None:
            return None
        update = self.kept.update
        return Change(self.projection, LowRank(update.B.float().contiguous(), update.A.float().contiguous()))

    def row(self) -> dict[str, Any]:
        """As a row of the table ``matrices``."""
        projection = self.projection
        return {
            "layer": projection.layer,
            "module": projection.role,
            "path": projection.module,
            "d_out": projection.d_out,
            "d_in": projection.d_in,
            "rank": 0 if self.kept is None else self.kept.rank,
            "norm": math.sqrt(self.squared_norm),
            "projected_norm": math.sqrt(self.projected),
            "retained_norm": math.sqrt(self.retained),
            "subspace_energy_fraction": share(self.projected, self.squared_norm),
            "retained_fraction": share(self.retained, self.squared_norm),
            "retained_of_projected_fraction": share(self.retained, self.projected),
        }


def part_of(projection: Projection, delta_w: Update, basis: Tensor | None, options: Restricted) -> Part:
    """Project a change and truncate what is left.

    Args:
        projection: The matrix.
        delta_w: ΔW, (d_out, d_in), or its factors.
        basis: Orthonormal columns on the side that the role is for; None keeps everything.
        options: Rank, or share of energy to keep.
    """
    total = _squared_norm(delta_w)
    if not total > 0:
        return Part(projection, 0.0, 0.0, None)
    most = options.max_rank if options.rank is None else options.rank
    if options.rank is None and options.energy is None and isinstance(delta_w, LowRank):
        most = len(delta_w.A)
    found = _truncated(projection, delta_w, basis, most)
    if not found.squared_norm > _NOTHING * total:
        return Part(projection, total, 0.0, None)
    projected = total if basis is None else min(found.squared_norm, total)
    return Part(projection, total, projected, found.holding(options.energy) if options.energy else found)


def _truncated(projection: Projection, delta_w: Update, basis: Tensor | None, most: int) -> Truncated:
    if basis is not None:
        projected = (write_part if projection.role in WRITE_ROLES else read_part)(delta_w, basis)
        return recompressed(projected, most)
    return recompressed(delta_w, most) if isinstance(delta_w, LowRank) else truncated_svd(delta_w, most)


def _squared_norm(delta_w: Update) -> float:
    return float(delta_w.squared_norm()) if isinstance(delta_w, LowRank) else squared_norm(delta_w)


def share(part: float, whole: float) -> float:
    """Of an energy; NaN of none."""
    return part / whole if whole > 0 else math.nan
