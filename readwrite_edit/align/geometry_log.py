"""The geometry of the update while it trains: fractions, nulls, norm and price per matrix.

What does not change during training is worked out once, so that a snapshot
costs little more than products with the adapter's own factors.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from readwrite_edit.adapter import Target, low_rank_update
from readwrite_edit.align.geometry_detail import Detail, curve_counts, direction_count, energy_curve
from readwrite_edit.geometry import LowRank, energy_null, output_energy, principal_basis, read_fraction, write_fraction
from readwrite_edit.models.architectures import WRITE_ROLES
from readwrite_edit.models.pathways import Pathways, Projection, weight_of
from readwrite_edit.models.unembedding import model_prediction_basis
from readwrite_edit.statistics import Statistics


@dataclass(frozen=True)
class _View:
    """One module's input as its update sees it: in coordinates of the span of lora_A.

    With Aᵀ = Q R every product of ΔW = B A with a matrix M of the input is one
    of B Rᵀ with Qᵀ M: nothing larger than (rank, number of directions) is needed in a snapshot.
    """

    lora_a: Tensor
    directions: Tensor
    second_moment: Tensor
    protected: Tensor | None


@dataclass(frozen=True)
class _Site:
    """What one input's statistics give: C, C_protect and the principal directions, strongest first.

    The first k directions are the read subspace; the others serve the curve over k.
    """

    second_moment: Tensor
    protected: Tensor | None
    directions: Tensor
    k: int
    energy_null: float
    counts: list[int]
    energy_curve: list[float]

    def seen_by(self, lora_a: Tensor) -> _View:
        """The site in coordinates of the span of lora_A, (rank, d_in)."""
        span, triangle = torch.linalg.qr(lora_a.double().cpu().T)
        protected = None if self.protected is None else span.T @ self.protected @ span
        return _View(triangle.T, span.T @ self.directions, span.T @ self.second_moment @ span, protected)


class GeometryLog:
    """Measures an adapter in a model against the statistics it was built from.

    Args:
        model: Wrapped model.
        pathways: Of the model.
        targets: Its adapted modules.
        statistics: From the alignment text.
        protected: From the text to stay the same on, or None.
        k: Dimension of the subspaces.
    """

    def __init__(
        self,
        model: nn.Module,
        pathways: Pathways,
        targets: Sequence[Target],
        statistics: Statistics,
        protected: Statistics | None,
        k: int,
    ) -> None:
        self.model, self.targets, self.k, self.d_head = model, targets, k, pathways.d_head
        device = next(model.parameters()).device
        self.sites: Mapping[str, _Site] = {
            site: _measured_site(statistics, protected, site, k, device)
            for site in dict.fromkeys(projection.site for target in targets for projection in target.projections)
        }
        self.views = {
            target.module: self._site(target).seen_by(target.basis.T) for target in targets if target.basis is not None
        }
        self.weight_norms = {
            (projection.module, projection.role): float(torch.linalg.vector_norm(weight_of(model, projection).float()))
            for target in targets
            for projection in target.projections
        }
        self.prediction = self._prediction(pathways)

    @property
    def matrices(self) -> int:
        """How many rows a snapshot has."""
        return sum(len(target.projections) for target in self.targets)

    def rows(self, *, detailed: bool = True) -> list[dict[str, Any]]:
        """One row a matrix, as ``geometry.jsonl`` has them; fractions of a zero update are None.

        Args:
            detailed: With curves over k, singular values and the norms of the heads.
        """
        return [self._row(target, one, detailed) for target in self.targets for one in target.projections]

    def mean_price(self) -> float | None:
        """The update's price on the protected text as it stands, mean over the matrices; None without such a text."""
        prices = [row["price"] for row in self.rows(detailed=False)]
        known = [price for price in prices if price is not None]
        return sum(known) / len(known) if known else None

    def _site(self, target: Target) -> _Site:
        return self.sites[target.projections[0].site]

    def _row(self, target: Target, projection: Projection, detailed: bool) -> dict[str, Any]:
        site, factors = self._site(target), low_rank_update(self.model, target)
        view = self.views.get(target.module) or site.seen_by(factors.A)
        update = LowRank(_rows_of(factors.B, projection), view.lora_a)
        small = LowRank(torch.linalg.qr(update.B, mode="r")[1], view.lora_a)  # the same norms of B M, for any M
        norm = float(small.squared_norm().clamp_min(0).sqrt())
        written = self._written(projection)
        row = {
            "layer": projection.layer,
            "module": projection.role,
            "path": projection.module,
            "shape": [projection.d_out, projection.d_in],
            "rank": target.rank,
            "k": site.k,
            "read_fraction": _known(read_fraction(small, view.directions[:, : site.k])),
            "write_fraction": None if written is None else _known(write_fraction(update, written)),
            "read_isotropic_null": site.k / projection.d_in,
            "read_energy_null": site.energy_null,
            "write_isotropic_null": None if written is None else written.shape[1] / projection.d_out,
            "captured_energy": None if math.isnan(target.captured_energy) else target.captured_energy,
            "norm": norm,
            "relative_norm": norm / self.weight_norms[projection.module, projection.role],
            "price": None if view.protected is None else float(output_energy(update, view.protected)),
            "output_energy": float(output_energy(update, view.second_moment)),
        }
        if detailed:
            row |= {"read_curve_k": site.counts, "read_energy_curve": site.energy_curve}
            row |= self._detail(projection, update, small.B, factors.A, view)
        return row

    def _detail(
        self, projection: Projection, update: LowRank, triangle: Tensor, lora_a: Tensor, view: _View
    ) -> dict[str, Any]:
        written = self._prediction_directions(projection)
        write_counts = [] if written is None else curve_counts(projection.d_out, self.k)
        detail = Detail(
            update=update,
            triangle=triangle,
            lora_a=lora_a.double().cpu(),
            read=view.directions,
            read_counts=self.sites[projection.site].counts,
            written=written,
            write_counts=write_counts,
        )
        return {"write_curve_k": write_counts or None, **detail.fields(projection.role, self.d_head)}

    def _prediction_directions(self, projection: Projection) -> Tensor | None:
        """The directions of the prediction subspace, strongest first, for a matrix that writes the residual stream."""
        return self.prediction if projection.role in WRITE_ROLES else None

    def _written(self, projection: Projection) -> Tensor | None:
        """The prediction subspace V_k, for a matrix that writes the residual stream."""
        directions = self._prediction_directions(projection)
        return None if directions is None else directions[:, : self.k]

    def _prediction(self, pathways: Pathways) -> Tensor | None:
        """Prediction directions, strongest first, only where a matrix that writes the residual stream is adapted."""
        projections = [projection for target in self.targets for projection in target.projections]
        widths = {projection.d_out for projection in projections if projection.role in WRITE_ROLES}
        if not widths:
            return None
        return model_prediction_basis(self.model, pathways, max(self.k, direction_count(min(widths), self.k))).cpu()


def _measured_site(
    statistics: Statistics, protected: Statistics | None, site: str, k: int, device: torch.device
) -> _Site:
    second_moment = statistics.second_moment(site)
    d = second_moment.shape[0]
    directions = principal_basis(second_moment.to(device), direction_count(d, k)).cpu()
    counts, within = curve_counts(d, k), min(k, d)
    return _Site(
        second_moment=second_moment,
        protected=None if protected is None else protected.second_moment(site),
        directions=directions,
        k=within,
        energy_null=energy_null(second_moment, directions[:, :within]),
        counts=counts,
        energy_curve=energy_curve(second_moment, directions, counts),
    )


def _rows_of(lora_b: Tensor, projection: Projection) -> Tensor:
    """The rows of a module's lora_B that belong to one projection, float64, on the CPU."""
    plain = lora_b.double().cpu()
    if projection.rows is None:
        return plain
    return torch.cat([plain[start:stop] for start, stop in projection.rows])


def _known(fraction: Tensor) -> float | None:
    value = float(fraction)
    return None if math.isnan(value) else min(value, 1.0)
