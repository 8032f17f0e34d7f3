"""The end table: what a run changed, before → after, in numbers a reader can take in."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from readwrite_edit.report.record import is_number

MISSING = "–"
_KNOWN = {
    "eval_loss": ("Held-out loss", ""),
    "eval_rewards/accuracies": ("Held-out accuracy", "%"),
    "eval_rewards/margins": ("Held-out reward margin", ""),
}
_TEXT_METRICS = {"kl_": ("KL to base, {}", "nats/token"), "perplexity_": ("Perplexity, {}", "")}
_BOOKKEEPING = ("_runtime", "_per_second", "_num_tokens", "epoch")


@dataclass(frozen=True)
class Row:
    """One line of the end table, ready to show.

    Attributes:
        metric: Name in ``summary.json``.
        label: Name for a reader.
        unit: Unit of the three figures, or empty.
        before: Figure of the base model; ``–`` where there is none.
        after: Figure of the tuned model.
        change: After minus before, with its sign; percentage points for a share.
    """

    metric: str
    label: str
    unit: str
    before: str
    after: str
    change: str


def main_rows(summary: dict[str, Any]) -> list[Row]:
    """Loss, accuracy and margin, then divergence and perplexity on each neutral text, by name."""
    names = _names(summary)
    texts = [name for prefix in _TEXT_METRICS for name in sorted(names) if name.startswith(prefix)]
    return [_row(name, summary) for name in [*(name for name in _KNOWN if name in names), *texts]]


def other_rows(summary: dict[str, Any]) -> list[Row]:
    """Every further figure of the end table but the trainer's bookkeeping."""
    shown = {row.metric for row in main_rows(summary)}
    rest = [name for name in _names(summary) if name not in shown and not name.endswith(_BOOKKEEPING)]
    return [_row(name, summary) for name in rest]


def summary_table(summary: dict[str, Any]) -> str:
    """The end table as aligned plain text.

    Args:
        summary: Content of ``summary.json``.

    Returns:
        Lines of equal columns: metric, before, after, change.
    """
    rows = [("", "before", "after", "change")]
    rows += [(_titled(row), row.before, row.after, row.change) for row in main_rows(summary)]
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    return "\n".join(_aligned(row, widths) for row in rows)


def _aligned(cells: tuple[str, ...], widths: list[int]) -> str:
    label, *figures = cells
    padded = [figure.rjust(width) for figure, width in zip(figures, widths[1:], strict=True)]
    return "  ".join([label.ljust(widths[0]), *padded]).rstrip()


def _titled(row: Row) -> str:
    return f"{row.label} ({row.unit})" if row.unit else row.label


def _names(summary: dict[str, Any]) -> list[str]:
    return list(dict.fromkeys([*summary.get("before", {}), *summary.get("after", {})]))


def _row(metric: str, summary: dict[str, Any]) -> Row:
    label, unit = _describe(metric)
    scale = 100.0 if unit == "%" else 1.0
    before = _number(summary.get("before", {}).get(metric), scale)
    after = _number(summary.get("after", {}).get(metric), scale)
    digits = 1 if unit == "%" else decimals(before, after)
    change = None if before is None or after is None else after - before
    return Row(metric, label, unit, fixed(before, digits), fixed(after, digits), fixed(change, digits, sign=True))


def _describe(metric: str) -> tuple[str, str]:
    for prefix, (label, unit) in _TEXT_METRICS.items():
        if metric.startswith(prefix):
            return label.format(metric.removeprefix(prefix)), unit
    return _KNOWN.get(metric, (metric, ""))


def _number(value: Any, scale: float) -> float | None:
    return float(value) * scale if is_number(value) else None


def decimals(*values: float | None) -> int:
    """Decimal places that give the largest of the values four significant digits; at most six."""
    largest = max((abs(value) for value in values if value is not None), default=0.0)
    return 0 if largest == 0 else min(6, max(0, 3 - math.floor(math.log10(largest))))


def fixed(value: float | None, digits: int, *, sign: bool = False) -> str:
    """A number with fixed decimals; exponents below their reach, ``–`` for a missing one."""
    if value is None or not math.isfinite(value):
        return MISSING
    if value == 0:
        return "0"
    mark = "+" if sign else ""
    if abs(value) < 0.5 * 10**-digits:  # a rounded zero has no sign
        return format(value, f"{mark}.1e") if digits == 6 else format(0.0, f".{digits}f")
    return format(value, f"{mark},.{digits}f")
