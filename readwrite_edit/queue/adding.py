"""Putting a command into a queue: its run folder and its device are fixed before it waits."""

from __future__ import annotations

import secrets
import time
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from readwrite_edit.queue.device import device_of, why_absent
from readwrite_edit.queue.finding import find_run
from readwrite_edit.queue.items import Item, log_of
from readwrite_edit.queue.store import changing, number_of, save, stored
from readwrite_edit.runs.folder import FolderError, new_run_path, recipe_title

COMMANDS = ("align", "edit", "probe")
_RUN_DIR = "--run-dir"


def add(root: Path, argv: Sequence[str], name: str = "", *, device: str | None = None) -> Item:
    """Add a command at the end of a queue. It begins once a runner gets to it (``ensure_runner``).

    Args:
        root: Folder of runs; made if missing.
        argv: Arguments without the program: an ``align``, ``edit`` or ``probe`` that makes or goes on with a run.
            Where they name no run folder, ``--run-dir`` is put at their end.
        name: For people, and for the folder's name; by default made of the command.
        device: That it occupies; see ``queue.device.device_of``.

    Raises:
        FolderError: The command makes no run, the device is none or none of this machine, or the queue can not be
            written.
    """
    if not argv or argv[0] not in COMMANDS:
        given = argv[0] if argv else "no command"
        raise FolderError(f"{given}: expected a command that makes a run: {', '.join(COMMANDS)}")
    place_device, title = device_of(argv, device), name or _title(argv)
    if why := why_absent(place_device):
        raise FolderError(f"device {place_device}: {why}")
    with changing(root) as place:
        waiting = stored(place)
        run = _named_run(argv)
        if run is None:
            taken = {item.run for item in waiting}
            run = new_run_path(root, title, datetime.now(), taken=taken)
            argv = [*argv, _RUN_DIR, str(run)]
        number = 1 + max((number_of(item.id) for item in waiting), default=0)
        item_id = f"{number:06d}-{secrets.token_hex(2)}"
        item = Item(
            id=item_id,
            name=title,
            argv=tuple(argv),
            folder=Path.cwd(),
            device=place_device,
            run=run.absolute(),
            log=log_of(place, item_id),
            added_s=round(time.time(), 3),
        )
        save(place, item)
    return item


def _title(argv: Sequence[str]) -> str:
    """A short name of a command: its recipe's, or its first words."""
    recipe = _value(argv, "--recipe")
    if recipe:
        return recipe_title(recipe)
    words = argv[: 1 if argv[1:2] and argv[1].startswith("-") else 2]
    return "-".join(words)


def _named_run(argv: Sequence[str]) -> Path | None:
    """The run folder that a command names itself; None where it does not."""
    if tuple(argv[:2]) == ("probe", "resume"):
        which = next((word for word in argv[2:] if not word.startswith("-")), "")
        return find_run(which, Path(_value(argv, "--root") or "runs"))
    named = _value(argv, _RUN_DIR) or (_value(argv, "--resume") if argv[0] == "align" else None)
    return Path(named) if named else None


def _value(argv: Sequence[str], option: str) -> str | None:
    """The value of an option, as ``--option VALUE`` or ``--option=VALUE``; the last one counts."""
    found = None
    for position, argument in enumerate(argv):
        if argument == option and position + 1 < len(argv):
            found = argv[position + 1]
        elif argument.startswith(f"{option}="):
            found = argument.removeprefix(f"{option}=")
    return found
