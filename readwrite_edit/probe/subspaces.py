"""The subspaces that deltas are measured against, with the nulls of each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

from torch import Tensor

from readwrite_edit.geometry import EnergyNull, eigh_descending
from readwrite_edit.geometry.nulls import quadratic_p_value
from readwrite_edit.models.pathways import Projection
from readwrite_edit.statistics import Statistics

WRITERS = ("o_proj", "down_proj")
_SMALL = 1024
_LARGE_CURVE = 256


def curve_length(dim: int, asked: int | None) -> int:
    """Directions of a cumulative curve in a space: as asked, else all of a small space and 256 of a large one."""
    return min(dim, asked or (dim if dim <= _SMALL else _LARGE_CURVE))


@dataclass(frozen=True)
class Side:
    """One side of a matrix: an orthonormal basis, and what the side's energy does in it.

    Attributes:
        basis: Columns in the order of their claim, shape (d, K), float32.
        energy: Cumulative share of the side's energy, shape (K,), float64: the energy null for every k; None
            where it was not measured.
        energy_p_value: Of (k, n, fraction) under the energy null; None where there is none.
    """

    basis: Tensor
    energy: Tensor | None = None
    energy_p_value: Callable[[int, int, float], float] | None = None


class Subspaces:
    """Read bases from statistics of inputs, the write basis from the unembedding.

    Args:
        statistics: Second moments of inputs; sites that they lack have no read side.
        prediction: Prediction subspace V, shape (d_model, K), or None.
        output_moment: Second moment of the output gradient of a projection, (d_out, d_out), or None.
        curve: Directions of the curves; by width where None.
        device: Where the eigenvectors are computed.
    """

    def __init__(
        self,
        statistics: Statistics | None,
        prediction: Tensor | None,
        *,
        output_moment: Callable[[Projection], Tensor | None] = lambda _projection: None,
        curve: int | None = None,
        device: str = "cpu",
    ) -> None:
        self._statistics, self._prediction = statistics, prediction
        self._output_moment, self._curve, self._device = output_moment, curve, device
        self._last: tuple[str, Side] | None = None

    def read(self, projection: Projection) -> Side | None:
        """The principal directions of a projection's input; kept until another site is asked for."""
        if self._statistics is None or projection.site not in self._statistics.sites:
            return None
        if self._last is None or self._last[0] != projection.site:
            self._last = projection.site, self._read_side(projection.site)
        return self._last[1]

    def write(self, projection: Projection) -> Side | None:
        """The prediction subspace, for the matrices that write the residual stream."""
        if self._write_basis is None or projection.role not in WRITERS:
            return None
        moment = self._output_moment(projection)
        if moment is None:
            return Side(self._write_basis)
        return _against_moment(self._write_basis, moment.double().cpu())

    @cached_property
    def _write_basis(self) -> Tensor | None:
        if self._prediction is None:
            return None
        length = curve_length(self._prediction.shape[0], self._curve)
        return self._prediction[:, :length].float().cpu().contiguous()

    def _read_side(self, site: str) -> Side:
        assert self._statistics is not None
        values, vectors = eigh_descending(self._statistics.second_moment(site).to(self._device))
        values = values.cpu().clamp_min(0)
        basis = vectors[:, : curve_length(len(values), self._curve)].float().cpu().contiguous()
        energy = values.cumsum(0)[: basis.shape[1]] / values.sum()

        def p_value(k: int, n: int, fraction: float) -> float:
            return EnergyNull(values, n).p_value(k, fraction)

        return Side(basis, energy, p_value)


def _against_moment(basis: Tensor, moment: Tensor) -> Side:
    """A basis that is not the moment's own: its energy, and the law of the fraction as a ratio of quadratic forms."""
    wide = basis.double()
    energy = (wide * (moment @ wide)).sum(dim=0).cumsum(0) / moment.trace()

    def p_value(k: int, n: int, fraction: float) -> float:
        return quadratic_p_value(moment, wide[:, :k], n, fraction)

    return Side(basis, energy, p_value)
