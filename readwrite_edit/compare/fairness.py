"""Whether a comparison is fair: what must be the same is, and what must be apart is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from readwrite_edit.compare.arms import LeftOut, Run
from readwrite_edit.compare.matched import common_seeds
from readwrite_edit.compare.measured import unlike
from readwrite_edit.errors import DataError
from readwrite_edit.evaluate.overlap import MOST_SHARED, NGRAM
from readwrite_edit.terminal import counted

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


def fairness(
    runs: Sequence[Run],
    *,
    chosen: Mapping[str, str],
    tried: Mapping[str, int],
    planned: Mapping[str, int],
    left_out: Sequence[LeftOut] = (),
) -> list[Check]:
    """All checks.

    Args:
        runs: Those reported; ``require_comparable`` has passed.
        chosen: Arm to the value chosen for it.
        tried: Arm to how many values there were to choose from.
        planned: Arm to how many there should have been.
        left_out: Runs that could not be compared.
    """
    return [
        _same_evaluation(runs),
        _same_base(runs),
        _same_training(runs),
        _every_run(left_out),
        _same_seeds(runs),
        _same_steps(runs),
        _apart(runs),
        _chosen_apart(chosen, tried, planned),
    ]


def _same_evaluation(runs: Sequence[Run]) -> Check:
    first = runs[0].evaluations[0]
    rows = len(first.rows.ids) if first.rows else 0
    texts = ", ".join(f"{counted(len(text.ids), 'sequence')} of '{name}'" for name, text in first.texts.items())
    alike = f"the same {counted(rows, 'held-out row')} and {texts} in {counted(len(runs), 'run')}"
    return Check("same evaluation", True, f"{alike}; a third of them is kept to choose by")


def _same_base(runs: Sequence[Run]) -> Check:
    bases = {run.base for run in runs}
    if "" in bases:
        return Check("same base", None, "a run does not say which weights it began with")
    return Check(
        "same base", len(bases) == 1, f"{len(bases)} different bases" if len(bases) > 1 else "one base for all"
    )


def _same_training(runs: Sequence[Run]) -> Check:
    name = "same rows in training"
    keys = sorted({key for run in runs for key in run.recipe if key.startswith(_TRAINED_ON)})
    different = [key for key in keys if len({repr(run.recipe.get(key)) for run in runs}) > 1]
    if different:
        return Check(name, False, f"the runs differ in {', '.join(different)}")
    if len({run.data for run in runs} - {""}) > 1:
        return Check(name, False, "the runs read other rows from the same place: the data were changed between them")
    if not all(run.data for run in runs):
        return Check(name, None, "a run does not say which rows it read")
    return Check(name, True, "the same data, batches and steps; the order follows the seed")


def _every_run(left_out: Sequence[LeftOut]) -> Check:
    """A run that failed, diverged or is damaged can flatter its arm by its absence."""
    missing = [one for one in left_out if not one.twice]
    if not missing:
        return Check("every run", True, "none is missing")
    more = f" (and {len(missing) - 1} more)" if len(missing) > 1 else ""
    first = f"{missing[0].name}: {missing[0].reason}"
    return Check("every run", False, f"{counted(len(missing), 'run')} left out: {first}{more}")


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


def _chosen_apart(chosen: Mapping[str, str], tried: Mapping[str, int], planned: Mapping[str, int]) -> Check:
    if not chosen:
        return Check("chosen apart", True, "nothing was chosen by its result")
    short = {arm for arm in chosen if tried[arm] < planned[arm]}
    picks = ", ".join(
        f"{arm}: {label} of {tried[arm]}" + (f", planned {planned[arm]}" if arm in short else "")
        for arm, label in chosen.items()
    )
    where = "on a third of the rows and sequences that no figure here uses"
    return Check("chosen apart", not short, f"{where}{', from fewer values than were planned' * bool(short)} ({picks})")
