"""The runner of a queue: takes the items in order, one at a time per device, until none is left.

What it starts outlives it: each process leads a session of its own and inherits
two locks, of its item and of its device. A runner that is killed is replaced by
the next one, which finds by these locks what still runs.
"""

from __future__ import annotations

import os
import shlex
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from readwrite_edit.errors import RunError
from readwrite_edit.queue.device import device_lock, environment_for, take_device, why_absent
from readwrite_edit.queue.items import DONE, FAILED, RUNNING, WAITING, Item
from readwrite_edit.queue.judging import judged, life_lock
from readwrite_edit.queue.locks import note_of, take_soon
from readwrite_edit.queue.store import changing, is_paused, items, place_of, save, stored
from readwrite_edit.runs.folder import FolderError
from readwrite_edit.runs.launching import Launched, last_lines, launch, program, shell_code, start_detached
from readwrite_edit.runs.lock import RunLock, holder
from readwrite_edit.runs.reader import read_run

EVERY_S = 0.5
_LONGEST_REASON = 300


def runner_pid(root: Path) -> int | None:
    """The pid of the runner that works on a queue, on this host; None where none does."""
    try:
        return holder(_runner_lock(root))
    except OSError:
        return None


def runner_alive(root: Path) -> bool:
    """Whether a runner works on a queue."""
    return runner_pid(root) is not None


def ensure_runner(root: Path) -> Launched | None:
    """Start a detached runner where none works; None where one does. Two at once do no harm: the second one ends.

    Raises:
        FolderError: It can not be started.
    """
    if runner_alive(root):
        return None
    return launch(["queue", "run", "--root", str(root.absolute())], root=root, name="queue-runner")


def run_queue(root: Path, say: Callable[[str], None]) -> None:
    """Work on a queue until nothing in it waits or runs; a pause is waited out.

    Args:
        root: Folder of runs.
        say: Told what happens, a line at a time; the lines may hold text from files.

    Raises:
        FolderError: Another runner works on it, or the queue can not be written.
    """
    with _alone(root) as lock:
        runner = _Runner(root, lock, say)
        try:
            while runner.work():
                time.sleep(EVERY_S)
        finally:
            runner.leave()


@dataclass(frozen=True)
class _Task:
    """A process of ours, and the descriptors of its two locks."""

    item: Item
    process: subprocess.Popen[bytes]
    handles: tuple[int, int]


class _Runner:
    """Looks at the queue again and again; whatever it changes, it changes while nobody else does."""

    def __init__(self, root: Path, lock: RunLock, say: Callable[[str], None]) -> None:
        self._root, self._lock, self._say = root, lock, say
        self._tasks: dict[str, _Task] = {}
        self._told: dict[str, str] = {}

    def work(self) -> bool:
        """Note what has ended and start what can be; whether anything is left to wait for."""
        with changing(self._root) as place:
            for item in stored(place):
                self._settle(place, item)
            self._start_what_can_be(place)
            left = any(item.state == WAITING or _runs_here(item) for item in stored(place))
            if not left:
                # Given back before others may change the queue: who adds an item then finds no runner, and starts one.
                self._lock.release()
        return left

    def leave(self) -> None:
        """Go without touching what runs, whoever started it."""
        for item in items(self._root):
            if _runs_here(item):
                self._tell(item, f"goes on as pid {item.pid}; the next runner will note its end")
        for task in self._tasks.values():
            _close(*task.handles)
        self._tasks.clear()

    def _settle(self, place: Path, item: Item) -> None:
        """Note the end of an item, where it has one."""
        task = self._tasks.get(item.id)
        if task is None:
            settled = judged(place, item)
        else:
            code = task.process.poll()
            settled = item if code is None else _ended(item, code)
        if settled == item:
            return
        save(place, settled)
        if task is not None:
            del self._tasks[item.id]
            _close(*task.handles)  # only now: a free lock says that nobody will note the end
        self._tell(settled, settled.state + (f": {settled.reason}" if settled.reason else ""))

    def _start_what_can_be(self, place: Path) -> None:
        if is_paused(self._root):
            return
        found = stored(place)
        busy = {item.device for item in found if _runs_here(item)}
        for item in found:
            if item.state == WAITING and item.device not in busy:
                busy.add(item.device)
                self._start(place, item)

    def _start(self, place: Path, item: Item) -> None:
        if why := why_absent(item.device):  # it was added on another machine, or the device is gone
            self._fail(place, item, f"device {item.device}: {why}")
            return
        note = f"pid {os.getpid()} with item {item.id} of {place.absolute()}"
        device = take_device(item.device, note)
        if device is None:
            self._tell(item, f"waits: {item.device} is taken by {note_of(device_lock(item.device))}")
            return
        life = take_soon(life_lock(place, item.id))
        if life is None:
            _close(device)
            self._tell(item, "waits: a process of it is still alive")
            return
        self._begin(place, item, (life, device))

    def _begin(self, place: Path, item: Item, handles: tuple[int, int]) -> None:
        """Start the process; the item calls itself running before, so that no other runner can take it."""
        item = replace(item, state=RUNNING, reason="", started_s=time.time(), hostname=socket.gethostname(), pid=None)
        save(place, item)
        try:
            process = _process(item, handles)
        except OSError as error:
            _close(*handles)
            self._fail(
                place, item, f"it can not be started: {error.strerror or error}: {error.filename or item.folder}"
            )
            return
        item = replace(item, pid=process.pid)
        self._tasks[item.id] = _Task(item, process, handles)
        save(place, item)
        self._tell(item, f"started on {item.device} as pid {item.pid}: {shlex.join(['readwrite-edit', *item.argv])}")

    def _fail(self, place: Path, item: Item, reason: str) -> None:
        """Note that an item can not begin."""
        save(place, replace(item, state=FAILED, ended_s=time.time(), reason=reason))
        self._tell(item, reason)

    def _tell(self, item: Item, text: str) -> None:
        """Say a thing once."""
        if self._told.get(item.id) != text:
            self._told[item.id] = text
            self._say(f"{item.id} {item.name}: {text}")


@contextmanager
def _alone(root: Path) -> Iterator[RunLock]:
    """Hold the lock that says that a runner works."""
    path = _runner_lock(root)
    with changing(root):  # makes the folder
        try:
            lock = RunLock(path).acquire()
        except FolderError:
            raise
        except RunError:
            raise FolderError(f"a runner works on {path.parent} already, as pid {runner_pid(root)}") from None
    try:
        yield lock
    finally:
        lock.release()


def _process(item: Item, handles: tuple[int, int]) -> subprocess.Popen[bytes]:
    """Start an item's command.

    Raises:
        OSError: Its folder is gone, or its log can not be written.
    """
    log = os.open(item.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o666)
    try:
        return start_detached(
            program(item.argv),
            output=log,
            folder=item.folder,
            environment=environment_for(item.device),
            kept_open=handles,
        )
    finally:
        os.close(log)


def _ended(item: Item, code: int) -> Item:
    """An item whose process ended, by its exit code; the reason is the run's status, the signal or the last word."""
    status = read_run(item.run).status
    if code < 0:
        reason = f"ended by {signal.Signals(-code).name}"
    elif code == 0 or status == "stopped":
        reason = "" if status == "finished" else f"its run is {status}"
    else:
        reason = "".join(last_lines(item.log, 1))[:_LONGEST_REASON]
    state = DONE if code == 0 else FAILED
    return replace(item, state=state, ended_s=time.time(), exit_code=shell_code(code), reason=reason)


def _runs_here(item: Item) -> bool:
    return item.state == RUNNING and item.hostname == socket.gethostname()


def _runner_lock(root: Path) -> Path:
    return place_of(root) / "runner.lock"


def _close(*handles: int) -> None:
    for handle in handles:
        os.close(handle)
