"""A comparison as tables of text, for the terminal and for files."""

from __future__ import annotations

import math
from collections.abc import Iterator

from readwrite_edit.compare.matched import AtBudget, AtLevel, Estimate
from readwrite_edit.compare.result import Comparison, gain_of, mean_path

Row = tuple[str, ...]


def overview(comparison: Comparison) -> list[Row]:
    """Each arm in the end: what it trained, gained and cost, means over its seeds."""
    texts = list(comparison.budgets)
    rows: list[Row] = [
        ("arm", "seeds", "parameters", "bytes", "minutes", comparison.gain, *(f"KL {text}" for text in texts))
    ]
    for facts in comparison.arms:
        paths = [mean_path(comparison.points, facts.arm, text, comparison.gain)[-1] for text in texts]
        chosen = f" ({facts.chosen})" if facts.chosen else ""
        rows.append(
            (
                facts.arm + chosen,
                str(len(facts.runs)),
                _count(facts.parameters),
                _count(facts.adapter_bytes),
                "–" if facts.duration_s is None else f"{facts.duration_s / 60:.1f}",
                f"{paths[0][2]:+.3f}",
                *(f"{cost:.4f}" for _, cost, _ in paths),
            )
        )
    return rows


def at_equal_cost(comparison: Comparison, text: str) -> Iterator[tuple[str, list[Row]]]:
    """One table a budget: title and rows."""
    for group in comparison.budgets[text]:
        title = f"{comparison.gain} at KL {group[0].budget:.4g} on '{text}'"
        heading = ("arm", comparison.gain, "95 %", f"less {comparison.baseline}", "95 %", "p")
        yield title, [heading, *(_budget_row(one) for one in group)]


def at_equal_gain(comparison: Comparison, text: str) -> Iterator[tuple[str, list[Row]]]:
    """One table a level: title and rows."""
    for group in comparison.levels[text]:
        title = f"KL on '{text}' at {comparison.gain} {group[0].level:.4g}"
        heading = ("arm", "KL", "95 %", f"over {comparison.baseline}", "95 %", "p")
        yield title, [heading, *(_level_row(one) for one in group)]


def points_table(comparison: Comparison) -> list[Row]:
    """Every point of every path, for a file."""
    texts = list(comparison.budgets)
    rows: list[Row] = [
        ("arm", "seed", "step", "gain", "margin", "loss", "accuracy", "price", *(f"kl_{text}" for text in texts))
    ]
    for point in comparison.points:
        figures = (gain_of(point, comparison.gain), point.margin, point.loss, point.accuracy)
        costs = (point.price, *(point.kl[text] for text in texts))
        values = (*figures, *costs)
        rows.append((point.arm, str(point.seed), str(point.step), *("" if v is None else f"{v:.6g}" for v in values)))
    return rows


def matched_table(comparison: Comparison) -> list[Row]:
    """Everything at equal cost and at equal gain, for a file."""
    heading = ("kind", "text", "at", "arm", "value", "low", "high", "reached", "against", "low", "high", "p")
    rows: list[Row] = [heading]
    for text in comparison.budgets:
        for at_budget in (one for group in comparison.budgets[text] for one in group):
            against = _numbers(at_budget.difference)
            rows.append(
                (f"{comparison.gain}_at_kl", text, f"{at_budget.budget:.6g}", at_budget.arm, *_numbers(at_budget.gain),
                 f"{at_budget.reached:.3g}", *against, _number(at_budget.p))
            )  # fmt: skip
        for at_level in (one for group in comparison.levels[text] for one in group):
            rows.append(
                (f"kl_at_{comparison.gain}", text, f"{at_level.level:.6g}", at_level.arm, *_numbers(at_level.cost),
                 "", *_numbers(at_level.ratio), _number(at_level.p))
            )  # fmt: skip
    return rows


def _budget_row(one: AtBudget) -> Row:
    sign = "" if one.reached == 1 else "≥ "
    if one.difference is None:
        return one.arm, f"{sign}{one.gain.value:+.3f}", _range(one.gain, "+.3f"), "", "", ""
    difference = one.difference
    return (
        one.arm,
        f"{sign}{one.gain.value:+.3f}",
        _range(one.gain, "+.3f"),
        f"{difference.value:+.3f}",
        _range(difference, "+.3f"),
        _p(one.p),
    )


def _level_row(one: AtLevel) -> Row:
    cost = (one.arm, "never" if math.isinf(one.cost.value) else f"{one.cost.value:.4g}", _range(one.cost, ".2g"))
    if one.ratio is None:
        return *cost, "", "", ""
    ratio = "–" if not math.isfinite(one.ratio.value) else f"{one.ratio.value:.2g}×"
    return *cost, ratio, _range(one.ratio, ".2g"), _p(one.p)


def _range(estimate: Estimate, form: str) -> str:
    ends = ("∞" if math.isinf(end) else "?" if math.isnan(end) else f"{end:{form}}" for end in estimate[1:])
    return "[{}, {}]".format(*ends)


def _numbers(estimate: Estimate | None) -> Row:
    return ("", "", "") if estimate is None else tuple(f"{value:.6g}" for value in estimate)


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"


def _p(value: float | None) -> str:
    return "" if value is None else "< 0.001" if value < 0.001 else f"{value:.3f}"


def _count(value: int | None) -> str:
    return "–" if value is None else f"{value:,}"
