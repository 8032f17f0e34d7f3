"""The files of a queue: ``<root>/.queue/<id>.json`` per item, replaced whole; a pause is a file too."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from readwrite_edit.queue.items import RUNNING, SUFFIX, Item, load_item, log_of, save_item
from readwrite_edit.queue.judging import judged, life_lock
from readwrite_edit.queue.locks import exclusively
from readwrite_edit.runs.folder import FolderError

FOLDER = ".queue"
_ID = re.compile(r"\d{6,}-[0-9a-f]{4}")


def place_of(root: Path) -> Path:
    """The folder of a root's queue; it may not exist yet."""
    return root / FOLDER


def items(root: Path) -> list[Item]:
    """The items of a queue in the order of adding; one whose runner died is judged by its process and its run.

    Nothing is written, and nothing that lies in the folder makes this raise.
    """
    place = place_of(root)
    return [judged(place, item) for item in stored(place)]


def stored(place: Path) -> list[Item]:
    """The items as their files have them."""
    try:
        names = [name.removesuffix(SUFFIX) for name in os.listdir(place) if name.endswith(SUFFIX)]
    except OSError:
        return []
    return list(_load(place, sorted(filter(_ID.fullmatch, names), key=number_of)))


def number_of(item_id: str) -> int:
    """The place of an item in the order of adding."""
    return int(item_id.partition("-")[0])


def find_item(root: Path, text: str) -> Item:
    """The item that a user means.

    Args:
        root: Folder of runs.
        text: An id, its number, or the name of one item alone.

    Raises:
        FolderError: No item, or more than one, is meant.
    """
    found = items(root)
    for matches in (
        [item for item in found if text in (item.id, str(number_of(item.id)))],
        [item for item in found if text in (item.name, item.run.name)],
    ):
        if len(matches) == 1:
            return matches[0]
        if matches:
            raise FolderError(f"{text!r} means {len(matches)} items: name one by its id, as queue ls gives it")
    raise FolderError(f"no item {text!r} in the queue of {root}: queue ls lists them")


def forget(root: Path, item_id: str) -> None:
    """Take an item off the list, with its log; its run stays. A waiting one does not begin any more.

    Raises:
        FolderError: There is no such item, or it runs.
    """
    with changing(root) as place:
        item = _present(place, item_id)
        if item.state == RUNNING:
            instead = f"readwrite-edit runs stop {item.run} asks its run to end"
            raise FolderError(f"item {item_id} is running: {instead}")
        for path in (place / f"{item_id}{SUFFIX}", log_of(place, item_id), life_lock(place, item_id)):
            with suppress(FileNotFoundError):
                path.unlink()


def pause(root: Path) -> None:
    """Let no further item begin; what runs goes on.

    Raises:
        FolderError: The queue's folder can not be written.
    """
    with changing(root) as place:
        (place / "paused").touch()


def resume(root: Path) -> None:
    """Let items begin again; it takes a runner too (``ensure_runner``).

    Raises:
        FolderError: The queue's folder can not be written.
    """
    with changing(root) as place:
        (place / "paused").unlink(missing_ok=True)


def is_paused(root: Path) -> bool:
    """Whether no further item begins."""
    return (place_of(root) / "paused").exists()


@contextmanager
def changing(root: Path) -> Iterator[Path]:
    """Be the only one who changes a queue; gives its folder.

    Raises:
        FolderError: The folder can not be written.
    """
    place = place_of(root)
    with exclusively(place / "queue.lock"):
        try:
            yield place
        except OSError as error:
            raise FolderError(f"{error.filename or place}: {error.strerror}: the queue can not be changed") from error


def save(place: Path, item: Item) -> None:
    """Write an item; only while ``changing``."""
    save_item(place, item)


def _load(place: Path, ids: list[str]) -> Iterator[Item]:
    for item_id in ids:
        with suppress(OSError):
            yield load_item(place, item_id)


def _present(place: Path, item_id: str) -> Item:
    if not _ID.fullmatch(item_id):
        raise FolderError(f"{item_id!r} is not the id of an item: queue ls lists them")
    try:
        return judged(place, load_item(place, item_id))
    except FileNotFoundError:
        raise FolderError(f"no item {item_id} in {place}: queue ls lists them") from None
