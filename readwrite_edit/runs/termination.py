"""Ending a run that does not heed a stop request: a signal to its process group, once it is sure whose pid it is.

Pids are reused, and a state file may be old. So the lock is asked who holds it,
immediately before the signal: only the very process that the run's state names,
on this host, is ever sent one.
"""

from __future__ import annotations

import os
import signal
import socket
from dataclasses import dataclass
from pathlib import Path

from readwrite_edit.runs.folder import FolderError, RunFolder
from readwrite_edit.runs.lock import holder
from readwrite_edit.runs.state import StateError, load_state


@dataclass(frozen=True, kw_only=True)
class Signalled:
    """What was sent to whom.

    Attributes:
        number: The signal.
        pid: The run's process.
        group: Whether its whole process group got it; False where the process does not lead one, since the group
            may then hold the user's shell or script.
    """

    number: signal.Signals
    pid: int
    group: bool

    def __str__(self) -> str:
        """In words, for whoever asked."""
        whom = f"the process group {self.pid}" if self.group else f"pid {self.pid} alone (it leads no process group)"
        return f"sent {self.number.name} to {whom}"


def terminate(path: Path) -> Signalled:
    """Send SIGTERM: the run ends at its next step, or at once where it takes none.

    Raises:
        FolderError: No living process on this host holds the run as its state says; with the reason.
    """
    return _signal(path, signal.SIGTERM)


def kill(path: Path) -> Signalled:
    """Send SIGKILL: the run ends at once and saves nothing.

    Raises:
        FolderError: As ``terminate``.
    """
    return _signal(path, signal.SIGKILL)


def _signal(path: Path, number: signal.Signals) -> Signalled:
    pid = _claimed(path)
    try:
        leads = os.getpgid(pid) == pid
        _require_holder(path, pid)
        (os.killpg if leads else os.kill)(pid, number)
    except ProcessLookupError:
        raise FolderError(f"{path}: its process is gone: there is nothing to end") from None
    except PermissionError:
        raise FolderError(f"{path}: pid {pid} belongs to another user: ask them to stop it") from None
    return Signalled(number=number, pid=pid, group=leads)


def _claimed(path: Path) -> int:
    """The pid that the run's state names, if it is one of this host."""
    try:
        state = load_state(RunFolder(path).state)
    except StateError as error:
        raise FolderError(f"{path}: {error}: nothing is sent a signal") from None
    if state.hostname != socket.gethostname():
        raise FolderError(f"{path} is carried out on host {state.hostname}: end it there")
    if state.pid <= 1:
        raise FolderError(f"{path}: its state names no process: nothing is sent a signal")
    return state.pid


def _require_holder(path: Path, pid: int) -> None:
    try:
        found = holder(RunFolder(path).lock)
    except OSError as error:
        raise FolderError(f"{path}: its lock can not be tested ({error.strerror}): nothing is sent a signal") from None
    if found is None:
        raise FolderError(f"{path}: its process is gone: there is nothing to end")
    if found == os.getpid():
        raise FolderError(f"{path} is carried out by this very process: end it from where it was started")
    if found != pid:
        who = f"pid {found}" if found else "a process that can not be named from here"
        raise FolderError(f"{path} is held by {who}, not by pid {pid} of its state: nothing is sent a signal")
