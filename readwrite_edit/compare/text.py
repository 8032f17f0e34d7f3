"""A comparison as tables of text, for the terminal and for the page."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from readwrite_edit.compare.matched import AtBudget, AtLevel, Estimate
from readwrite_edit.compare.points import farthest
from readwrite_edit.compare.result import Comparison

Row = tuple[str, ...]
MISSING = "–"
_LEAST_P = 0.001
_PLAIN_P = 0.1
_NEXT = 2
ALPHA, STAR, ASSUMED = 0.05, "*", "~"
_WORDS = {"margin": "margin", "loss": "fall of the loss"}


def gain_word(comparison: Comparison) -> str:
    """What counts as gain, in words."""
    return _WORDS[comparison.gain]


def arms_table(comparison: Comparison) -> list[Row]:
    """What each arm is: the value chosen for it, what it trained, and how long that took in the mean."""
    heading = ("arm", "seeds", "chosen", "parameters", "adapter bytes", "minutes a run")
    return [
        heading,
        *(
            (
                facts.arm,
                str(len(facts.runs)),
                facts.chosen or MISSING,
                _count(facts.parameters),
                _count(facts.adapter_bytes),
                MISSING if facts.duration_s is None else f"{facts.duration_s / 60:.1f}",
            )
            for facts in comparison.arms
        ),
    ]


def extent_table(comparison: Comparison) -> list[Row]:
    """How far each arm's paths go: the best gain, and the largest KL on each text, means over its seeds."""
    texts = comparison.texts
    rows: list[Row] = [("arm", f"best {gain_word(comparison)}", *(f"KL {text}" for text in texts))]
    for facts in comparison.arms:
        ends = [farthest(comparison.points, facts.arm, text, comparison.gain) for text in texts]
        rows.append((facts.arm, f"{ends[0][1]:.3g}", *(f"{cost:.2g}" for cost, _ in ends)))
    return rows


def at_equal_cost(comparison: Comparison, text: str, *, full: bool = False) -> list[Row]:
    """The gains of all arms at each cost on a text.

    Args:
        comparison: Of the arms.
        text: Whose cost.
        full: Below each arm its paired difference from the baseline; else a star where that is beyond chance.
    """
    groups = comparison.budgets[text]
    cells = [
        [_marked(comparison, group, one, _gain_cell(one), one.difference and _difference(one, one.difference))
         for one in group]
        for group in groups
    ]  # fmt: skip
    heading = ("arm", *(f"KL {group[0].budget:.3g}" for group in groups))
    return [heading, *(_pairs(comparison, cells) if full else _starred(comparison, cells, groups))]


def at_equal_gain(comparison: Comparison, text: str, *, full: bool = False) -> list[Row]:
    """The costs of all arms on a text at each gain.

    Args:
        comparison: Of the arms.
        text: On which the cost is.
        full: Below each arm its paired ratio to the baseline; else a star where that is beyond chance.
    """
    groups = comparison.levels[text]
    cells = [
        [_marked(comparison, group, one, _cost_cell(one), one.ratio and _ratio(one, one.ratio)) for one in group]
        for group in groups
    ]  # fmt: skip
    heading = ("arm", *(f"{comparison.gain} {group[0].level:.3g}" for group in groups))
    return [heading, *(_pairs(comparison, cells) if full else _starred(comparison, cells, groups))]


def beside(rows: Sequence[Row], width: int) -> Iterator[list[Row]]:
    """A table in parts that are no wider than a terminal; each has the first column and at least one further.

    Rows that say nothing in a part are left out of it.

    Args:
        rows: Of one length.
        width: Cells of a line.
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    start = 1
    while start < len(widths):
        end, used = start + 1, widths[0] + _NEXT + widths[start]
        while end < len(widths) and used + _NEXT + widths[end] <= width:
            used += _NEXT + widths[end]
            end += 1
        yield [(row[0], *row[start:end]) for row in rows if any(row[start:end])]
        start = end


def _pairs(comparison: Comparison, columns: Sequence[Sequence[tuple[str, str]]]) -> Iterator[Row]:
    """Two lines an arm; one where it is nowhere matched with the baseline."""
    for at, facts in enumerate(comparison.arms):
        yield facts.arm, *(column[at][0] for column in columns)
        against = [column[at][1] for column in columns]
        if any(against):
            yield f"  against {comparison.baseline}", *against


def _starred(
    comparison: Comparison,
    columns: Sequence[Sequence[tuple[str, str]]],
    groups: Sequence[Sequence[AtBudget | AtLevel]],
) -> Iterator[Row]:
    """One line an arm."""
    for at, facts in enumerate(comparison.arms):
        cells = (column[at][0] + STAR * beyond_chance(group[at]) for column, group in zip(columns, groups, strict=True))
        yield facts.arm, *cells


def _marked(
    comparison: Comparison,
    group: Sequence[AtBudget | AtLevel],
    one: AtBudget | AtLevel,
    own: str,
    against: str | None,
) -> tuple[str, str]:
    """An arm's cell and that against the baseline, each marked where it rests on what was not measured."""
    base = any(other.assumed for other in group if other.arm == comparison.baseline)
    return ASSUMED * bool(one.assumed) + own, ASSUMED * bool(against and (one.assumed or base)) + (against or "")


def beyond_chance(one: AtBudget | AtLevel) -> bool:
    """Whether an arm differs from the baseline after Holm's adjustment."""
    return one.p_holm is not None and one.p_holm < ALPHA


def _gain_cell(one: AtBudget) -> str:
    if one.reached < 1:
        return f"≥ {one.gain.value:.3g}, spent less"
    return f"{one.gain.value:.3g} {interval(one.gain)}"


def _difference(one: AtBudget, difference: Estimate) -> str:
    return f"{difference.value:+.3g} {interval(difference, '+.2g')}, {p_text(one)}"


def _cost_cell(one: AtLevel) -> str:
    if one.reached == 0:
        return "never there"
    if one.reached < 1:
        return f"{one.reached:.0%} of seeds there"
    return f"{one.cost.value:.2g} {interval(one.cost)}"


def _ratio(one: AtLevel, ratio: Estimate) -> str:
    return f"{ratio.value:.2g}× {interval(ratio)}, {p_text(one)}"


def interval(estimate: Estimate, form: str = ".2g") -> str:
    """A 95 % interval."""
    ends = ("∞" if math.isinf(end) else f"{end:{form}}" for end in estimate[1:])
    return "[{}, {}]".format(*ends)


def p_text(one: AtBudget | AtLevel) -> str:
    """The p-value, and in brackets Holm's where that is another."""
    if one.p is None or one.p_holm is None:
        return ""
    plain, adjusted = p_number(one.p), p_number(one.p_holm)
    sign = "" if plain.startswith("<") else "= "
    return f"p {sign}{plain}" + (f" ({adjusted})" if adjusted != plain else "")


def p_number(value: float) -> str:
    """A p-value to two digits."""
    return f"< {_LEAST_P:g}" if value < _LEAST_P else f"{value:.2g}" if value < _PLAIN_P else f"{value:.2f}"


def _count(value: int | None) -> str:
    return MISSING if value is None else f"{value:,}"
