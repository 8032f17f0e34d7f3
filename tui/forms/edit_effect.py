"""An edit's effect beside its controls, as strips of text; read from the tables of its run.

Each family of controls is a line: how many controls lie where, and the edit's own
value as a line through all of them. Shapes say everything; colour only helps.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.text import Text

from readwrite_edit.runs.reader import summary
from readwrite_edit.runs.regular import read_head
from readwrite_edit.terminal import printable
from readwrite_edit.tui.charts.scales import neat_ticks, tick_texts
from readwrite_edit.tui.forms.edit_price import cell

_LARGEST_TABLE = 1 << 24
_BARS = "▁▂▃▄▅▆▇█"
EDIT, AXIS, TICK = "┃", "─", "┴"
_MATCHED = {"frobenius": "same norm", "energy": "same energy", "both": "both"}
_FAMILIES = {"random_input": "random inputs", "random_output": "random outputs", "sign_flip": "opposite sign",
             "other_layer": "other layers"}  # fmt: skip
_FEW = 12  # so many controls are shown one by one
_SINGLE = "●"
_LABEL = 27
_P_WIDTH = 9
_MARGIN = 0.04
_LEAST_WIDTH = 20
Inks = tuple[str, str]


@dataclass(frozen=True)
class Family:
    """Controls of one kind and matching, beside the edit.

    Attributes:
        name: In words.
        effects: Of each control.
        row: The edit's comparison with them: a row of the table ``effects``.
    """

    name: str
    effects: tuple[float, ...]
    row: dict[str, str]

    def number(self, name: str) -> float:
        """A figure of the comparison; NaN where there is none."""
        return _number(self.row.get(name))


@dataclass(frozen=True)
class Effect:
    """What an edit's run says of its effect.

    Attributes:
        statistic: What was measured, with its unit; empty where there are no controls.
        value: Of the edit.
        families: Controls.
        verdict, title: As the run's summary has them.
        generations: ``prompt``, ``before``, ``after``.
        notes: Of the run.
    """

    statistic: str
    value: float
    families: tuple[Family, ...]
    verdict: str
    title: str
    generations: tuple[dict[str, str], ...]
    notes: tuple[str, ...]


def read_effect(path: Path) -> Effect:
    """Read a finished edit's run; a table that is missing or damaged is an empty one. Call it in a worker."""
    controls, effects = read_rows(path / "controls.csv"), read_rows(path / "effects.csv")
    families = tuple(_family(row, controls) for row in effects)
    found = summary(path)
    generations = [one for one in found.get("generations") or () if isinstance(one, dict)]
    value = next((family.number("effect") for family in families), math.nan)
    return Effect(
        statistic=_said(next((row.get("statistic", "") for row in effects), "")),
        value=value,
        families=families if math.isfinite(value) else (),
        verdict=_said(found.get("verdict") or ""),
        title=_said(found.get("title") or ""),
        generations=tuple(
            {side: _said(one.get(side, "")) for side in ("prompt", "before", "after")} for one in generations
        ),
        notes=tuple(_said(note) for note in found.get("notes") or () if isinstance(note, str)),
    )


def read_rows(path: Path) -> list[dict[str, str]]:
    """Rows of a table of a run; none where it can not be read."""
    try:
        text = read_head(path, _LARGEST_TABLE).decode("utf-8", "replace")
        return [{str(name): value or "" for name, value in row.items()} for row in csv.DictReader(io.StringIO(text))]
    except (OSError, csv.Error):
        return []


def effect_text(effect: Effect, width: int, inks: Inks = ("", "bold")) -> Text:
    """The effect for a screen.

    Args:
        effect: What to show.
        width: In cells.
        inks: Styles of the controls and of the edit.
    """
    place = effect.verdict.partition(":")[0]
    parts = [
        Text("\n").join([Text.assemble((effect.title, "bold"), f"  {place}"), *strips(effect, width, inks)]),
        Text(effect.verdict),
        Text("\n").join(_comparisons(effect.families) if effect.families else ()),
        Text("\n").join(_answers(effect.generations)),
        Text("\n").join(Text(f"note  {note}", "dim italic") for note in effect.notes),
    ]
    return Text("\n\n").join(part for part in parts if part.plain)


def strips(effect: Effect, width: int, inks: Inks = ("", "bold")) -> list[Text]:
    """A line a family over one axis, the edit's value through all of them."""
    if not effect.families:
        return [Text("No controls: nothing here says whether random edits of the same size do as much.", "italic")]
    room = max(_LEAST_WIDTH, width - _LABEL - _P_WIDTH)
    everything = [effect.value, *(value for family in effect.families for value in family.effects)]
    low, high = _bounds(everything)
    place = _place(effect.value, low, high, room)
    own = Text.assemble((effect.statistic, "bold"), "   ", (EDIT, inks[1]), f" this edit {effect.value:+.3g}")
    lines = [_strip(family, (low, high), room, inks) for family in effect.families]
    for line in lines:
        line.plain = line.plain[: _LABEL + place] + EDIT + line.plain[_LABEL + place + 1 :]
        line.stylize(inks[1], _LABEL + place, _LABEL + place + 1)
    return [own, *lines, *_axis(low, high, room, place)]


def _family(row: dict[str, str], controls: Sequence[dict[str, str]]) -> Family:
    own = [one for one in controls if all(one.get(name) == row.get(name) for name in ("family", "matching"))]
    numbers = [_number(one.get("effect")) for one in own]
    family, matching = row.get("family", ""), row.get("matching", "")
    name = f"{_FAMILIES.get(family, _said(family))}, {_MATCHED.get(matching, _said(matching))}"
    return Family(name, tuple(number for number in numbers if math.isfinite(number)), row)


def _bounds(values: Sequence[float]) -> tuple[float, float]:
    low, high = min(0.0, *values), max(0.0, *values)
    apart = (high - low) * _MARGIN or 1.0
    return low - apart, high + apart


def _place(value: float, low: float, high: float, room: int) -> int:
    return min(room - 1, max(0, int((value - low) / (high - low) * room)))


def _strip(family: Family, bounds: tuple[float, float], room: int, inks: Inks) -> Text:
    """How many controls lie where, and p."""
    counts = [0] * room
    for value in family.effects:
        counts[_place(value, *bounds, room)] += 1
    most = max(counts, default=0)
    bars = _SINGLE if len(family.effects) <= _FEW else _BARS
    marks = "".join(bars[(count * len(bars) - 1) // most] if count else " " for count in counts)
    p_value = f"  p {cell(family.number('p_value'))}"
    return Text.assemble(f"{family.name[: _LABEL - 1]:<{_LABEL}}", (marks, inks[0]), (p_value, "dim"))


def _axis(low: float, high: float, room: int, edit: int) -> list[Text]:
    ticks = neat_ticks(low, high, max(2, room // 9))
    places = {_place(tick, low, high, room): text for tick, text in zip(ticks, tick_texts(ticks), strict=True)}
    line = "".join(EDIT if place == edit else TICK if place in places else AXIS for place in range(room))
    words = [" "] * (room + 8)
    for place, text in places.items():
        start = max(0, place - len(text) // 2)
        words[start : start + len(text)] = text
    blank = " " * _LABEL
    return [Text(blank + line, "dim"), Text(blank + "".join(words).rstrip()[:room], "dim")]


def _comparisons(families: Iterable[Family]) -> list[Text]:
    """What each comparison says, a line each: how far above the controls, the interval, p."""
    rows: list[Sequence[str]] = [("edit − controls", "", "95 % interval", "n", "reached it", "p")]
    for family in families:
        low, high = cell(family.number("low")), cell(family.number("high"))
        reached = f"{family.row.get('reached', '')} of {family.row.get('n_controls', '')}"
        difference = family.number("difference")
        rows.append(
            (family.name, f"{difference:+.3g}", f"{low} to {high}", str(len(family.effects)), printable(reached),
             cell(family.number("p_value")))
        )  # fmt: skip
    widths = [max(len(row[column]) for row in rows) for column in range(6)]
    return [
        Text("  ".join(
            word.ljust(width) if column == 0 else word.rjust(width)
            for column, (word, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip(), "dim" if number == 0 else "")
        for number, row in enumerate(rows)
    ]  # fmt: skip


def _answers(generations: Sequence[dict[str, str]]) -> Iterable[Text]:
    """Each prompt with what the model answered before and after."""
    for one in generations:
        yield Text.assemble((f"› {one['prompt']}", "bold"))
        if one["before"] == one["after"]:
            yield Text(f"  unchanged  {one['after']}")
        else:
            yield Text(f"  before     {one['before']}")
            yield Text(f"  after      {one['after']}")


def _number(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        return math.nan


def _said(value: object) -> str:
    return printable(" ".join(str(value).split()))
