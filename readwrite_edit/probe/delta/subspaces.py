"""The subspaces that deltas are measured against, with the nulls of each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

from torch import Tensor

from readwrite_edit.geometry import EnergyNull, QuadraticNull, participation_ratio
from readwrite_edit.models.architectures import WRITE_ROLES
from readwrite_edit.models.pathways import Projection
from readwrite_edit.probe.delta.principal import DEAR, principal_directions
from readwrite_edit.statistics import Statistics

_LARGE_CURVE = 256


def curve_length(dim: int, asked: int | None, k: int) -> int:
    """Directions of a cumulative curve: as asked, else all of a small space and 256 of a large one; k at least."""
    return min(dim, max(k, asked or (dim if dim <= DEAR else _LARGE_CURVE)))


@dataclass(frozen=True)
class Side:
    """One side of a matrix: an orthonormal basis, and what the side's energy does in it.

    Attributes:
        basis: Columns in the order of their claim, shape (d, K), float32.
        energy: Cumulative share of the side's energy, shape (K,), float64: the energy null for every k; None
            where it was not measured.
        energy_p_value: Of (k, n, fraction) under the energy null; None where there is none.
        participation: Participation ratio of the side's second moment; None where it was not measured.
    """

    basis: Tensor
    energy: Tensor | None = None
    energy_p_value: Callable[[int, float, float], float] | None = None
    participation: float | None = None


class Subspaces:
    """Read bases from statistics of inputs, the write basis from the unembedding.

    Args:
        statistics: Second moments of inputs; sites that they lack have no read side.
        prediction: Prediction subspace V, shape (d_model, K), or None.
        output_moment: Second moment of the output gradient of a projection, (d_out, d_out), or None.
        k: Dimension that rows report; curves are at least as long.
        curve: Length of the curves; by width where None (``curve_length``).
        device: Where the eigenvectors are computed.
    """

    def __init__(
        self,
        statistics: Statistics | None,
        prediction: Tensor | None,
        *,
        output_moment: Callable[[Projection], Tensor | None] = lambda _projection: None,
        k: int = 1,
        curve: int | None = None,
        device: str = "cpu",
    ) -> None:
        self._statistics, self._prediction = statistics, prediction
        self._output_moment, self._device = output_moment, device
        self._curve = lambda dim: curve_length(dim, curve, k)
        self._last: tuple[str, Side] | None = None

    def read(self, projection: Projection) -> Side | None:
        """The principal directions of a projection's input; kept until another site is asked for."""
        if self._statistics is None or projection.site not in self._statistics.sites:
            return None
        if self._last is None or self._last[0] != projection.site:
            self._last = projection.site, self._read_side(projection.site, projection.d_in)
        return self._last[1]

    def write(self, projection: Projection) -> Side | None:
        """The prediction subspace, for the matrices that write the residual stream."""
        if self._write_basis is None or projection.role not in WRITE_ROLES:
            return None
        moment = self._output_moment(projection)
        if moment is None:
            return Side(self._write_basis)
        return _against_moment(self._write_basis, moment.double().cpu())

    @cached_property
    def _write_basis(self) -> Tensor | None:
        if self._prediction is None:
            return None
        return self._prediction.float().cpu().contiguous()

    def _read_side(self, site: str, dim: int) -> Side:
        assert self._statistics is not None
        columns = self._curve(dim)
        values, basis = principal_directions(self._statistics, site, dim, columns, device=self._device)

        if not float(values.sum()) > 0:  # an input that is always zero has no energy, and no directions
            return Side(basis)

        def p_value(k: int, n: float, fraction: float) -> float:
            return EnergyNull(values, n).p_value(k, fraction)

        return Side(basis, values.cumsum(0)[:columns] / values.sum(), p_value, participation_ratio(values))


def _against_moment(basis: Tensor, moment: Tensor) -> Side:
    """A basis that is not the moment's own: its energy, and the law of the fraction as a ratio of quadratic forms."""
    if not float(moment.trace()) > 0:
        return Side(basis)
    null = QuadraticNull(moment, basis)
    return Side(basis, null.curve(), null.p_value, participation_ratio(null.eigenvalues))
