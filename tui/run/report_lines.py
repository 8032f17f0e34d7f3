"""A run's result as lines of text for a given width."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import zip_longest
from typing import Any

from rich.text import Text

from readwrite_edit.report.facts import duration, size
from readwrite_edit.report.figures_table import Row, main_rows, other_rows
from readwrite_edit.runs.absence import SUMMARY, absence
from readwrite_edit.runs.wording import GLYPHS, number_text, step_text
from readwrite_edit.terminal import printable
from readwrite_edit.tui.run.report_data import ReportData
from readwrite_edit.tui.run.text_view import wrapped

_BOLD, _DIM = "bold", "dim"
_LEAST_COLUMN = 26
_MOST_ANSWERS = 200


def report_lines(data: ReportData, alarms: Sequence[str], width: int) -> list[Text]:
    """The result of a run, safe to show.

    Args:
        data: What the run left behind.
        alarms: Of its log, for a run that has no end table.
        width: Cells of a line; only what stands side by side is cut to it.
    """
    parts = [
        _head(data), _end_table(data.summary), _figures(data.summary, width), _certificate(data.summary),
        _alarms(data.summary, alarms), _notes(data.summary), _answers(data.summary, width), _files(data),
    ]  # fmt: skip
    lines: list[Text] = []
    for part in map(list, parts):
        lines += [Text(), *part] if part and lines else part
    return lines


def _text(value: Any) -> str:
    """A text of a file on one line, safe to show; nothing for anything else."""
    return printable(" ".join(value.split())) if isinstance(value, str) else ""


def _head(data: ReportData) -> Iterator[Text]:
    view, found = data.view, data.summary
    if not found:
        state = f"{GLYPHS[view.status]} {view.status}" + (f": {_text(view.reason)}" if view.reason else "")
        yield Text(absence(SUMMARY, view, data.problem), style="bold yellow" if data.problem else "")
        yield Text(f"{state}, step {step_text(view.step, view.max_steps)}")
    for name in ("title", "verdict", "why"):
        if text := _text(found.get(name)):
            yield Text().append(f"{name:<9}", style=_DIM).append(text, style=_BOLD if name == "verdict" else "")


def _end_table(found: Mapping[str, Any]) -> Iterator[Text]:
    if not found.get("before") and not found.get("after"):
        return
    table = {name: found.get(name, {}) for name in ("before", "after")}
    main, rest = main_rows(table), other_rows(table)
    rows = [*main, *rest]
    cells = [("", "before", "after", "change"), *((_label(row), row.before, row.after, row.change) for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for number, (label, *figures) in enumerate(cells):
        line = Text(f"{label:<{widths[0]}}", style=_BOLD if not number else "")
        for figure, width in zip(figures, widths[1:], strict=True):
            line.append(f"  {figure:>{width}}")
        if number > len(main):
            line.stylize(_DIM)
        yield line


def _label(row: Row) -> str:
    return printable(f"{row.label} ({row.unit})" if row.unit else row.label)


def _figures(found: Mapping[str, Any], width: int) -> Iterator[Text]:
    """Names and numbers, in two columns where both fit."""
    figures = found.get("figures", {})
    pairs = [(printable(name.replace("_", " ")), number_text(value)) for name, value in figures.items()]
    pairs += [("adapter", size(found["adapter_bytes"]))] if "adapter_bytes" in found else []
    pairs += [("trainable parameters", number) for number in _counted(found.get("trainable_parameters"))]
    pairs += [("training time", duration(found["train_runtime_s"]))] if "train_runtime_s" in found else []
    if not pairs:
        return
    yield Text("figures", style=_BOLD)
    names, numbers = (max(map(len, column)) for column in zip(*pairs, strict=True))
    texts = [f"  {name:<{names}}  {number:>{numbers}}" for name, number in pairs]
    half = -(-len(texts) // 2) if 2 * len(texts[0]) + 4 <= width and len(texts) > 3 else len(texts)
    for left, right in zip_longest(texts[:half], texts[half:], fillvalue=""):
        yield Text(f"{left}    {right}".rstrip())


def _counted(value: Any) -> list[str]:
    return [f"{value:,}"] if isinstance(value, int) and not isinstance(value, bool) else []


def _certificate(found: Mapping[str, Any]) -> Iterator[Text]:
    certificate = found.get("certificate", {})
    checks = certificate.get("checks")
    checks = [check for check in checks if isinstance(check, dict)] if isinstance(checks, list) else []
    if not checks and "passed" not in certificate:
        return
    passed = certificate.get("passed") is True
    yield Text().append("certificate  ", style=_BOLD).append(_verdict(passed), style=_style(passed))
    width = max((len(_text(check.get("name"))) for check in checks), default=0)
    for check in checks:
        passed = check.get("passed") is True
        line = Text().append(f"  {'✓' if passed else '✗'} ", style=_style(passed))
        yield line.append(f"{_text(check.get('name')):<{width}}  {_text(check.get('detail'))}")


def _verdict(passed: bool) -> str:
    return "✓ passed" if passed else "✗ not passed"


def _style(passed: bool) -> str:
    return "green" if passed else "bold red"


def _alarms(found: Mapping[str, Any], logged: Sequence[str]) -> Iterator[Text]:
    alarms = [str(alarm) for alarm in found.get("alarms", [])] or list(logged)
    if alarms:
        yield Text(f"alarms: {len(alarms)}", style="bold yellow")
    for alarm in alarms:
        yield Text(f"  ! {_text(alarm)}", style="yellow")


def _notes(found: Mapping[str, Any]) -> Iterator[Text]:
    notes = found.get("notes", [])
    if notes:
        yield Text("notes", style=_BOLD)
    for note in notes:
        yield Text(f"  · {_text(note)}")


def _answers(found: Mapping[str, Any], width: int) -> Iterator[Text]:
    answers = [one for one in found.get("generations", []) if isinstance(one, dict)][:_MOST_ANSWERS]
    for answer in answers:
        prompt = answer.get("prompt")
        yield Text(_text(prompt), style=_BOLD)
        yield from side_by_side({name: answer.get(name) for name in ("before", "after")}, width)
        yield Text()


def side_by_side(texts: Mapping[str, Any], width: int) -> Iterator[Text]:
    """Texts in columns under their names; in several rows where columns would be too narrow."""
    if not texts:
        return
    rows = -(-len(texts) // max(1, min(len(texts), width // _LEAST_COLUMN)))
    columns = -(-len(texts) // rows)  # as even as they can be
    room = max(_LEAST_COLUMN // 2, (width - 3 * (columns - 1)) // columns)
    named = list(texts.items())
    for start in range(0, len(named), columns):
        some = named[start : start + columns]
        yield Text(" │ ".join(f"{name[:room]:<{room}}" for name, _ in some).rstrip(), style=_DIM)
        blocks = [list(_block(text, room)) for _, text in some]
        for row in zip_longest(*blocks, fillvalue=" " * room):
            yield Text(" │ ".join(row).rstrip())


def _block(text: Any, room: int) -> Iterator[str]:
    """A text in rows of one width; its own line feeds are kept."""
    from rich.cells import set_cell_size

    lines = printable(text, keep_newlines=True).expandtabs(4).split("\n") if isinstance(text, str) else ["–"]
    for line in lines:
        for start, end in wrapped(line, room):
            yield set_cell_size(line[start:end], room)


def _files(data: ReportData) -> Iterator[Text]:
    if data.tables:
        yield Text(f"tables   {printable(', '.join(data.tables))}", style=_DIM)
    page = printable(str(data.page)) if data.page else "no report.html was written"
    yield Text(f"report   {page}", style=_DIM)
