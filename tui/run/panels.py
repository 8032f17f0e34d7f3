"""Which metrics share a chart: training and evaluation, chosen and rejected, one by text."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from readwrite_edit.tui.charts.parts import MARKS
from readwrite_edit.tui.run.metric_store import Key

_FIRST = (
    "loss", "rewards/margins", "rewards", "KL to the base", "rewards/accuracies", "learning_rate", "grad_norm",
    "tokens_per_s", "perplexity", "logps", "entropy", "mean_token_accuracy", "logits",
)  # fmt: skip
_LAST = ("epoch", "num_tokens", "seed", "grade", "model_preparation_time", "runtime")
_BY_TEXT = {"kl_": ("KL to the base", "nats/token"), "perplexity_": ("perplexity", "")}
_PAIR = ("chosen", "rejected")
_MOST_LINES = 6


@dataclass(frozen=True)
class PanelLine:
    """One line of a panel.

    Attributes:
        key: Kind and name of the metric.
        label: Its name within the panel.
        short: The same for the end of its line, which stands beside that of its twin.
        pen: Number of its pen and mark.
        ink: Number of its colour.
    """

    key: Key
    label: str
    short: str
    pen: int
    ink: int


@dataclass(frozen=True)
class Panel:
    """One chart."""

    title: str
    unit: str
    lines: tuple[PanelLine, ...]


def panels(keys: Iterable[Key]) -> list[Panel]:
    """The charts of a run: what matters most first, bookkeeping last, the rest by name.

    Args:
        keys: Kind and name of what was logged.
    """
    found: dict[tuple[str, str], list[tuple[Key, str]]] = {}
    for key in keys:
        title, unit, label = _place(key)
        found.setdefault((title, unit), []).append((key, label))
    return [
        Panel(title, unit, _lines(members[start : start + _MOST_LINES]))
        for (title, unit), members in sorted(found.items(), key=lambda item: _rank(item[0][0]))
        for start in range(0, len(members), _MOST_LINES)
    ]


def rank_of(metric: str) -> tuple[int, str]:
    """Where the panel of a metric stands among the others, by its name in training."""
    return _rank(_place(("train", metric))[0])


def _place(key: Key) -> tuple[str, str, str]:
    """Title and unit of the panel that a metric belongs to, and its label there."""
    kind, name = key
    base = name.removeprefix("eval_") if kind == "eval" else name
    for prefix, (title, unit) in _BY_TEXT.items():
        if base.startswith(prefix):
            return title, unit, base.removeprefix(prefix)
    group, _, last = base.rpartition("/")
    if group and last in _PAIR:
        return group, "", last if kind == "train" else f"{last}, {kind}"
    return base, "", kind


def _lines(members: list[tuple[Key, str]]) -> tuple[PanelLine, ...]:
    """Lines in the order of their kind, training first; a pair keeps its two colours in either kind."""
    ordered = sorted(members, key=lambda member: member[0][0] != "train")
    lines = []
    for number, (key, label) in enumerate(ordered):
        pair = next((place for place, name in enumerate(_PAIR) if label.startswith(name)), None)
        short = label if pair is None or key[0] == "train" else f"{MARKS[number % len(MARKS)]} {key[0]}"
        lines.append(PanelLine(key, label, short, pen=number, ink=number if pair is None else pair))
    return tuple(lines)


def _rank(title: str) -> tuple[int, str]:
    if title in _FIRST:
        return _FIRST.index(title), ""
    late = title in _LAST or title.endswith(("_per_second", "runtime"))
    return len(_FIRST) + late, title
