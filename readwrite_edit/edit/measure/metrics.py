"""Metrics over prompts: names of the field, each with a version that rises when its definition changes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from readwrite_edit.evaluate.intervals import mean_interval

Side = Callable[[pd.DataFrame, str], "pd.Series[float]"]


class Metric(NamedTuple):
    """A mean over prompts of one kind.

    Attributes:
        name: Behind the kind's own name, such as ``efficacy_success``.
        version: Of the definition.
        value: Its value on each prompt ``before`` or ``after``; NaN where it is not defined.
    """

    name: str
    version: int
    value: Side


def _success(rows: pd.DataFrame, side: str) -> pd.Series[float]:
    target, true = rows[f"target_log_probability_{side}"], rows[f"true_log_probability_{side}"]
    return (target > true).astype(float).where(target.notna() & true.notna())


def _magnitude(rows: pd.DataFrame, side: str) -> pd.Series[float]:
    return np.exp(rows[f"target_log_probability_{side}"]) - np.exp(rows[f"true_log_probability_{side}"])


def _column(name: str) -> Side:
    return lambda rows, side: rows[f"{name}_{side}"].astype(float)


def _kept(rows: pd.DataFrame, side: str) -> pd.Series[float]:
    changed = rows["top_changed"].astype(float)
    return 1 - changed if side == "after" else 0 * changed + 1


def _kl(rows: pd.DataFrame, side: str) -> pd.Series[float]:
    return rows["kl"] if side == "after" else 0 * rows["kl"]


_AIMED = (
    Metric("success", 1, _success),
    Metric("magnitude", 1, _magnitude),
    Metric("top1", 1, _column("target_top1")),
    Metric("probability", 1, _column("target_probability")),
    Metric("log_probability", 1, _column("target_log_probability")),
    Metric("reciprocal_rank", 1, lambda rows, side: 1 / rows[f"target_rank_{side}"].astype(float)),
)
_SPARED = (
    Metric("success", 1, lambda rows, side: 1 - _success(rows, side)),
    Metric("unchanged_top1", 1, _kept),
    Metric("kl", 1, _kl),
)
_SHIFTED = (Metric("changed_top1", 1, lambda rows, side: 1 - _kept(rows, side)), Metric("kl", 1, _kl))
_PREFIXES = {"prompt": "efficacy", "context": "context", "paraphrase": "paraphrase", "chat": "chat"}


def metrics_table(prompts: pd.DataFrame, *, seed: int = 0) -> pd.DataFrame:
    """One row a metric that some prompt defines.

    Args:
        prompts: From :func:`readwrite_edit.edit.measure.prompts.prompts_table`.
        seed: Of the bootstrap.
    """
    rows: list[dict[str, Any]] = []
    for kind, own in prompts.groupby("kind", sort=False):
        for name, metric in _metrics_of(str(kind)):
            before, after = (metric.value(own, side).to_numpy(dtype=float) for side in ("before", "after"))
            if not np.isnan(after).all():
                rows.append(_row(name, metric.version, str(kind), own["item"].to_numpy(), before, after, seed))
    return pd.DataFrame(rows)


def _metrics_of(kind: str) -> Iterator[tuple[str, Metric]]:
    """Names and metrics of a kind of prompt."""
    if kind == "locality":
        yield from ((f"locality_{metric.name}", metric) for metric in _SPARED)
    else:
        yield from ((f"{_PREFIXES.get(kind, kind)}_{metric.name}", metric) for metric in (*_AIMED, *_SHIFTED))


def _row(
    name: str, version: int, kind: str, items: np.ndarray[Any, Any], before: Any, after: Any, seed: int
) -> dict[str, Any]:
    interval = mean_interval(after, items, seed=seed)
    change = mean_interval(after - before, items, seed=seed)
    defined = ~np.isnan(after)
    return {
        "metric": name,
        "version": version,
        "kind": kind,
        "n": int(defined.sum()),
        "items": len(np.unique(items[defined])),
        "before": float(before[defined].mean()),
        "after": float(after[defined].mean()),
        "change": float((after - before)[defined].mean()),
        "low": interval.low,
        "high": interval.high,
        "change_low": change.low,
        "change_high": change.high,
    }
