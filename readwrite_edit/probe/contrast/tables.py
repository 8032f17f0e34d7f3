"""What the arms of the contrast probe show together: means over layers, intervals and trends over seeds."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy import stats

from readwrite_edit.job.result import Result
from readwrite_edit.probe.contrast.arms import ArmRecord
from readwrite_edit.probe.settings.contrast import ContrastSettings

QUANTITIES = ("fraction", "relative_isotropic", "relative_energy")
SIDES = ("read", "write")
ALL = "all"
LEVEL = 0.95
_MEANS = tuple(f"{side}_{quantity}" for side in SIDES for quantity in QUANTITIES)


class Interval(NamedTuple):
    """A mean and its Student's t interval; the ends are NaN for a single value."""

    mean: float
    low: float
    high: float

    @property
    def side_of_zero(self) -> int:
        """-1 or 1 where the whole interval is below or above 0, else 0."""
        return int(self.low > 0) - int(self.high < 0)


def t_interval(values: ArrayLike, level: float = LEVEL) -> Interval:
    """Mean of independent values and its interval: mean ± t s/√n.

    Args:
        values: One a seed; NaN counts for nothing.
        level: Probability that the interval holds the mean.
    """
    known = np.asarray(values, dtype=np.float64)
    known = known[~np.isnan(known)]
    if not len(known):
        return Interval(math.nan, math.nan, math.nan)
    mean, half = float(known.mean()), math.nan
    if len(known) > 1:
        half = float(stats.t.ppf((1 + level) / 2, len(known) - 1) * known.std(ddof=1) / math.sqrt(len(known)))
    return Interval(mean, mean - half, mean + half)


def contrast_result(records: Sequence[ArmRecord], settings: ContrastSettings, notes: Iterable[str]) -> Result:
    """Tables, verdict and main numbers of finished arms.

    Args:
        records: One an arm, every grade with every seed.
        settings: Of the probe.
        notes: What is known already.
    """
    geometry = geometry_table(records)
    means = seed_means(geometry)
    trend = trend_table(means)
    contrast = contrast_table(means)
    return Result(
        main="contrast",
        tables={
            "contrast": contrast,
            "trend": trend,
            "arms": arms_table(records, geometry),
            "steps": steps_table(records),
            "geometry": geometry,
        },
        verdict=verdict(contrast, trend, settings.loss),
        figures=_figures(contrast, trend, records),
        notes=(*notes, *_notes(records)),
    )


def geometry_table(records: Sequence[ArmRecord]) -> pd.DataFrame:
    """One row an arm and matrix, in the columns of every geometry table."""
    rows = [{"grade": record.grade, "seed": record.seed, **row} for record in records for row in record.geometry]
    frame = pd.DataFrame(rows)
    numbers = [name for name in frame if name.startswith(SIDES) or name.endswith(("norm", "_rank", "fraction"))]
    return frame.astype(dict.fromkeys(numbers, float))


def seed_means(geometry: pd.DataFrame) -> pd.DataFrame:
    """Means over layers, an arm and module, and over the modules of a side: the values that seeds are compared by.

    Returns:
        Columns grade, seed, side, module (a role or ``all``), quantity, value.
    """
    parts = []
    for side in SIDES:
        measured = geometry[geometry[f"{side}_fraction"].notna()]
        for quantity in QUANTITIES:
            column = f"{side}_{quantity}"
            each = measured.groupby(["grade", "seed", "module"])[column].mean().reset_index()
            pooled = each.groupby(["grade", "seed"])[column].mean().reset_index().assign(module=ALL)
            found = pd.concat([each, pooled]).rename(columns={column: "value"})
            parts.append(found.assign(side=side, quantity=quantity))
    frame = pd.concat(parts, ignore_index=True).dropna(subset="value")
    return frame[["grade", "seed", "side", "module", "quantity", "value"]]


def contrast_table(means: pd.DataFrame) -> pd.DataFrame:
    """Mean over seeds and its interval, a row a grade, side, module and quantity."""
    rows = []
    for (side, module, quantity, grade), group in means.groupby(["side", "module", "quantity", "grade"]):
        interval = t_interval(group["value"])
        rows.append((grade, side, module, quantity, *interval, len(group)))
    columns = ["grade", "side", "module", "quantity", "mean", "low", "high", "n_seeds"]
    return pd.DataFrame(rows, columns=columns)


def trend_table(means: pd.DataFrame) -> pd.DataFrame:
    """How each value moves with the grade, a row a side, module and quantity; see ``trend``."""
    rows = []
    for (side, module, quantity), group in means.groupby(["side", "module", "quantity"]):
        values = group.pivot(index="seed", columns="grade", values="value").dropna()
        if len(values):
            rows.append({"side": side, "module": module, "quantity": quantity, **trend(values)})
    return pd.DataFrame(rows)


def trend(values: pd.DataFrame) -> dict[str, float | int]:
    """Trend over grades with seeds as blocks.

    The slope is that of a straight line through one seed's arms: one number a
    seed, so that its interval over seeds needs no model of the layers. The
    change is that from the first to the last grade, also seed by seed. Spearman's
    ρ is over all arms with each seed's mean taken out, and has no p-value: arms of
    a seed share their rows and move smoothly with the grade, so that their order
    is no independent evidence, whatever a rank test over arms would say.

    Args:
        values: Seeds × grades.

    Returns:
        Numbers by name.
    """
    grades = values.columns.to_numpy(dtype=np.float64)
    slopes = t_interval(np.polyfit(grades, values.to_numpy().T, 1)[0])
    change = t_interval(values.iloc[:, -1] - values.iloc[:, 0])
    centred = values.to_numpy() - values.to_numpy().mean(axis=1, keepdims=True)
    spearman = stats.spearmanr(np.tile(grades, len(values)), centred.ravel()).statistic if centred.any() else math.nan
    return {
        "slope": slopes.mean,
        "slope_low": slopes.low,
        "slope_high": slopes.high,
        "change": change.mean,
        "change_low": change.low,
        "change_high": change.high,
        "spearman": float(spearman),
        "n_seeds": len(values),
        "n_grades": len(grades),
    }


def arms_table(records: Sequence[ArmRecord], geometry: pd.DataFrame) -> pd.DataFrame:
    """One row an arm and module: means over layers, beside what the whole arm did."""
    means = geometry.groupby(["grade", "seed", "module"])[[*_MEANS, "norm", "relative_norm"]].mean().reset_index()
    counts = geometry.groupby(["grade", "seed", "module"]).size().rename("layers").reset_index()
    arms = pd.DataFrame([_arm_row(record) for record in records])
    return means.merge(counts).merge(arms, on=["grade", "seed"])


def steps_table(records: Sequence[ArmRecord]) -> pd.DataFrame:
    """One row an arm and step: the arm's own loss before the step, and the gradient's norm."""
    rows = [
        (record.grade, record.seed, step, loss, norm)
        for record in records
        for step, (loss, norm) in enumerate(zip(record.loss, record.grad_norm, strict=True), start=1)
    ]
    return pd.DataFrame(rows, columns=["grade", "seed", "step", "loss", "grad_norm"])


def verdict(contrast: pd.DataFrame, trend_rows: pd.DataFrame, loss: str) -> str:
    """The finding: whether the write side's fraction depends on the grade, and the read side's beside it.

    Shown where the whole 95 % interval of the slope over seeds lies on one side of 0.
    """
    sides = [_side_in_words(side, contrast, trend_rows) for side in ("write", "read")]
    known = [words for words in sides if words]
    if not known:
        return "Not shown: no side has a fraction."
    return f"From cross-entropy to {loss}: {'; '.join(known)}."


def _side_in_words(side: str, contrast: pd.DataFrame, trend_rows: pd.DataFrame) -> str | None:
    levels, found = _levels(contrast, side), _trend_of(trend_rows, side)
    if levels is None or found is None:
        return None
    first, last = levels.iloc[0], levels.iloc[-1]
    slope = Interval(found["slope"], found["slope_low"], found["slope_high"])
    verb = "falls" if last["mean"] < first["mean"] else "rises"
    shown = "shown" if slope.side_of_zero == (-1 if verb == "falls" else 1) else "not shown"
    evidence = f"slope {slope.mean:+.3g}"
    evidence += f", 95 % interval {slope.low:.3g} to {slope.high:.3g}" if not math.isnan(slope.low) else ""
    seeds = int(found["n_seeds"])
    evidence += f", {seeds} seeds" if seeds > 1 else ", 1 seed gives no interval"
    return (
        f"{side}-side fraction {verb} from {first['mean']:.3g} to {last['mean']:.3g} times its isotropic null: "
        f"{shown} ({evidence})"
    )


def _levels(contrast: pd.DataFrame, side: str) -> pd.DataFrame | None:
    rows = contrast[(contrast["side"] == side) & (contrast["module"] == ALL)]
    rows = rows[rows["quantity"] == "relative_isotropic"].sort_values("grade")
    return rows if len(rows) else None


def _trend_of(trend_rows: pd.DataFrame, side: str) -> pd.Series | None:
    if not len(trend_rows):
        return None
    rows = trend_rows[(trend_rows["side"] == side) & (trend_rows["module"] == ALL)]
    rows = rows[rows["quantity"] == "relative_isotropic"]
    return rows.iloc[0] if len(rows) else None


def _figures(
    contrast: pd.DataFrame, trend_rows: pd.DataFrame, records: Sequence[ArmRecord]
) -> dict[str, float | int | None]:
    figures: dict[str, float | int | None] = {"arms": len(records)}
    for side in SIDES:
        levels, found = _levels(contrast, side), _trend_of(trend_rows, side)
        if levels is None or found is None:
            continue
        figures[f"{side}_relative_isotropic_first"] = float(levels.iloc[0]["mean"])
        figures[f"{side}_relative_isotropic_last"] = float(levels.iloc[-1]["mean"])
        figures |= {f"{side}_{name}": float(found[name]) for name in ("slope", "slope_low", "slope_high", "spearman")}
    figures["norm_ratio"] = _norm_ratio(records)
    return figures


def _norm_ratio(records: Sequence[ArmRecord]) -> float:
    """Length of the last grade's deltas over that of the first grade's, means over seeds."""
    by_grade: dict[float, list[float]] = {}
    for record in records:
        by_grade.setdefault(record.grade, []).append(record.norm)
    first, last = (float(np.mean(by_grade[pick(by_grade)])) for pick in (min, max))
    return last / first if first else math.nan


def _notes(records: Sequence[ArmRecord]) -> list[str]:
    ratio = _norm_ratio(records)
    return [
        f"with equal steps the deltas of the last grade are {ratio:.3g} times as long as those of the first",
        "intervals are over seeds, that is over draws of rows: they hold for this model, these data and these steps",
        "the write side's energy null depends on each arm's own gradients; probe gradients measures it",
    ]


def _arm_row(record: ArmRecord) -> Mapping[str, Any]:
    held_out = {f"held_out_{name}": math.nan if value is None else value for name, value in record.held_out.items()}
    return {
        "grade": record.grade,
        "seed": record.seed,
        "rows_sha256": record.rows_sha256,
        "steps": len(record.loss),
        "loss_first": record.loss[0],
        "loss_last": record.loss[-1],
        "grad_norm_mean": float(np.mean([math.nan if value is None else value for value in record.grad_norm])),
        **held_out,
        "delta_norm": record.norm,
        "delta_relative_norm": record.relative_norm,
    }
