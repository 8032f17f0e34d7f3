"""The machine giving out under a run: a disk that takes no more, memory that ran out, and what is left half done."""

from __future__ import annotations

import errno
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import torch

from readwrite_edit.align.checkpoints import SEAL
from readwrite_edit.durable import RUST_ERROR
from readwrite_edit.errors import ReadWriteEditError, RunError

_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS}
# torch.save reports a write that fell short by where its archive stands, or by the file's number.
_TORCH_WRITE = re.compile(r"inline_container\.cc:\d+\] \. unexpected pos|PytorchStreamWriter|write\(\): fd \d+ failed")
_TORCH_MEMORY = re.compile(r"DefaultCPUAllocator: (can't allocate|not enough) memory|out of memory", re.IGNORECASE)
_LONGEST_DETAIL = 200


def as_run_error(
    error: Exception,
    run: Path,
    *,
    again: str | None = None,
    less: str = "train.per_device_train_batch_size or train.max_length",
) -> RunError | None:
    """A failure of the machine in one line that says what to do.

    Args:
        error: What ended the run.
        run: Its folder.
        again: What to do once that is put right; by default to go on with ``align --resume``.
        less: What to lower where memory ran out.

    Returns:
        The error to raise instead; None where it is for the user already, or a mistake of the program.
    """
    if isinstance(error, ReadWriteEditError):
        return None
    again = again or f"go on with readwrite-edit align --resume {run}"
    if _is_memory(error):
        return RunError(f"out of memory ({_detail(error)}): start anew with a lower {less}, or free memory and {again}")
    if _is_disk(error):
        return RunError(f"{run} takes no more data ({_detail(error)}): free space on its disk and {again}")
    if isinstance(error, OSError):
        return RunError(f"{error.filename or run}: {_detail(error)}: put it right and {again}")
    return None


def drop_unfinished(checkpoints: Path) -> None:
    """Remove checkpoints that were not sealed: a resume would pass them over, and they take room.

    Args:
        checkpoints: Folder of checkpoints; need not exist.
    """
    for folder in checkpoints.glob("checkpoint-*"):
        if folder.is_dir() and not (folder / SEAL).exists():
            shutil.rmtree(folder, ignore_errors=True)


def _is_memory(error: Exception) -> bool:
    if isinstance(error, MemoryError | torch.OutOfMemoryError) or _number(error) == errno.ENOMEM:
        return True
    return isinstance(error, RuntimeError) and bool(_TORCH_MEMORY.search(str(error)))


def _is_disk(error: Exception) -> bool:
    return any(_number(link) in _NO_ROOM or _TORCH_WRITE.search(str(link)) for link in _chain(error))


def _number(error: BaseException) -> int | None:
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno
    found = RUST_ERROR.search(str(error))
    return int(found[1]) if found else None


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """The error and those it came from, the last first."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _detail(error: Exception) -> str:
    """The system's words for it where the chain holds its number, else the error's own."""
    for link in _chain(error):
        if (number := _number(link)) is not None:
            return os.strerror(number)
    if _TORCH_WRITE.search(str(error)):
        return "a file could not be written whole"
    lines = str(error).strip().splitlines()
    return lines[0][:_LONGEST_DETAIL] if lines else type(error).__name__
