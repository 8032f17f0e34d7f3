"""The whole of a comparison as plain data: what the table, the page and other programs are made of."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from readwrite_edit.compare.arms import LeftOut, Run, collect
from readwrite_edit.compare.fairness import Check, fairness, require_comparable
from readwrite_edit.compare.matched import DRAWS, AtBudget, AtLevel, Resamples, common_seeds
from readwrite_edit.compare.measured import Gain
from readwrite_edit.compare.points import Point, farthest, front_of, points_of, spent_by_all
from readwrite_edit.compare.selection import chosen_runs, values_of
from readwrite_edit.durable import plain
from readwrite_edit.errors import DataError, RecipeError

BASELINES, PLAIN = ("lora", "plain-lora"), "lora"
SHARES = (0.1, 0.25, 0.5)
_DIGITS = 2


@dataclass(frozen=True, kw_only=True)
class ArmFacts:
    """What an arm is, besides its path.

    Attributes:
        arm: Its name.
        chosen: Its value on the axis that was chosen on; empty without.
        runs: Names of its runs.
        parameters: Trained ones; None where unknown.
        adapter_bytes: Of one adapter.
        duration_s: Mean over its runs; None where unknown.
    """

    arm: str
    chosen: str
    runs: tuple[str, ...]
    parameters: int | None
    adapter_bytes: int | None
    duration_s: float | None


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Arms against each other.

    Attributes:
        baseline: Arm that the others are compared with.
        gain: ``margin`` or ``loss``.
        draws: Of the bootstrap.
        rows: Held-out rows that are reported.
        sequences: Text to its sequences that are reported.
        seeds: That all arms have.
        arms: In the order of the sweep.
        points: Every evaluation of every reported run.
        front: Text to the (arm, step) that no other mean over seeds dominates.
        budgets: Text to the arms at each cost, from the least.
        levels: Text to the arms at each gain, from the least; none where the baseline gained nothing.
        checks: Whether it is fair.
        left_out: Runs that could not be compared.
    """

    baseline: str
    gain: Gain
    draws: int
    rows: int
    sequences: Mapping[str, int]
    seeds: tuple[int, ...]
    arms: tuple[ArmFacts, ...]
    points: tuple[Point, ...]
    front: Mapping[str, tuple[tuple[str, int], ...]]
    budgets: Mapping[str, tuple[tuple[AtBudget, ...], ...]]
    levels: Mapping[str, tuple[tuple[AtLevel, ...], ...]]
    checks: tuple[Check, ...]
    left_out: tuple[LeftOut, ...]

    @property
    def texts(self) -> list[str]:
        """Names of the texts."""
        return list(self.sequences)

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON; what is infinite (a cost of what is never gained) or unknown is None."""
        left_out = [{"name": one.name, "reason": one.reason} for one in self.left_out]
        found: dict[str, Any] = plain({"schema": 1, **asdict(self), "left_out": left_out})
        return found


def compare_runs(
    paths: Sequence[Path],
    *,
    baseline: str | None = None,
    gain: Gain = "margin",
    budgets: Sequence[float] = (),
    levels: Sequence[float] = (),
    draws: int = DRAWS,
) -> Comparison:
    """Compare the runs of sweeps, or single runs.

    Args:
        paths: Run folders and folders of sweeps.
        baseline: Arm to compare with; by default the arm named as plain LoRA, else one that is it, else the first.
        gain: What counts as gain.
        budgets: Costs to compare gains at, in nats a position; for the default see ``default_budgets``.
        levels: Gains to compare costs at; for the default see ``default_levels``.
        draws: Of the bootstrap.

    Raises:
        FolderError: Nothing can be compared.
        DataError: The runs were evaluated on different rows or texts, or the arms have no seed in common.
        RecipeError: No arm is called as the baseline.
    """
    runs, left_out = collect(paths)
    require_comparable(runs)
    reported, chosen = chosen_runs(runs)
    left_out += [
        LeftOut(name=run.name, reason="its arm has no run of seed 0 to choose a value by")
        for run in runs
        if run.chosen and run.arm not in chosen
    ]
    named = _baseline(reported, baseline)
    if not common_seeds(reported):
        raise DataError("no seed that every arm has a finished run of: finish the sweep, or compare fewer arms")
    found = Resamples(reported, baseline=named, gain=gain, draws=draws)
    compared = [run for run in reported if run.seed in found.seeds]
    points = [point for run in compared for point in points_of(run.evaluations, arm=run.arm, seed=run.seed)]
    texts = list(found.sequences)
    at = {text: sorted(set(budgets)) or default_budgets(points, named, text, gain) for text in texts}
    having = {text: sorted(set(levels)) or default_levels(points, named, text, gain) for text in texts}
    return Comparison(
        baseline=named,
        gain=gain,
        draws=draws,
        rows=found.rows,
        sequences=found.sequences,
        seeds=found.seeds,
        arms=tuple(_facts(compared, chosen)),
        points=tuple(points),
        front={text: front_of(points, text, gain) for text in texts},
        budgets={text: tuple(tuple(found.at_budget(text, one)) for one in at[text]) for text in texts},
        levels={text: tuple(tuple(found.at_level(text, one)) for one in having[text]) for text in texts},
        checks=tuple(
            fairness(
                reported, chosen=chosen, tried=values_of(runs), planned=values_of([*runs, *left_out]), left_out=left_out
            )
        ),
        left_out=tuple(left_out),
    )


def default_budgets(points: Sequence[Point], baseline: str, text: str, gain: Gain) -> list[float]:
    """A tenth, a quarter and a half of what the baseline costs at most, and what all have spent where that is less."""
    most, _ = farthest(points, baseline, text, gain)
    shares = [_short(share * most) for share in SHARES if share * most > 0]
    common = _short(spent_by_all(points, text))
    return [common, *shares] if shares and 0 < common < shares[0] else shares


def default_levels(points: Sequence[Point], baseline: str, text: str, gain: Gain) -> list[float]:
    """A tenth, a quarter and a half of the best that the baseline gains."""
    _, best = farthest(points, baseline, text, gain)
    return [_short(share * best) for share in SHARES if share * best > 0]


def _short(value: float) -> float:
    """Rounded down to two significant digits, for people to read and repeat."""
    if value <= 0:
        return 0.0
    places = _DIGITS - 1 - math.floor(math.log10(value))
    return float(f"{math.floor(value * 10.0**places) / 10.0**places:.{_DIGITS}g}")


def _baseline(runs: Sequence[Run], named: str | None) -> str:
    arms = list(dict.fromkeys(run.arm for run in runs))
    if named is None:
        plain = [run.arm for run in runs if run.recipe.get("adapter.basis") == PLAIN]
        return next((arm for arm in BASELINES if arm in arms), (plain or arms)[0])
    if named not in arms:
        raise RecipeError(f"--baseline {named}: expected one of {', '.join(arms)}")
    return named


def _facts(runs: Sequence[Run], chosen: Mapping[str, str]) -> list[ArmFacts]:
    facts = []
    for arm in dict.fromkeys(run.arm for run in runs):
        own = [run for run in runs if run.arm == arm]
        times = [run.duration_s for run in own if run.duration_s is not None]
        facts.append(
            ArmFacts(
                arm=arm,
                chosen=chosen.get(arm, ""),
                runs=tuple(run.name for run in own),
                parameters=own[0].parameters,
                adapter_bytes=own[0].adapter_bytes,
                duration_s=sum(times) / len(times) if times else None,
            )
        )
    return facts
