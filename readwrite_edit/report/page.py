"""The report of a run: one HTML file that holds everything it shows."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path
from typing import Any

from markupsafe import Markup

from readwrite_edit.durable import write_text
from readwrite_edit.report.curves import energy_by_layer, training_curves
from readwrite_edit.report.edit_page import render_edit
from readwrite_edit.report.facts import commands, facts, recorded_versions
from readwrite_edit.report.figures_table import main_rows, other_rows
from readwrite_edit.report.heatmap import heatmaps
from readwrite_edit.report.probe_page import render_probe
from readwrite_edit.report.record import RunRecord, read_record
from readwrite_edit.report.template import rendered
from readwrite_edit.runs.reader import read_run

REPORT_NAME = "report.html"
_RENDERERS = {"probe": render_probe, "edit": render_edit}


def write_report(run_path: Path) -> Path:
    """Write ``report.html`` into a run folder: self-contained, nothing is fetched when it is opened.

    Args:
        run_path: Run folder; a run that did not finish is reported as far as it got.

    Returns:
        Path of the page.

    Raises:
        DataError: There is no run, or one of its files is damaged.
    """
    target = run_path / REPORT_NAME
    special = _RENDERERS.get(read_run(run_path).kind)
    html = special(run_path) if special else render(read_record(run_path))
    write_text(target, html)
    return target


def render(record: RunRecord) -> str:
    """The report's HTML; the same run gives the same text."""
    return rendered("report.html", _contents(record))


def _contents(record: RunRecord) -> dict[str, Any]:
    matrices = record.matrices
    return {
        "record": record,
        "facts": facts(record),
        "rows": main_rows(record.summary),
        "other_rows": other_rows(record.summary),
        "curves": Markup(training_curves(record.metrics)),  # matplotlib escapes what it draws
        "energy": Markup(energy_by_layer(matrices)),
        "heatmaps": heatmaps(matrices),
        "snapshot_step": matrices[0]["step"] if matrices else None,
        "generations": record.summary.get("generations", []),
        "certificate": record.summary.get("certificate"),
        "commands": commands(record.path),
        "versions": recorded_versions(record),
        "own_version": version("readwrite-edit"),
        "matplotlib_version": version("matplotlib"),
    }
