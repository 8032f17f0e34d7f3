"""The numbers behind the verdict: each side against each null, and one side against the other."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from readwrite_edit.geometry.multiple import benjamini_hochberg

ALPHA = 0.05
LEVEL = 0.95
ROLES = {"read": ("q_proj", "k_proj"), "write": ("o_proj", "down_proj")}
NULLS = ("isotropic", "energy")

FEWEST_LAYERS = math.ceil(-math.log2(ALPHA))

_FLOOR = 1e-6


@dataclass(frozen=True)
class NullEvidence:
    """One side against one null.

    Attributes:
        relative: Mean over the matrices of fraction / null; NaN where the null was not measured.
        above: Matrices with q < 0.05.
        tested: Matrices with a p-value.
        layers_p: One-sided Wilcoxon test that the layers' mean log ratio is above 0.
    """

    relative: float
    above: int
    tested: int
    layers_p: float

    @property
    def measured(self) -> bool:
        """Whether there is any fraction / null."""
        return not math.isnan(self.relative)

    @property
    def beaten(self) -> bool:
        """Most matrices above the null after Benjamini-Hochberg, and the layers as well."""
        return self.measured and 2 * self.above > self.tested and self.layers_p < ALPHA


@dataclass(frozen=True)
class SideEvidence:
    """What one side's matrices show.

    Attributes:
        roles: Roles that changed, in canonical order.
        layers: Layers that have one of these.
        matrices: Changed matrices with a fraction, layer × role.
        unchanged: Identical ones, left out of everything else.
        unmeasured: Changed ones without a fraction (no statistics, no basis), left out as well.
        nulls: ``"isotropic"`` and ``"energy"``.
    """

    roles: tuple[str, ...]
    layers: int
    matrices: int
    unchanged: int
    unmeasured: int
    nulls: Mapping[str, NullEvidence]


@dataclass(frozen=True)
class Asymmetry:
    """Read over write, both relative to their isotropic nulls, layer by layer.

    Attributes:
        layers: Layers in which both sides changed.
        ratio: Geometric mean over these layers; NaN without any.
        low: Lower end of its 95 % interval (Student's t on the logarithms); NaN for one layer.
        high: Upper end.
        p: One-sided Wilcoxon signed-rank test that read is above write.
    """

    layers: int
    ratio: float
    low: float
    high: float
    p: float

    @property
    def found(self) -> bool:
        """Read is above write beyond chance."""
        return self.ratio > 1 and self.p < ALPHA


def side_evidence(geometry: pd.DataFrame, side: str) -> SideEvidence:
    """What the ``"read"`` or the ``"write"`` side's matrices of a geometry table show."""
    rows = _rows(geometry, side)
    has_fraction = _column(rows, f"{side}_relative_isotropic").notna()
    moved = _column(rows, "norm") > 0
    changed = rows[has_fraction]
    return SideEvidence(
        roles=tuple(role for role in ROLES[side] if role in set(changed["module"])),
        layers=changed["layer"].nunique(),
        matrices=len(changed),
        unchanged=int((~has_fraction & ~moved).sum()),
        unmeasured=int((~has_fraction & moved).sum()),
        nulls={null: _against(changed, side, null) for null in NULLS},
    )


def _against(rows: pd.DataFrame, side: str, null: str) -> NullEvidence:
    q = benjamini_hochberg(_p_values(rows, side, null))
    ratios = _column(rows, f"{side}_relative_{null}")
    return NullEvidence(
        relative=float(ratios.mean()),
        above=int((q < ALPHA).sum()),
        tested=int((~np.isnan(q)).sum()),
        layers_p=_wilcoxon(_layer_logs(rows, side, null).to_numpy()),
    )


def _p_values(rows: pd.DataFrame, side: str, null: str) -> pd.Series:
    """With the effective number of rows where the delta's spectrum is known, else as if rows were independent."""
    return _column(rows, f"{side}_{null}_p_effective").fillna(_column(rows, f"{side}_{null}_p"))


def measure_asymmetry(geometry: pd.DataFrame) -> Asymmetry:
    """Read over write in the layers of a geometry table where both sides changed."""
    read, write = (_layer_logs(_rows(geometry, side), side, "isotropic") for side in ("read", "write"))
    logs = (read - write).dropna().to_numpy()
    if not len(logs):
        return Asymmetry(0, math.nan, math.nan, math.nan, math.nan)
    centre, half = logs.mean(), math.nan
    if len(logs) > 1:
        half = stats.t.ppf((1 + LEVEL) / 2, len(logs) - 1) * logs.std(ddof=1) / math.sqrt(len(logs))
    low, high = (math.exp(centre + shift) for shift in (-half, half))
    return Asymmetry(len(logs), math.exp(centre), low, high, _wilcoxon(logs))


def _layer_logs(rows: pd.DataFrame, side: str, null: str) -> pd.Series:
    """Mean log ratio a layer: over the matrices of a role, then over the roles."""
    logs = np.log(_column(rows, f"{side}_relative_{null}").clip(lower=_FLOOR))
    by_role = logs.groupby([rows["layer"], rows["module"]]).mean()
    return by_role.groupby(level=0).mean().dropna()


def _wilcoxon(values: NDArray[np.float64]) -> float:
    """One-sided p-value that the values lie above 0; NaN without values."""
    if not len(values):
        return math.nan
    if not values.any():
        return 1.0
    return float(stats.wilcoxon(values, alternative="greater").pvalue)


def _rows(geometry: pd.DataFrame, side: str) -> pd.DataFrame:
    known = geometry.reindex(columns=[*dict.fromkeys(["layer", "module", *geometry.columns])])
    return known[known["module"].isin(ROLES[side]) & known["layer"].notna()]


def _column(rows: pd.DataFrame, name: str) -> pd.Series:
    """A column as finite floats or NaN; all NaN where the table lacks it."""
    values = rows[name] if name in rows else pd.Series(math.nan, index=rows.index)
    return values.astype(float).replace([math.inf, -math.inf], math.nan)
