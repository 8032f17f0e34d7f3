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
from readwrite_edit.geometry import LowRank, energy_null, output_energy, principal_basis, read_fraction, write_fraction
from readwrite_edit.models.architectures import WRITE_ROLES
from readwrite_edit.models.pathways import Pathways, Projection, weight_of
from readwrite_edit.models.unembedding import model_prediction_basis
from readwrite_edit.statistics import Statistics


@dataclass(frozen=True)
class _View:
    """One module's input as its update sees it: in coordinates of the span of lora_A.

    With Aᵀ = Q R every product of ΔW = B A with a matrix M of the input is one
    of B Rᵀ with Qᵀ M: nothing larger than (rank, k) is needed in a snapshot.
    """

    lora_a: Tensor
    basis: Tensor
    second_moment: Tensor
    protected: Tensor | None


@dataclass(frozen=True)
class _Site:
    """What one input's statistics give: C, C_protect and the principal directions."""

    second_moment: Tensor
    protected: Tensor | None
    basis: Tensor
    energy_null: float

    def seen_by(self, lora_a: Tensor) -> _View:
        """The site in coordinates of the span of lora_A, (rank, d_in)."""
        span, triangle = torch.linalg.qr(lora_a.double().cpu().T)
        protected = None if self.protected is None else span.T @ self.protected @ span
        return _View(triangle.T, span.T @ self.basis, span.T @ self.second_moment @ span, protected)


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
        self.model, self.targets, self.k = model, targets, k
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

    def rows(self) -> list[dict[str, Any]]:
        """One row a matrix, as ``geometry.jsonl`` has them; fractions of a zero update are None."""
        return [self._row(target, projection) for target in self.targets for projection in target.projections]

    def _site(self, target: Target) -> _Site:
        return self.sites[target.projections[0].site]

    def _row(self, target: Target, projection: Projection) -> dict[str, Any]:
        site, factors = self._site(target), low_rank_update(self.model, target)
        view = self.views.get(target.module) or site.seen_by(factors.A)
        update = LowRank(_rows_of(factors.B, projection), view.lora_a)
        norm = float(update.squared_norm().clamp_min(0).sqrt())
        written = self.prediction if projection.role in WRITE_ROLES else None
        return {
            "layer": projection.layer,
            "module": projection.role,
            "path": projection.module,
            "shape": [projection.d_out, projection.d_in],
            "rank": target.rank,
            "k": site.basis.shape[1],
            "read_fraction": _known(read_fraction(update, view.basis)),
            "write_fraction": None if written is None else _known(write_fraction(update, written)),
            "read_isotropic_null": site.basis.shape[1] / projection.d_in,
            "read_energy_null": site.energy_null,
            "write_isotropic_null": None if written is None else written.shape[1] / projection.d_out,
            "captured_energy": None if math.isnan(target.captured_energy) else target.captured_energy,
            "norm": norm,
            "relative_norm": norm / self.weight_norms[projection.module, projection.role],
            "price": None if view.protected is None else float(output_energy(update, view.protected)),
            "output_energy": float(output_energy(update, view.second_moment)),
        }

    def _prediction(self, pathways: Pathways) -> Tensor | None:
        """Prediction subspace, only where a matrix that writes the residual stream is adapted."""
        if not any(projection.role in WRITE_ROLES for target in self.targets for projection in target.projections):
            return None
        return model_prediction_basis(self.model, pathways, self.k).cpu()


def _measured_site(
    statistics: Statistics, protected: Statistics | None, site: str, k: int, device: torch.device
) -> _Site:
    second_moment = statistics.second_moment(site)
    basis = principal_basis(second_moment.to(device), min(k, second_moment.shape[0])).cpu()
    protected_moment = None if protected is None else protected.second_moment(site)
    return _Site(second_moment, protected_moment, basis, energy_null(second_moment, basis))


def _rows_of(lora_b: Tensor, projection: Projection) -> Tensor:
    """The rows of a module's lora_B that belong to one projection, float64, on the CPU."""
    plain = lora_b.double().cpu()
    if projection.rows is None:
        return plain
    return torch.cat([plain[start:stop] for start, stop in projection.rows])


def _known(fraction: Tensor) -> float | None:
    value = float(fraction)
    return None if math.isnan(value) else min(value, 1.0)
