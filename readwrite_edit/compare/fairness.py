"""Whether a comparison is fair: what must be the same is, and what must be apart is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from readwrite_edit.compare.arms import Run
from readwrite_edit.compare.matched import common_seeds
from readwrite_edit.compare.measured import unlike
from readwrite_edit.errors import DataError
from readwrite_edit.evaluate.overlap import MOST_SHARED, NGRAM

_TRAINED_ON = (
    "data.",
    "train.max_length",
    "train.max_steps",
    "train.num_train_epochs",
    "train.per_device_train_batch_size",
    "train.gradient_accumulation_steps",
    "train.train_sampling_strategy",
    "train.data_seed",
)


@dataclass(frozen=True)
class Check:
    """One condition of a fair comparison.

    Attributes:
        name: In a few words.
        passed: None where the runs do not say.
        detail: What was found.
    """

    name: str
    passed: bool | None
    detail: str


def require_comparable(runs: Sequence[Run]) -> None:
    """Refuse runs whose figures can not be paired at all.

    Raises:
        DataError: They were evaluated on other rows or texts, or with another β.
    """
    first = runs[0]
    for run in runs[1:]:
        if different := unlike(first.evaluations[0], run.evaluations[0]):
            raise DataError(
                f"{first.name} and {run.name} were evaluated with different {different}: "
                "compare runs whose recipes have the same data, evaluation and objective.beta"
            )


def fairness(runs: Sequence[Run], chosen: Mapping[str, str], tried: Mapping[str, int]) -> list[Check]:
    """All checks.

    Args:
        runs: Those reported; ``require_comparable`` has passed.
        chosen: Arm to the value chosen for it.
        tried: Arm to how many values there were to choose from.
    """
    rows = len(runs[0].evaluations[0].rows.ids) if runs[0].evaluations[0].rows else 0
    texts = {name: len(text.ids) for name, text in runs[0].evaluations[0].texts.items()}
    counts = ", ".join(f"{count} sequences of '{name}'" for name, count in texts.items())
    return [
        Check("same evaluation", True, f"the same {rows} held-out rows and {counts} in all {len(runs)} runs"),
        _same_base(runs),
        _same_training(runs),
        _same_seeds(runs),
        _same_steps(runs),
        _apart(runs),
        _chosen_apart(chosen, tried),
    ]


def _same_base(runs: Sequence[Run]) -> Check:
    bases = {run.base for run in runs}
    if "" in bases:
        return Check("same base", None, "a run does not say which weights it began with")
    return Check(
        "same base", len(bases) == 1, f"{len(bases)} different bases" if len(bases) > 1 else "one base for all"
    )


def _same_training(runs: Sequence[Run]) -> Check:
    keys = sorted({key for run in runs for key in run.recipe if key.startswith(_TRAINED_ON)})
    different = [key for key in keys if len({repr(run.recipe.get(key)) for run in runs}) > 1]
    if different:
        return Check("same rows in training", False, f"the runs differ in {', '.join(different)}")
    return Check("same rows in training", True, "the same data, batches and steps; the order follows the seed")


def _same_seeds(runs: Sequence[Run]) -> Check:
    common = common_seeds(runs)
    short = sorted({run.arm for run in runs if run.seed not in common})
    named = ", ".join(map(str, common)) or "none"
    if short:
        return Check("same seeds", False, f"only seeds {named} are compared: {', '.join(short)} have more than others")
    return Check("same seeds", True, f"{named} in every arm")


def _same_steps(runs: Sequence[Run]) -> Check:
    steps = {tuple(one.step for one in run.evaluations) for run in runs}
    if len(steps) > 1:
        return Check("same steps", False, "the runs were evaluated at different steps: some paths have finer points")
    return Check("same steps", True, f"evaluated at {', '.join(map(str, next(iter(steps))))} in every run")


def _apart(runs: Sequence[Run]) -> Check:
    shared = [run.evaluations[-1].shared for run in runs]
    if not all(shared):
        return Check("kept apart", None, "a run does not say how much of the evaluation it had seen")
    worst = {name: max(one.get(name, 0.0) for one in shared) for one in shared for name in one}
    seen = {name: value for name, value in worst.items() if value > MOST_SHARED}
    found = ", ".join(f"{value:.1%} of {name}" for name, value in (seen or worst).items())
    detail = f"tokens in {NGRAM}-grams that were trained on or chose a basis: {found}; at most {MOST_SHARED:.0%} may be"
    return Check("kept apart", not seen, detail)


def _chosen_apart(chosen: Mapping[str, str], tried: Mapping[str, int]) -> Check:
    if not chosen:
        return Check("chosen apart", True, "nothing was chosen by its result")
    picks = ", ".join(f"{arm}: {label} of {tried[arm]}" for arm, label in chosen.items())
    return Check("chosen apart", True, f"on a third of the rows and sequences that no figure here uses ({picks})")
