"""The tables of docs/evidence.md, from the CSV files that ``evidence.py figures`` leaves.

A line ``<!-- table NAME KIND -->`` in the page is followed by the table KIND of the
comparison NAME, up to the next empty line; ``filled`` writes each of them anew.

- ``ends``: each arm where its paths end, means over seeds.
- ``kl``: KL on each text at the middle one of the gains that arms are matched at, and its ratio to plain LoRA's.
- ``margin``: the gain at the middle one of the KLs that arms are matched at, and its difference from plain LoRA's.

Of an even number the lower middle one: at the largest few arms are left.
"""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from statistics import fmean, median_low

BASELINE = "lora"
KEPT_BACK = "_protected"  # of a protected text: of too few sequences to say much beside its held-out twin
_MARKER = re.compile(r"(<!-- table (\S+) (\S+) -->\n)(?:\n?(?:\|.*\n)+)?")
_P = 0.05

Line = Mapping[str, str]
Row = Sequence[str]


def filled(page: str, folder: Path) -> str:
    """A page with its tables written anew from the folders of comparisons in a folder."""

    def replaced(found: re.Match[str]) -> str:
        name, kind = found.group(2), found.group(3)
        return found.group(1) + "\n" + markdown(TABLES[kind](folder / name))

    return _MARKER.sub(replaced, page)


def markdown(rows: Sequence[Row]) -> str:
    """Rows, the first a heading, as a table."""
    heading, *body = rows
    rule = ["---", *["---:"] * (len(heading) - 1)]
    return "".join(f"| {' | '.join(row)} |\n" for row in (heading, rule, *body))


def ends_table(folder: Path) -> list[Row]:
    """The last evaluation of each arm, mean over its seeds."""
    points = read(folder / "points.csv")
    texts = kl_columns(points)
    rows: list[Row] = [("arm", "seeds", "margin", "accuracy", *(f"KL {text[3:]}" for text in texts))]
    for arm in arms(points):
        own = [line for line in points if line["arm"] == arm]
        last = max(int(line["step"]) for line in own)
        ends = [line for line in own if int(line["step"]) == last]
        means = {name: fmean(float(line[name]) for line in ends) for name in ("margin", "accuracy", *texts)}
        figures = (f"{means['margin']:.3f}", f"{means['accuracy']:.0%}", *(f"{means[text]:.2g}" for text in texts))
        rows.append((arm, str(len(ends)), *figures))
    return rows


def kl_table(folder: Path) -> list[Row]:
    """KL at equal gain, and how often plain LoRA's that is."""
    return _matched(folder, "kl_at_margin", lambda value: f"{value:.2g}", _times, "margin {}")


def _times(ratio: float) -> str:
    return "∞" if math.isinf(ratio) else f"×{ratio:.2g}"


def margin_table(folder: Path) -> list[Row]:
    """The gain at equal KL, and how much more than plain LoRA's that is."""
    return _matched(folder, "margin_at_kl", lambda value: f"{value:.3f}", lambda more: f"{more:+.3f}", "KL {}")


TABLES: dict[str, Callable[[Path], list[Row]]] = {"ends": ends_table, "kl": kl_table, "margin": margin_table}


def _matched(folder: Path, kind: str, own: Callable[[float], str], other: Callable[[float], str], at: str) -> list[Row]:
    lines = [line for line in read(folder / "matched.csv") if line["kind"] == kind]
    texts = [text for text in dict.fromkeys(line["text"] for line in lines) if not text.endswith(KEPT_BACK)]
    at_middle = {text: median_low({float(line["at"]) for line in lines if line["text"] == text}) for text in texts}
    there = {(line["arm"], line["text"]): line for line in lines if float(line["at"]) == at_middle.get(line["text"])}
    rows: list[Row] = [("arm", *(f"{text}, at {at.format(f'{at_middle[text]:.2g}')}" for text in texts))]
    for arm in arms(lines):
        rows.append((arm, *(_cell(there[arm, text], there[BASELINE, text], own, other) for text in texts)))
    return rows


def _cell(line: Line, base: Line, own: Callable[[float], str], other: Callable[[float], str]) -> str:
    """A figure and what it is beside the baseline's with the interval.

    A star where Holm's p is below 0.05, ``~`` where a path was not measured so early, as ``compare`` has it.
    """
    value, reached, assumed = (float(line[name]) for name in ("value", "reached", "assumed"))
    if reached < 1 and math.isinf(value):
        return "never" if reached == 0 else f"only {reached:.0%} of seeds"
    shown = "~" * (assumed > 0) + (own(value) if reached == 1 else f"≥ {own(value)}, spent less")
    if not line["against"]:
        return shown
    against, low, high = (float(line[name]) for name in ("against", "against_low", "against_high"))
    star = "\\*" if line["p_holm"] and float(line["p_holm"]) < _P else ""
    unsure = "~" * (assumed > 0 or float(base["assumed"]) > 0)
    return f"{shown} ({unsure}{other(against)}, {other(low)} to {other(high)}){star}"


def arms(lines: Sequence[Line]) -> Iterator[str]:
    """The baseline first, the others as they come."""
    names = dict.fromkeys(line["arm"] for line in lines)
    yield from sorted(names, key=lambda name: name != BASELINE)


def kl_columns(points: Sequence[Line]) -> list[str]:
    """Columns of the texts that are shown."""
    return [name for name in points[0] if name.startswith("kl_") and not name.endswith(KEPT_BACK)]


def read(path: Path) -> list[Line]:
    """The lines of a CSV file, by column."""
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))
