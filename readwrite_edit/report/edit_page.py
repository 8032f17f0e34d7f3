"""The report of an edit: what it did, beside what its controls did, and what it cost."""

from __future__ import annotations

import shlex
from importlib.metadata import version
from pathlib import Path

from readwrite_edit.report.edit_figures import figures_of_edit
from readwrite_edit.report.edit_record import EditRecord, read_edit
from readwrite_edit.report.probe_page import number_cell, setting, table_sizes, words
from readwrite_edit.report.template import rendered
from readwrite_edit.terminal import printable


def render_edit(run_path: Path) -> str:
    """The page of an edit's run folder; one that did not finish is shown as far as it got.

    Raises:
        DataError: The recipe or the summary is missing or damaged.
    """
    record = read_edit(run_path)
    figures, absent = figures_of_edit(record.tables)
    contents = {
        "record": record,
        "figures": figures,
        "absent": [*record.problems, *absent],
        "generations": record.generations,
        "certificate": record.certificate,
        "numbers": [(printable(words(name)), number_cell(value)) for name, value in record.figures.items()],
        "settings": _settings(record),
        "tables": [(printable(name), size) for name, size in table_sizes(record.tables)],
        "commands": commands(record),
        "own_version": version("readwrite-edit"),
        "matplotlib_version": version("matplotlib"),
    }
    return rendered("edit.html", contents)


def _settings(record: EditRecord) -> list[tuple[str, str]]:
    """Of the edit itself; what stands around it is in the recipe below."""
    shown = {name: value for name, value in record.settings.items() if value not in (None, [], {})}
    return [(printable(words(name)), printable(setting(value))) for name, value in shown.items()]


def commands(record: EditRecord) -> list[tuple[str, str]]:
    """What to type next: (purpose, command) pairs.

    Args:
        record: Of the run.
    """
    run = shlex.quote(str(record.path))
    again = [("make the same again", record.command)] if record.command else []
    adapter = record.path / "adapter"
    files = [
        ("check the adapter again, in a fresh process", f"readwrite-edit verify {shlex.quote(str(adapter))}"),
        ("see the edits of this model, take one back", "readwrite-edit edit ls"),
    ]
    return [*again, *(files if adapter.is_dir() else []), ("look at the run", f"readwrite-edit runs show {run}")]
