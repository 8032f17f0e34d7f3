"""Cheap processes that carry out runs: what queues, launching and signals are tested with."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

# Appends "start" and "end" lines to a journal, and works until its gate is opened or it is asked to stop.
FAKE = """
import os, sys, time
from pathlib import Path
from readwrite_edit.runs.writer import RunWriter

options = dict(zip(sys.argv[2::2], sys.argv[3::2]))
path, gate = Path(options["--run-dir"]), Path(options["--gate"])

def note(word):
    with open(gate.parent / "journal", "a") as journal:
        journal.write(f"{word} {path.name} {os.getpid()} {os.environ.get('CUDA_VISIBLE_DEVICES')}\\n")

note("start")
if "--fail" in options:
    sys.exit(f"readwrite-edit: {options['--fail']}")
with RunWriter.start(path, recipe_text="", recipe_name="fake", max_steps=1) as run:
    while not gate.exists() and not run.stop_requested():
        time.sleep(0.02)
        run.heartbeat(0)
    run.mark("stopped" if run.stop_requested() else "finished")
note("end")
print("said at the end")
"""
_RUNNER = """
import os, signal, sys
from pathlib import Path
from readwrite_edit.errors import ReadWriteEditError
from readwrite_edit.queue import runner

signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs, and so CI's, may ignore it
runner.EVERY_S = 0.05
runner.program = lambda argv: [sys.executable, "-c", sys.argv[2], *argv]
runner.why_absent = lambda device: None  # GPUs are made up too
start = runner.start_detached

def start_and_die(*args, **options):
    if sys.argv[3] == "started":
        start(*args, **options)
    os.kill(os.getpid(), signal.SIGKILL)

if sys.argv[3]:
    runner.start_detached = start_and_die
try:
    runner.run_queue(Path(sys.argv[1]), lambda text: print(text, flush=True))
except ReadWriteEditError as error:
    sys.exit(str(error))
"""
PATIENCE_S = 120


def start_runner(root: Path, dying: str = "", **options: object) -> subprocess.Popen[str]:
    """A runner in a process of its own, whose items are fake runs.

    Args:
        root: Folder of runs.
        dying: ``starting`` or ``started``: it is killed right before or after it starts its first item.
        options: For the process.
    """
    command = [sys.executable, "-c", _RUNNER, str(root), FAKE, dying]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)


def fake_argv(gate: Path, **options: str) -> list[str]:
    """Arguments of a fake run that works until its gate is opened."""
    words = [word for name, value in options.items() for word in (f"--{name}", value)]
    return ["align", "--gate", str(gate), *words]


def start_fake(path: Path, gate: Path, **options: object) -> subprocess.Popen[bytes]:
    """A fake run in a process of its own."""
    command = [sys.executable, "-c", FAKE, *fake_argv(gate), "--run-dir", str(path)]
    return subprocess.Popen(command, **options)


def wait_until(true: Callable[[], object], what: str = "", patience_s: float = PATIENCE_S) -> None:
    """Wait for something that another process does."""
    deadline = time.monotonic() + patience_s
    while not true():
        assert time.monotonic() < deadline, f"it never came: {what or true}"
        time.sleep(0.02)


def journal(folder: Path) -> list[list[str]]:
    """What the fake runs of a folder noted: word, name, pid, CUDA_VISIBLE_DEVICES."""
    try:
        return [line.split() for line in (folder / "journal").read_text().splitlines()]
    except FileNotFoundError:
        return []


def lives(pid: int) -> bool:
    """Whether a process exists and is no zombie."""
    try:
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (ProcessLookupError, FileNotFoundError):
        return False
