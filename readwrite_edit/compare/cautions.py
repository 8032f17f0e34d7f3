"""What a reader of a comparison must know before its figures: how much they rest on, and what was not measured."""

from __future__ import annotations

from collections.abc import Iterator

from readwrite_edit.compare.result import Comparison
from readwrite_edit.compare.text import ASSUMED
from readwrite_edit.terminal import counted

_FEW_SEEDS = 5
_FEW_DRAWN = 10


def basis_of(comparison: Comparison) -> str:
    """How many seeds, rows and sequences every figure rests on; those that values are chosen by are not among them."""
    texts = (f"{counted(count, 'sequence')} of '{name}'" for name, count in comparison.sequences.items())
    seeds, rows = counted(len(comparison.seeds), "seed"), counted(comparison.rows, "held-out row")
    return ", ".join((seeds, rows, *texts))


def cautions(comparison: Comparison) -> Iterator[str]:
    """A sentence or two on each thing that makes the figures say less than they seem to."""
    if len(comparison.arms) == 1:
        yield "One arm: there is nothing to compare it with."
    if len(comparison.seeds) == 1:
        yield "One seed: the intervals say nothing of how another seed would come out."
    elif len(comparison.seeds) < _FEW_SEEDS:
        yield f"{len(comparison.seeds)} seeds: intervals from so few are too narrow, and so is p too small."
    yield from _few_drawn(comparison)
    yield from _short_paths(comparison)
    if _any_assumed(comparison):
        yield (
            f"{ASSUMED}: before that arm's first evaluation (of a difference or a ratio: or the baseline's), on the "
            "straight line from the untrained model, which is assumed: nothing was measured there."
        )


def _few_drawn(comparison: Comparison) -> Iterator[str]:
    """Rows and sequences are drawn anew for the intervals, as seeds are: of a handful there is little to draw."""
    few = [counted(comparison.rows, "held-out row")] if comparison.rows < _FEW_DRAWN else []
    few += [
        f"{counted(count, 'sequence')} of '{name}'"
        for name, count in comparison.sequences.items()
        if count < _FEW_DRAWN
    ]
    if few:
        yield (
            f"{', '.join(few)}: fewer than {_FEW_DRAWN}. Intervals that rest on them are too narrow, and p and the "
            "stars say less than they seem to."
        )


def _short_paths(comparison: Comparison) -> Iterator[str]:
    """Arms of which a run has one evaluation."""
    steps: dict[tuple[str, int], int] = {}
    for point in comparison.points:
        steps[point.arm, point.seed] = steps.get((point.arm, point.seed), 0) + 1
    short = dict.fromkeys(arm for (arm, _), count in steps.items() if count == 1)
    if short:
        yield (
            f"One evaluation in a run of {', '.join(short)}: its path is one point, and all before that is assumed; "
            "with train.eval_steps below train.max_steps there are more."
        )


def _any_assumed(comparison: Comparison) -> bool:
    budgets = (one.assumed for groups in comparison.budgets.values() for group in groups for one in group)
    levels = (one.assumed for groups in comparison.levels.values() for group in groups for one in group)
    return any(budgets) or any(levels)
