"""Checkpoints that say they are complete, so that a resume never starts from half of one."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path

from readwrite_edit.durable import write_json

SEAL = "complete.json"
_NAME = re.compile(r"checkpoint-(\d+)")


def seal_checkpoint(folder: Path) -> None:
    """Flush a checkpoint's files to the disk and write down their hashes."""
    digests = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file() and path.name != SEAL):
        with path.open("rb") as file:
            os.fsync(file.fileno())
            digests[str(path.relative_to(folder))] = hashlib.file_digest(file, "sha256").hexdigest()
    write_json(folder / SEAL, digests)


def checkpoint_step(folder: Path) -> int:
    """The optimiser step in a checkpoint folder's name."""
    match = _NAME.fullmatch(folder.name)
    return int(match[1]) if match else -1


def latest_checkpoint(folder: Path) -> tuple[Path | None, list[str]]:
    """The newest checkpoint that is whole, and why newer ones were passed over.

    Args:
        folder: Holds ``checkpoint-N`` folders.

    Returns:
        The checkpoint or None, and one sentence for each that is damaged.
    """
    passed_over: list[str] = []
    for candidate in _newest_first(folder):
        fault = _fault(candidate)
        if fault is None:
            return candidate, passed_over
        passed_over.append(f"{candidate.name} is not used: {fault}")
    return None, passed_over


def _newest_first(folder: Path) -> Iterator[Path]:
    found = [path for path in folder.glob("checkpoint-*") if checkpoint_step(path) >= 0 and path.is_dir()]
    yield from sorted(found, key=checkpoint_step, reverse=True)


def _fault(folder: Path) -> str | None:
    try:
        digests = json.loads((folder / SEAL).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return "it was not finished"
    if not isinstance(digests, dict) or "trainer_state.json" not in digests:
        return f"{SEAL} is damaged"
    for name, expected in digests.items():
        try:
            with (folder / name).open("rb") as file:
                actual = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError:
            return f"{name} is missing"
        if actual != expected:
            return f"{name} was changed or cut short"
    return None
