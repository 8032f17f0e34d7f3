"""What a user writes on runs, kept beside them: ``<root>/.notes/<run>``, one JSON file a run.

A run folder has one writer, which is the run; notes never go into it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from readwrite_edit.durable import write_json
from readwrite_edit.runs.folder import FolderError
from readwrite_edit.runs.regular import read_head

FOLDER = ".notes"
SCHEMA = 1
LONGEST_TEXT, LONGEST_TAG, MOST_TAGS = 10_000, 40, 20
_LARGEST_BYTES = 1 << 18


@dataclass(frozen=True)
class Note:
    """A user's words on a run. Read from a file they are data: ``printable`` before they meet a terminal."""

    text: str = ""
    tags: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        """Whether it says anything."""
        return bool(self.text or self.tags)


def read_notes(root: Path) -> Mapping[str, Note]:
    """The notes on the runs of a folder, by the run's name; files that are no notes are left out, nothing raises."""
    try:
        names = sorted(name for name in os.listdir(root / FOLDER) if not name.startswith("."))
    except OSError:
        return {}
    notes = {name: _read(root / FOLDER / name) for name in names}
    return {name: note for name, note in notes.items() if note}


def read_note(root: Path, name: str) -> Note:
    """The note on one run; an empty one where there is none."""
    return _read(root / FOLDER / _checked(name))


def write_note(root: Path, name: str, note: Note) -> None:
    """Keep a note on a run; an empty one takes it away.

    Args:
        root: Folder of runs.
        name: Of the run.
        note: Text and tags; spaces around them are taken off, and tags that stand twice stand once.

    Raises:
        FolderError: The name is none of a run, the note is too long, or the folder can not be written.
    """
    target, tidy = root / FOLDER / _checked(name), _tidy(note)
    try:
        if tidy:
            write_json(target, {"schema": SCHEMA, "text": tidy.text, "tags": list(tidy.tags)})
        else:
            target.unlink(missing_ok=True)
    except OSError as error:
        raise FolderError(f"{target}: {error.strerror}: the note can not be kept; give access to the folder") from error


def _checked(name: str) -> str:
    if not name or name.startswith(".") or "/" in name or "\0" in name:
        raise FolderError(f"{name!r} is not the name of a run: expected the name of a folder")
    return name


def _tidy(note: Note) -> Note:
    text = note.text.strip()
    tags = tuple(dict.fromkeys(" ".join(tag.split()) for tag in note.tags if tag.strip()))
    if len(text) > LONGEST_TEXT:
        raise FolderError(f"a note of {len(text)} characters: expected at most {LONGEST_TEXT}; shorten it")
    if len(tags) > MOST_TAGS or any(len(tag) > LONGEST_TAG for tag in tags):
        raise FolderError(f"expected at most {MOST_TAGS} tags of at most {LONGEST_TAG} characters; leave some out")
    return Note(_whole(text), tuple(map(_whole, tags)))


def _whole(text: str) -> str:
    """Text that UTF-8 can hold: half of a surrogate pair becomes a question mark."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _read(path: Path) -> Note:
    try:
        value = json.loads(read_head(path, _LARGEST_BYTES))
    except (OSError, ValueError, RecursionError):
        return Note()
    return _from_json(value) if isinstance(value, dict) else Note()


def _from_json(value: dict[str, Any]) -> Note:
    schema, text, tags = value.get("schema"), value.get("text"), value.get("tags")
    if not isinstance(schema, int) or schema > SCHEMA or not isinstance(text, str) or not isinstance(tags, list):
        return Note()
    return Note(text[:LONGEST_TEXT], tuple(str(tag)[:LONGEST_TAG] for tag in tags if isinstance(tag, str))[:MOST_TAGS])
