"""Which run a user means, among those that have a folder and those that wait for one."""

from __future__ import annotations

import os
from difflib import get_close_matches
from pathlib import Path

from readwrite_edit.queue.store import items
from readwrite_edit.runs.folder import FolderError, RunFolder
from readwrite_edit.runs.reader import list_runs


def find_run(text: str, root: Path) -> Path:
    """The folder of the run that a user means.

    Args:
        text: ``last``, the name of a folder under ``root``, a path, or the beginning of one name.
        root: Folder of runs.

    Raises:
        FolderError: No run, or more than one, is meant; the message names near ones, or the item of the queue.
    """
    names = [view.name for view in list_runs(root)]
    if text == "last" and names:
        return root / names[0]
    if text in names:
        return root / text
    if Path(text).is_dir() and (os.sep in text or RunFolder(Path(text)).state.exists()):
        return Path(text)
    matches = [name for name in names if text and name.startswith(text)]
    if len(matches) == 1:
        return root / matches[0]
    if matches:
        raise FolderError(f"{text!r} begins the names of {len(matches)} runs: {', '.join(sorted(matches)[:5])}")
    raise FolderError(_in_queue(text, root) or f"no run {text!r} under {root}: {_near(text, names)}")


def _in_queue(text: str, root: Path) -> str:
    """What to say of a run that waits for its turn; empty where none of that name does."""
    for item in items(root):
        if not item.ended and text in (item.run.name, str(item.run)):
            return (
                f"{item.run.name} has no folder yet: it is {item.state} as item {item.id} of the queue "
                f"(readwrite-edit queue rm {item.id} takes a waiting one out)"
            )
    return ""


def _near(text: str, names: list[str]) -> str:
    near = get_close_matches(text, names, n=1) or names[:1]
    return f"did you mean {near[0]!r}?" if near else "there are none yet"
