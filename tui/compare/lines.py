"""Two to four runs side by side as lines of text that are safe to show."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.text import Text

from readwrite_edit.report.figures_table import main_rows, other_rows
from readwrite_edit.runs.comparison import GeometryRow, Row
from readwrite_edit.runs.reader import RunView
from readwrite_edit.runs.wording import GLYPHS, number_text, step_text
from readwrite_edit.terminal import printable
from readwrite_edit.tui.charts.parts import SAMPLES, Inks
from readwrite_edit.tui.compare.panels import LETTERS
from readwrite_edit.tui.run.recipe_pane import value_text
from readwrite_edit.tui.run.report_lines import side_by_side

_NARROWEST_VALUE, _WIDEST_VALUE = 8, 26
_MOST_PROMPTS = 200
_ROUNDING = 1e-9


def run_lines(views: Sequence[RunView | None], inks: Inks) -> Text:
    """One line a run: its letter, pen and colour, its name and state."""
    lines = []
    for letter, sample, ink, view in zip(LETTERS, SAMPLES, inks.lines, views, strict=False):
        line = Text(no_wrap=True, overflow="ellipsis").append(f"{letter} {sample} ", style=ink)
        if view is None:
            lines.append(line.append("reading …", style="dim"))
            continue
        parts = [f"{GLYPHS[view.status]} {view.status}", view.recipe, step_text(view.step, view.max_steps), view.reason]
        state = printable("   ".join(part for part in parts if part))
        lines.append(line.append(f"{printable(view.name)}   ", style="bold").append(state))
    return Text("\n", no_wrap=True, overflow="ellipsis").join(lines)


def short_run_lines(views: Sequence[RunView | None], inks: Inks, width: int) -> Text:
    """As ``run_lines`` in a single line: of each run its letter, colour, state and recipe."""
    line, room = Text(no_wrap=True, overflow="ellipsis"), width // len(views)
    for letter, ink, view in zip(LETTERS, inks.lines, views, strict=False):
        part = Text.assemble((f"{letter} ", ink))
        part.append("reading …" if view is None else printable(f"{GLYPHS[view.status]} {view.recipe or view.name}"))
        part.truncate(room - 1, overflow="ellipsis")
        line.append_text(part).append(" " * (room - part.cell_len))
    return line


def recipe_lines(rows: Sequence[Row], unread: Mapping[int, str], count: int, width: int) -> list[Text]:
    """Keys of the recipes that differ, run by run; what does not fit into a column stands in lines of its own.

    Args:
        rows: Key by key.
        unread: Why a recipe could not be read, by the position of its run.
        count: How many runs there are.
        width: Cells of a line.
    """
    lines = [Text(f"{LETTERS[at]}: {printable(why)}", style="bold yellow") for at, why in unread.items()]
    if not rows:
        return [*lines, Text("The recipes say the same.")]
    names = max(len(printable(row.name)) for row in rows)
    room = min(_WIDEST_VALUE, max(_NARROWEST_VALUE, (width - names) // count - 2))
    lines.append(_columns("", LETTERS[:count], names, room, style="bold"))
    for row in rows:
        texts = [value_text(row.values[at]) if at in row.values else "–" for at in range(count)]
        if max(map(len, texts)) <= room:
            lines.append(_columns(printable(row.name), texts, names, room))
        else:
            lines.append(Text(printable(row.name)))
            lines += [Text(f"    {letter}  {text}") for letter, text in zip(LETTERS, texts, strict=False)]
    return lines


def _columns(name: str, cells: Sequence[str], names: int, room: int, *, style: str = "") -> Text:
    return Text("  ".join([f"{name:<{names}}", *(f"{cell:<{room}}" for cell in cells)]).rstrip(), style=style)


def figure_lines(ends: Sequence[Mapping[str, Any]], width: int) -> list[Text]:
    """The end tables of runs: what there was before, where all agree on it, and the figure of each run at its end.

    Args:
        ends: Run by run.
        width: Cells of a line; where the table does not fit, each label stands above its figures.
    """
    figures: dict[str, dict[int, tuple[Any, str, str]]] = {}
    for at, end in enumerate(ends):
        table = {name: end[name] if isinstance(end.get(name), dict) else {} for name in ("before", "after")}
        for row in (*main_rows(table), *other_rows(table)):
            label = printable(f"{row.label} ({row.unit})" if row.unit else row.label)
            figures.setdefault(label, {})[at] = table["before"].get(row.metric), row.before, row.after
        found = end.get("figures")
        for name, value in found.items() if isinstance(found, dict) else ():
            figures.setdefault(printable(name.replace("_", " ")), {})[at] = None, "–", number_text(value)
    if not figures:
        return [Text("No run has written its result yet.")]
    rows = [("", "before", *LETTERS[: len(ends)])]
    for label, runs in figures.items():
        given = list(runs.values())
        before = given[0][1] if len({repr(one[0]) for one in given}) == 1 else "differs"
        rows.append((label, before, *(runs[at][2] if at in runs else "–" for at in range(len(ends)))))
    return _table(rows) if _width_of(rows) <= width else _stacked(rows)


def geometry_lines(rows: Sequence[GeometryRow], measure: str, count: int, width: int) -> list[Text]:
    """Means of one quantity over the layers, by module and run, and what each run has more than the first.

    Args:
        rows: Of all quantities.
        measure: Name of the one that is shown.
        count: How many runs there are.
        width: Cells of a line; where the differences do not fit, the means stand alone.
    """
    chosen = [row for row in rows if row.measure.name == measure]
    if not chosen:
        return []
    compared = [at for at in range(1, count) if any(row.change(at) is not None for row in chosen)]
    cells = [("mean over layers", *LETTERS[:count], *(f"{LETTERS[at]} − A" for at in compared))]
    for row in chosen:
        means = [number_text(row.means.get(at)) for at in range(count)]
        changes = [change_text(row.means.get(0), row.means.get(at)) for at in compared]
        cells.append((printable(row.module) if row.module else "all matrices", *means, *changes))
    return _table(cells if _width_of(cells) <= width else [line[: count + 1] for line in cells])


def change_text(before: float | None, after: float | None) -> str:
    """A difference with its sign; 0 where it is no more than rounding, a dash where there is none."""
    if before is None or after is None:
        return "–"
    change = after - before
    return "0" if abs(change) <= _ROUNDING * max(abs(before), abs(after)) else f"{change:+.4g}"


def _table(rows: Sequence[tuple[str, ...]]) -> list[Text]:
    """Rows in columns; the first is the heading."""
    widths = _widths(rows)
    lines = []
    for number, (label, *cells) in enumerate(rows):
        text = "  ".join([f"{label:<{widths[0]}}", *_aligned(cells, widths[1:])])
        lines.append(Text(text, style="bold" if not number else ""))
    return lines


def _stacked(rows: Sequence[tuple[str, ...]]) -> list[Text]:
    """As ``_table`` where that is too wide: each label above its cells."""
    widths = _widths(rows)[1:]
    lines = []
    for label, *cells in rows:
        lines += [Text(label)] if label else []
        lines.append(Text("  ".join(["", *_aligned(cells, widths)]), style="" if label else "bold"))
    return lines


def _aligned(cells: Sequence[str], widths: Sequence[int]) -> list[str]:
    return [f"{cell:>{width}}" for cell, width in zip(cells, widths, strict=True)]


def _widths(rows: Sequence[tuple[str, ...]]) -> list[int]:
    return [max(map(len, column)) for column in zip(*rows, strict=True)]


def _width_of(rows: Sequence[tuple[str, ...]]) -> int:
    return sum(width + 2 for width in _widths(rows)) - 2


def answer_lines(ends: Sequence[Mapping[str, Any]], width: int) -> Iterator[Text]:
    """The answers to each prompt: before, where all runs agree on it, and of each run after."""
    answers: dict[str, dict[int, dict[str, Any]]] = {}
    for at, end in enumerate(ends):
        found = end.get("generations")
        for answer in found if isinstance(found, list) else ():
            if isinstance(answer, dict) and isinstance(answer.get("prompt"), str):
                answers.setdefault(answer["prompt"], {})[at] = answer
    for prompt, runs in list(answers.items())[:_MOST_PROMPTS]:
        yield Text()
        yield Text(printable(" ".join(prompt.split())), style="bold")
        befores = {repr(answer.get("before")) for answer in runs.values()}
        first = next(iter(runs.values()))
        texts = {"before": first.get("before")} if len(befores) == 1 else {}
        for at, answer in runs.items():
            texts |= {f"{LETTERS[at]} before": answer.get("before")} if len(befores) > 1 else {}
            texts[f"{LETTERS[at]} after"] = answer.get("after")
        yield from side_by_side(texts, width)
