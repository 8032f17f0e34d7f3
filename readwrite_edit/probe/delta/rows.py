"""Geometry rows: what is reported of one matrix, from its energies and the nulls of its sides."""

from __future__ import annotations

import math
from typing import Any

from torch import Tensor

from readwrite_edit.geometry import IsotropicNull, effective_count, isotropic_null
from readwrite_edit.models.pathways import Projection
from readwrite_edit.probe.delta.matrix import Energies
from readwrite_edit.probe.delta.subspaces import Side

SIDE_FIELDS = (
    "fraction",
    "isotropic_null",
    "isotropic_low",
    "isotropic_high",
    "isotropic_p",
    "energy_null",
    "energy_p",
    "effective_n",
    "isotropic_p_effective",
    "energy_p_effective",
    "relative_isotropic",
    "relative_energy",
)


def geometry_row(
    projection: Projection, energies: Energies, read: Side | None, write: Side | None, k: int
) -> dict[str, Any]:
    """One row of the table ``geometry``, with curves and heads, as ``geometry.jsonl`` holds it.

    Numbers that are not defined (fractions of a zero delta, a side that the matrix does not have) are None.

    Args:
        projection: The matrix.
        energies: Of its delta.
        read: Its read side, or None.
        write: Its write side, or None.
        k: Dimension of the subspaces that the row reports; less where a space is smaller.
    """
    shape = projection.d_out, projection.d_in
    k = min([k, *(side.basis.shape[1] for side in (read, write) if side is not None)])
    row: dict[str, Any] = {
        "layer": projection.layer,
        "module": projection.role,
        "path": projection.module,
        "d_out": shape[0],
        "d_in": shape[1],
        "k": k,
        **_side("read", shape, energies, read, k),
        **_side("write", shape, energies, write, k),
        **_sizes(energies),
        "read_curve": _curve(energies.read, energies.squared_norm),
        "write_curve": _curve(energies.write, energies.squared_norm),
        "read_energy_curve": _rounded(read.energy) if read is not None and read.energy is not None else None,
        "write_energy_curve": _rounded(write.energy) if write is not None and write.energy is not None else None,
        "heads": _heads(energies, k),
    }
    return {name: _known(value) for name, value in row.items()}


def _side(name: str, shape: tuple[int, int], energies: Energies, side: Side | None, k: int) -> dict[str, Any]:
    energy = energies.read if name == "read" else energies.write
    if energy is None or side is None:
        return {f"{name}_{field}": None for field in SIDE_FIELDS}
    d, n = shape[::-1] if name == "read" else shape
    fraction = _share(energy, energies.squared_norm, k)
    null = isotropic_null(shape, k, side=name)
    low, high = null.interval()
    of_energy = None if side.energy is None else float(side.energy[k - 1])
    count = _effective(energies, d, n)
    against = side.energy_p_value
    values = (
        fraction,
        null.mean,
        low,
        high,
        null.p_value(fraction),
        of_energy,
        None if against is None else against(k, n, fraction),
        count,
        None if count is None else IsotropicNull(k, d, count).p_value(fraction),
        None if against is None else _energy_p_effective(energies, side, k, n, fraction),
        fraction / null.mean,
        fraction / of_energy if of_energy else None,
    )
    return {f"{name}_{field}": value for field, value in zip(SIDE_FIELDS, values, strict=True)}


def _effective(energies: Energies, participation: float | None, n: int) -> float | None:
    """How many independent rows (or columns) the delta's spectrum allows for; None without a spectrum."""
    if energies.spectrum is None or participation is None:
        return None
    count = effective_count(energies.spectrum.participation_ratio, participation, n)
    return None if math.isnan(count) else count


def _energy_p_effective(energies: Energies, side: Side, k: int, n: int, fraction: float) -> float | None:
    count = _effective(energies, side.participation, n)
    if count is None or side.energy_p_value is None:
        return None
    return side.energy_p_value(k, count, fraction)


def _sizes(energies: Energies) -> dict[str, Any]:
    entries, spectrum = energies.entries, energies.spectrum
    norm = math.sqrt(max(0.0, energies.squared_norm))
    return {
        "norm": norm,
        "relative_norm": norm / energies.weight_norm if energies.weight_norm else None,
        "cosine": None if entries is None else entries.cosine,
        "stable_rank": None if spectrum is None else spectrum.stable_rank,
        "effective_rank": None if spectrum is None else spectrum.effective_rank,
        "participation_ratio": None if spectrum is None else spectrum.participation_ratio,
        "spectrum": None if spectrum is None else spectrum.method,
        "changed_fraction": None if entries is None else entries.changed_fraction,
        "under_step_fraction": None if entries is None else entries.under_step_fraction,
    }


def _heads(energies: Energies, k: int) -> list[dict[str, Any]] | None:
    """Fractions of each head's own rows (read) or columns (write) of the delta."""
    if energies.heads is None:
        return None
    rows = []
    for head, squared in enumerate(energies.heads.tolist()):
        found: dict[str, Any] = {"head": head, "norm": math.sqrt(squared)}
        for side, parts in (("read", energies.heads_read), ("write", energies.heads_write)):
            if parts is not None:
                found[side] = _known(_share(parts[head], squared, min(k, parts.shape[1])))
        rows.append(found)
    return rows


def _share(energy: Tensor, squared_norm: float, k: int) -> float:
    """Share of the squared norm in the first k directions; rounding can not lift it above 1."""
    if not squared_norm > 0:
        return math.nan
    return min(1.0, float(energy[:k].sum()) / squared_norm)


def _curve(energy: Tensor | None, squared_norm: float) -> list[float] | None:
    if energy is None or not squared_norm > 0:
        return None
    return _rounded((energy.cumsum(0) / squared_norm).clamp_max(1.0))


def _rounded(values: Tensor) -> list[float]:
    return [float(f"{value:.7g}") for value in values.tolist()]


def _known(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
