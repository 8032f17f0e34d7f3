"""Files and folders that appear whole or not at all.

Everything is written beside its target, flushed to the disk and renamed, so
that a reader, a power cut or a full disk never meets half a file. What the disk
refuses is an OSError that names the target, whichever library wrote.
"""

from __future__ import annotations

import json
import math
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

# Libraries in Rust raise kinds of their own; the system's number stands in the text.
RUST_ERROR = re.compile(r"\(os error (\d+)\)")
_TRIED_BYTES = 1 << 16


@contextmanager
def whole_file(target: Path) -> Iterator[Path]:
    """Give a temporary path beside ``target`` that replaces it when the block ends well."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with _said_of(target):
        handle, name = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
        os.close(handle)
        temporary = Path(name)
        try:
            yield temporary
            _flush(temporary)
            temporary.chmod(0o666 & ~_umask())
            temporary.replace(target)
        finally:
            temporary.unlink(missing_ok=True)
        _flush(target.parent)


@contextmanager
def whole_folder(target: Path) -> Iterator[Path]:
    """Give a temporary folder beside ``target`` that becomes it when the block ends well.

    An existing target is replaced only once the new folder is complete.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    with _said_of(target):
        temporary = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
        try:
            yield temporary
            for path in sorted(temporary.rglob("*")):
                _flush(path)
                if path.is_file():  # some writers make their files private
                    path.chmod(path.stat().st_mode | (0o666 & ~_umask()))
            temporary.chmod(0o777 & ~_umask())
            _swap(temporary, target)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        _flush(target.parent)


def try_writing(folder: Path) -> None:
    """Find out whether a folder can be made and takes data, by doing it; nothing is left behind.

    Args:
        folder: Existing or not.

    Raises:
        OSError: The disk refuses, or a file is in the way.
    """
    made = [place for place in (folder, *folder.parents) if not os.path.lexists(place)]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(bytes(_TRIED_BYTES))
            file.flush()
            os.fsync(file.fileno())
    finally:
        for place in made:
            with suppress(OSError):
                place.rmdir()


def write_text(target: Path, text: str) -> None:
    """Write a text file, whole or not at all."""
    with whole_file(target) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(target: Path, value: Any) -> None:
    """Write JSON with sorted keys, whole or not at all: the same value gives the same bytes."""
    write_text(target, json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n")


def finite_or_none(figures: Mapping[str, float | None]) -> dict[str, float | None]:
    """Figures with None for those that are not finite: JSON has no word for them."""
    return {name: value if value is not None and math.isfinite(value) else None for name, value in figures.items()}


def plain(value: Any) -> Any:
    """The same as dictionaries and lists, with None for every number that is not finite: JSON has no word for them."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {name: plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value


@contextmanager
def _said_of(target: Path) -> Iterator[None]:
    """Let what the disk refuses name the target: nobody has asked for the temporary name beside it."""
    try:
        yield
    except OSError as error:
        if not str(error.filename).startswith(str(target.parent / f".{target.name}.")):
            raise
        raise OSError(error.errno, error.strerror, str(target)) from error
    except Exception as error:
        found = RUST_ERROR.search(str(error))
        if found is None:
            raise
        raise OSError(int(found[1]), os.strerror(int(found[1])), str(target)) from error


def _swap(new: Path, target: Path) -> None:
    if not target.exists():
        new.rename(target)
        return
    old = Path(tempfile.mkdtemp(prefix=f".{target.name}.old.", dir=target.parent))
    target.rename(old / target.name)
    try:
        new.rename(target)
    except OSError:
        (old / target.name).rename(target)
        old.rmdir()
        raise
    shutil.rmtree(old, ignore_errors=True)


def _flush(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
