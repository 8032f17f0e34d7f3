"""Geometry rows as tidy tables; ``docs/probe.md`` documents every column."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any

import pandas as pd

from readwrite_edit.geometry.nulls import IsotropicCurve, isotropic_curve

NESTED = ("read_curve", "write_curve", "read_energy_curve", "write_energy_curve", "heads", "step", "segment", "time")
TENSOR_COLUMNS = ("name", "status", "detail", "norm", "relative_norm")
_CURVE_COLUMNS = ("layer", "module", "side", "k", "fraction")
_NULL_COLUMNS = ("isotropic_null", "isotropic_low", "isotropic_high", "energy_null")
_HEAD_COLUMNS = ("layer", "module", "head", "side", "k", "fraction", "isotropic_null", "energy_null", "norm")
Row = Mapping[str, Any]


def geometry_table(rows: Sequence[Row]) -> pd.DataFrame:
    """One row a matrix, ordered by layer and role as they were measured."""
    return pd.DataFrame([{name: value for name, value in row.items() if name not in NESTED} for row in rows])


def curves_table(rows: Sequence[Row]) -> pd.DataFrame:
    """Cumulative fractions for every k, with the nulls; one row a matrix, side and k."""
    parts = [_curve(row, side) for row in rows for side in ("read", "write") if row[f"{side}_curve"]]
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=[*_CURVE_COLUMNS, *_NULL_COLUMNS])


def heads_table(rows: Sequence[Row]) -> pd.DataFrame:
    """Fractions of each head's own rows or columns; one row a matrix, head and side."""
    found = [_head(row, head, side) for row in rows for head in row["heads"] or () for side in ("read", "write")]
    return pd.DataFrame([row for row in found if row is not None], columns=_HEAD_COLUMNS)


def tensors_table(rows: Iterable[Row]) -> pd.DataFrame:
    """Every tensor of either checkpoint, and what became of it."""
    ordered = sorted(rows, key=lambda row: str(row["name"]))
    return pd.DataFrame([{name: row.get(name) for name in TENSOR_COLUMNS} for row in ordered], columns=TENSOR_COLUMNS)


def _curve(row: Row, side: str) -> pd.DataFrame:
    fractions, energy = row[f"{side}_curve"], row[f"{side}_energy_curve"]
    null = _isotropic(row["d_out"], row["d_in"], len(fractions), side)
    return pd.DataFrame(
        {
            "layer": row["layer"],
            "module": row["module"],
            "side": side,
            "k": range(1, len(fractions) + 1),
            "fraction": fractions,
            "isotropic_null": null.mean,
            "isotropic_low": null.low,
            "isotropic_high": null.high,
            "energy_null": energy or [None] * len(fractions),
        }
    ).astype({"energy_null": float})


@lru_cache(maxsize=32)
def _isotropic(d_out: int, d_in: int, k_max: int, side: str) -> IsotropicCurve:
    return isotropic_curve((d_out, d_in), k_max, side=side)


def _head(row: Row, head: Row, side: str) -> dict[str, Any] | None:
    if side not in head:
        return None
    return {
        "layer": row["layer"],
        "module": row["module"],
        "head": head["head"],
        "side": side,
        "k": row["k"],
        "fraction": head[side],
        "isotropic_null": row[f"{side}_isotropic_null"],
        "energy_null": row[f"{side}_energy_null"],
        "norm": head["norm"],
    }
