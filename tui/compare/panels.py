"""Curves of several runs over each other: one metric a chart, one line a run, evaluations as marks beside it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from readwrite_edit.tui.run.metric_store import Key
from readwrite_edit.tui.run.panels import Panel, PanelLine, rank_of
from readwrite_edit.tui.run.series import Series

LETTERS = "ABCD"


def joined(runs: Sequence[Mapping[Key, Series]]) -> dict[Key, Series]:
    """The series of several runs under one roof: the kind begins with the run's letter."""
    return {
        (f"{letter} {kind}", name): series
        for letter, run in zip(LETTERS, runs, strict=False)
        for (kind, name), series in run.items()
    }


def compare_panels(keys: Iterable[Key]) -> list[Panel]:
    """One panel a metric, with a line for each run that has it.

    Args:
        keys: As ``joined`` makes them.
    """
    found: dict[str, list[Key]] = {}
    for key in keys:
        found.setdefault(_metric(key), []).append(key)
    return [_panel(title, found[title]) for title in sorted(found, key=lambda title: (rank_of(title), title))]


def _metric(key: Key) -> str:
    return key[1].removeprefix("eval_") if _kind(key) == "eval" else key[1]


def _panel(title: str, keys: Sequence[Key]) -> Panel:
    lines = []
    trained = any(_kind(key) == "train" for key in keys)
    for key in sorted(keys, key=lambda key: (_kind(key) != "train", key)):
        letter, kind = key[0][0], _kind(key)
        number, named = LETTERS.index(letter), kind == "train" or not trained
        lines.append(PanelLine(key, letter if named else f"{letter} {kind}", letter if named else "", number, number))
    return Panel(title, "", tuple(lines))


def _kind(key: Key) -> str:
    return key[0].partition(" ")[2]
