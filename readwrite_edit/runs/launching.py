"""Starting commands that outlive whoever starts them: a session of their own, and output to a file.

A child that shares its parent's session dies with the terminal, and one that
writes to its parent's pipe dies at its first word after the parent's death.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from readwrite_edit.runs.folder import FolderError, dated_name
from readwrite_edit.runs.regular import read_tail

FOLDER = ".launched"
LAST_LINES = 8
_TAIL_BYTES = 1 << 14
_BY_SIGNAL = 128


@dataclass(frozen=True, kw_only=True)
class Launched:
    """A command that was started.

    Attributes:
        pid: Its process, which leads a session and a group of its own.
        log: Where its output goes.
        command: The whole command, with its program.
        process: For ``launch_outcome``; only the process that launched it learns its exit code.
    """

    pid: int
    log: Path
    command: list[str]
    process: subprocess.Popen[bytes] = field(repr=False, compare=False)


def launch(argv: Sequence[str], *, root: Path, name: str) -> Launched:
    """Start a command of this program, for good: nothing that happens to this process touches it.

    Args:
        argv: Arguments without the program, as ``["align", "--recipe", "dpo_readonly"]``.
        root: Folder of runs; the log goes to ``<root>/.launched/<time>-<name>.log``.
        name: Says in the log's name what was started; any text.

    Raises:
        FolderError: The log can not be written, or the process can not be started.
    """
    handle, log = _new_log(root / FOLDER, name)
    command = program(argv)
    try:
        _write_command(handle, argv)
        process = start_detached(command, output=handle)
    except OSError as error:
        raise FolderError(f"{shlex.join(command)} can not be started: {error.strerror or error}") from error
    finally:
        os.close(handle)
    return Launched(pid=process.pid, log=log, command=command, process=process)


def launch_outcome(launched: Launched) -> tuple[int, list[str]] | None:
    """How a launched command ended: its exit code (128 + n by signal n) and the last lines of its log; None before."""
    code = launched.process.poll()
    if code is None:
        return None
    return shell_code(code), last_lines(launched.log)


def program(argv: Sequence[str]) -> list[str]:
    """The whole command for arguments of this program.

    ``-P`` leaves the current folder out of Python's path: a file ``queue.py`` of the user's must not be taken for
    Python's own.
    """
    return [sys.executable, "-P", "-m", "readwrite_edit.cli", *argv]


def start_detached(
    command: Sequence[str],
    *,
    output: int,
    folder: Path | None = None,
    environment: Mapping[str, str] | None = None,
    kept_open: Iterable[int] = (),
) -> subprocess.Popen[bytes]:
    """Start a process in a session of its own, without input.

    Args:
        command: Program and arguments.
        output: File descriptor that takes stdout and stderr.
        folder: To work in; the present one by default.
        environment: In place of this process's.
        kept_open: Descriptors that the process inherits, under the same numbers.

    Raises:
        OSError: It can not be started.
    """
    return subprocess.Popen(
        list(command),
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=output,
        cwd=folder,
        env=None if environment is None else dict(environment),
        pass_fds=tuple(kept_open),
        start_new_session=True,
    )


def shell_code(code: int) -> int:
    """Python's exit code as a shell gives it: 128 + n for the end by signal n."""
    return code if code >= 0 else _BY_SIGNAL - code


def last_lines(log: Path, count: int = LAST_LINES) -> list[str]:
    """The last lines of a log that are not empty; none where it can not be read. They are data: ``printable`` first."""
    try:
        text = read_tail(log, _TAIL_BYTES).decode("utf-8", "replace")
    except OSError:
        return []
    return [line for line in text.splitlines() if line.strip()][-count:]


def _new_log(folder: Path, name: str) -> tuple[int, Path]:
    """Open a log that nobody has yet."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for number in range(1, 1000):
            path = folder / f"{dated_name(name, datetime.now())}{'' if number == 1 else f'-{number}'}.log"
            try:
                return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o666), path
            except FileExistsError:
                continue
    except OSError as error:
        raise FolderError(f"{folder}: {error.strerror}: name a folder of runs that can be written") from error
    raise FolderError(f"{folder}: a thousand logs of this second: wait for a moment")


def _write_command(handle: int, argv: Sequence[str]) -> None:
    os.write(handle, f"$ {shlex.join(['readwrite-edit', *argv])}\n".encode("utf-8", "surrogateescape"))
