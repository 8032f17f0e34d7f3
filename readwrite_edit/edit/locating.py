"""A causal trace as a run of its own: ``readwrite-edit edit locate``."""

from __future__ import annotations

import importlib.metadata
import sys
from pathlib import Path
from typing import Any

from readwrite_edit.durable import finite_or_none, write_json
from readwrite_edit.edit.job import PACKAGES, SCHEMA, EditOutcome
from readwrite_edit.edit.locate import prepare
from readwrite_edit.edit.settings.locate import LocateSettings
from readwrite_edit.job.carrying import carry_out
from readwrite_edit.job.result import write_tables
from readwrite_edit.job.session import Session
from readwrite_edit.recipe.yaml_nodes import write_document
from readwrite_edit.report import write_report
from readwrite_edit.runs.folder import FolderError
from readwrite_edit.runs.signals import heeding_signals
from readwrite_edit.runs.writer import RunWriter

KIND = "locate"


def start_locating(settings: LocateSettings, path: Path, command: str) -> EditOutcome:
    """Trace where a model keeps what it says of a subject, in a new run folder.

    Args:
        settings: What to trace.
        path: Run folder, missing or empty.
        command: The command line that asked for it, kept with the results.

    Raises:
        ReadWriteEditError: Wrong input, or the trace failed; the folder then says why.
    """
    if path.is_dir() and any(path.iterdir()):
        raise FolderError(f"{path} is not empty: name a new folder")
    with heeding_signals() as interruption:
        measure = prepare(settings)
        versions = {name: importlib.metadata.version(name) for name in PACKAGES}
        recipe = {KIND: settings.model_dump(mode="json"), "command": command}
        recipe["provenance"] = {**versions, "python": sys.version.split()[0]}
        writer = RunWriter.start(path, recipe_text=write_document(recipe), recipe_name="edit-locate", kind="edit")

        def work(session: Session) -> dict[str, Any]:
            result = measure(session)
            session.close()
            write_tables(result, path)
            summary = {
                "schema": SCHEMA,
                "edit": KIND,
                "title": "causal trace",
                "why": result.verdict or "",
                "main": result.main,
                "tables": sorted(result.tables),
                "verdict": result.verdict,
                "notes": list(result.notes),
                "figures": finite_or_none(result.figures),
                "generations": [],
                "certificate": None,
                "controls": 0,
                "command": command,
            }
            write_json(writer.folder.summary, summary)
            write_report(path)
            return summary

        summary = carry_out(writer, interruption, work, again="start it anew", less="--samples")
    return EditOutcome(writer.folder, summary, None, summary is None and interruption.asked)
