"""A causal trace as a run of its own: ``readwrite-edit edit locate``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from readwrite_edit.edit.job import PACKAGES, EditOutcome
from readwrite_edit.edit.locate import prepare
from readwrite_edit.edit.settings.locate import LocateSettings
from readwrite_edit.job.carrying import carry_out
from readwrite_edit.job.result import write_result
from readwrite_edit.job.session import Session
from readwrite_edit.provenance import versions_of
from readwrite_edit.recipe.yaml_nodes import write_document
from readwrite_edit.runs.folder import require_unused
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
    require_unused(path)
    with heeding_signals() as interruption:
        measure = prepare(settings)
        recipe = {KIND: settings.model_dump(mode="json"), "command": command, "provenance": versions_of(PACKAGES)}
        writer = RunWriter.start(path, recipe_text=write_document(recipe), recipe_name="edit-locate", kind="edit")

        def work(session: Session) -> dict[str, Any]:
            result = measure(session)
            session.close()
            about: dict[str, Any] = {
                "edit": KIND,
                "title": "causal trace",
                "why": result.verdict or "",
                "generations": [],
                "certificate": None,
                "controls": 0,
                "command": command,
            }
            return write_result(result, writer.folder, about)

        summary = carry_out(writer, interruption, work, again="start it anew", less="--samples")
    return EditOutcome(writer.folder, summary, None, summary is None and interruption.asked)
