"""The result of an evaluation as a file: figures with their definitions, and what they were made of, row by row."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from readwrite_edit.durable import try_writing, write_json
from readwrite_edit.errors import DataError
from readwrite_edit.evaluate.metrics import other_versions
from readwrite_edit.evaluate.records import Evaluation, parse
from readwrite_edit.runs.folder import FolderError, RunFolder
from readwrite_edit.terminal import printable

SCHEMA = 1
KIND = "evaluation"


@dataclass(frozen=True)
class FiledResult:
    """A result read back.

    Attributes:
        path: Its file.
        content: All of it.
        evaluation: Rows and sequences; None where some of them are not numbers, or there are none.
        not_comparable: Sentences about metrics whose definition is no longer this version's.
    """

    path: Path
    content: dict[str, Any]
    evaluation: Evaluation | None
    not_comparable: tuple[str, ...]


def result_path(run: Path | None, out: Path | None, now: datetime) -> Path | None:
    """Where a result is filed, tried out before anything is measured; None where it is only printed.

    Args:
        run: The ended run that is evaluated; None for anything else.
        out: What the user names instead.
        now: For the name.

    Raises:
        FolderError: There is a file already, or none can be written there.
    """
    if out is None and run is None:
        return None
    path = out if out is not None else _unused(RunFolder(Path(str(run))).path / "evaluations", now)
    if os.path.lexists(path):
        raise FolderError(f"{path} exists: name a new file with --out")
    try:
        try_writing(path.parent)
    except OSError as error:
        no_folder = isinstance(error, FileExistsError | NotADirectoryError)
        why = f"{path.parent} is not a folder" if no_folder else error.strerror or error
        raise FolderError(f"{path}: {why}: name another file with --out") from error
    return path


def write_result(path: Path, result: Mapping[str, Any]) -> None:
    """File a result, whole or not at all."""
    write_json(path, result)


def read_result(path: Path) -> FiledResult:
    """Read a result back.

    Raises:
        DataError: It is no result, or of a newer schema.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(printable(f"{path}: not readable as JSON ({error})")) from error
    if not isinstance(content, dict) or content.get("kind") != KIND or not isinstance(content.get("metrics"), dict):
        raise DataError(printable(f"{path}: not the result of an evaluation; readwrite-edit evaluate writes one"))
    schema = content.get("schema")
    if not isinstance(schema, int) or schema > SCHEMA:
        raise DataError(printable(f"{path} has schema {schema!r}, this version reads up to {SCHEMA}; upgrade"))
    line = content.get("evaluation")
    evaluation = parse(line) if isinstance(line, dict) else None
    return FiledResult(path, content, evaluation, other_versions(content["metrics"]))


def _unused(folder: Path, now: datetime) -> Path:
    candidate, number = folder / f"{now:%Y%m%d-%H%M%S}.json", 1
    while os.path.lexists(candidate):
        number += 1
        candidate = folder / f"{now:%Y%m%d-%H%M%S}-{number}.json"
    return candidate
