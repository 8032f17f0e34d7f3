"""Where data comes from: what a ``path`` of a recipe means, and the records behind it."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from importlib import resources
from pathlib import Path

from readwrite_edit.align.records import RECORD_SUFFIXES, Record, read_records
from readwrite_edit.errors import DataError
from readwrite_edit.terminal import printable

BUILTIN = "builtin:"
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")


@dataclass(frozen=True)
class DataSource:
    """A parsed path.

    Attributes:
        path: As the user wrote it.
        file: The file, also of built-in data; None for a Hub data set.
    """

    path: str
    file: Path | None

    def records(
        self, wanted: Sequence[str], *, name: str | None = None, split: str = "train", revision: str | None = None
    ) -> Iterator[Record]:
        """Its records, in order.

        Args:
            wanted: Columns of use.
            name: Configuration of a Hub data set; the options are without effect on a file.
            split: Split of a Hub data set.
            revision: Revision of a Hub data set.

        Raises:
            DataError: It can not be read or downloaded.
        """
        if self.file is not None:
            return read_records(self.file, wanted)
        from readwrite_edit.align.hub_data import hub_records  # loads torch, which files do without

        return hub_records(self.path, wanted, name=name, split=split, revision=revision)


def find_source(path: str, *, builtin: Collection[str], suffixes: Collection[str] = RECORD_SUFFIXES) -> DataSource:
    """Decide what a path means, in order: built-in data, an existing file, a Hub data set.

    Args:
        path: As the user wrote it.
        builtin: Built-in files that fit here, by file name.
        suffixes: Of the files that can be read here.

    Raises:
        DataError: It is none of these; the message names the nearest file.
    """
    if path.startswith(BUILTIN):
        return DataSource(path, _builtin_file(path, builtin))
    file = Path(os.path.expanduser(path))
    if os.path.isdir(file):
        raise DataError(printable(f"{path}: a folder; expected a file{_files_in(file, suffixes)}"))
    if not os.path.exists(file):
        if file.suffix.lower() not in (*suffixes, *RECORD_SUFFIXES, ".txt") and _HUB_ID.fullmatch(path):
            return DataSource(path, None)
        raise DataError(printable(f"{path}: no such file{_nearest(file)}"))
    if not os.path.isfile(file):
        raise DataError(printable(f"{path}: not a regular file"))
    if file.suffix.lower() not in suffixes:
        raise DataError(
            printable(f"{path}: suffix {file.suffix!r} is unknown here; expected one of {', '.join(suffixes)}")
        )
    return DataSource(path, file)


def _builtin_file(path: str, names: Collection[str]) -> Path:
    known = {Path(name).stem: name for name in names}
    name = path.removeprefix(BUILTIN)
    if name in known:
        return Path(str(resources.files("readwrite_edit.data") / known[name]))
    near = get_close_matches(name, known, 1, 0.6)
    hint = f"; did you mean {BUILTIN}{near[0]}?" if near else f"; expected {', '.join(map(BUILTIN.__add__, known))}"
    raise DataError(printable(f"{path}: no such built-in data{hint}"))


def _files_in(folder: Path, suffixes: Collection[str]) -> str:
    names = sorted(name for name in _listed(folder) if Path(name).suffix.lower() in suffixes)
    return f", such as {folder / names[0]}" if names else f" ({', '.join(suffixes)})"


def _nearest(file: Path) -> str:
    if not os.path.isdir(file.parent):
        return f"; there is no folder {file.parent} either"
    near = get_close_matches(file.name, _listed(file.parent), 1, 0.6)
    return f"; did you mean {file.parent / near[0]}?" if near else "; check the path (relative to the current folder)"


def _listed(folder: Path) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return []
