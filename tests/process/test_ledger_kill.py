"""The ledger among real processes: killed in the middle of a write, and two writers at once."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from readwrite_edit.edit.ledger import Ledger, open_ledger, read_ledger
from tests.small_edits import a_base, fake_run

PATIENCE_S = 60.0

# Enters edits from a finished run, one after the other; no torch, so that it starts at once.
ADD = """
import sys
from pathlib import Path
from readwrite_edit.edit.ledger import open_ledger
from readwrite_edit.models.identity import Base
from readwrite_edit.runs.folder import RunFolder
root, run, name, count = Path(sys.argv[1]), RunFolder(Path(sys.argv[2])), sys.argv[3], int(sys.argv[4])
base = Base(source="/models/tiny", revision=None, weights_hash="0" * 64, dtype="float32", quantization=None)
ledger = open_ledger(root, base)
print("ready", flush=True)
sys.stdin.readline()
for number in range(count):
    ledger.add(kind="steer", title="added", name=f"{name}-{number}", run=run)
    print(number, flush=True)
"""

# Enters one edit after the other in children, each of which dies by SIGKILL before another one of the system calls
# that change the disk, until a child lives through all of them. Prints after each what the ledger then holds.
DIE_AT_EACH_STEP = """
import os, signal, sys
from pathlib import Path
from readwrite_edit.edit.ledger import open_ledger
from readwrite_edit.models.identity import Base
from readwrite_edit.runs.folder import RunFolder
root, run = Path(sys.argv[1]), RunFolder(Path(sys.argv[2]))
base = Base(source="/models/tiny", revision=None, weights_hash="0" * 64, dtype="float32", quantization=None)

def deadly(call, steps):
    def step(*arguments, **options):
        if steps[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        steps[0] -= 1
        return call(*arguments, **options)
    return step

step = 0
while True:
    child = os.fork()
    if child == 0:
        steps = [step]
        for name in ("open", "mkdir", "rename", "replace", "fsync", "unlink", "rmdir", "chmod", "sendfile"):
            setattr(os, name, deadly(getattr(os, name), steps))
        open_ledger(root, base).add(kind="steer", title="added", run=run)
        os._exit(0)
    status = os.waitpid(child, 0)[1]
    ledger = open_ledger(root, base)
    whole = [entry.name for entry in ledger.entries if ledger.adapter_of(entry)]
    killed = os.WIFSIGNALED(status)
    print(step, "killed" if killed else os.waitstatus_to_exitcode(status), len(whole), flush=True)
    if not killed:
        break
    step += 1
"""


def start(code: str, *arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def go(process: subprocess.Popen[str]) -> None:
    """Let a writer begin, once it is ready."""
    assert process.stdout is not None and process.stdin is not None
    assert process.stdout.readline() == "ready\n", process.communicate()[1]
    process.stdin.write("\n")
    process.stdin.flush()


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """With a finished run whose adapter has a size worth copying."""
    fake_run(tmp_path / "run", text="weights " * 20_000)
    return tmp_path


def check_whole(root: Path) -> Ledger:
    """The ledger reads, and every edit that it lists is there with the bytes that were entered."""
    ledger = open_ledger(root, a_base())
    for entry in ledger.entries:
        ledger.adapter_of(entry)
        assert json.loads((ledger.path_of(entry) / "summary.json").read_text()) == {}
    return ledger


def test_kill_9_before_each_step_of_an_entry_leaves_it_out_or_in_whole(place: Path) -> None:
    process = start(DIE_AT_EACH_STEP, place / "edits", place / "run")
    out, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, err
    lines = [line.split() for line in out.splitlines()]
    assert [line[1] for line in lines[:-1]] == ["killed"] * (len(lines) - 1) and lines[-1][1] == "0"
    counts = [int(line[2]) for line in lines]
    assert len(lines) > 20, "an entry takes many steps, and each was the last of one process"
    assert counts == sorted(counts) and counts[0] == 0, "nothing that was listed is ever lost"
    ledger = check_whole(place / "edits")
    assert len(ledger.entries) == counts[-1] > 0
    assert sorted(path.name for path in (ledger.folder / "entries").iterdir()) == sorted(
        entry.name for entry in ledger.entries
    ), "the next writer cleared what the killed ones left"


def test_kill_9_at_any_moment_leaves_a_ledger_that_can_be_read_and_written(place: Path) -> None:
    moments = random.Random(0)
    listed = 0
    for attempt in range(3):
        process = start(ADD, place / "edits", place / "run", f"try{attempt}", 10_000)
        go(process)
        assert process.stdout is not None
        process.stdout.readline()  # at least one is entered
        time.sleep(moments.uniform(0.0, 0.08))
        process.kill()
        process.wait()
        ledger = check_whole(place / "edits")
        assert len(ledger.entries) > listed
        listed = len(ledger.entries)
    ledger.add(kind="steer", title="after", run=fake_run(place / "after"))
    ledger.undo("try0-0")
    assert len(read_ledger(ledger.folder).active) == listed


def test_two_processes_that_enter_at_once_lose_nothing(place: Path) -> None:
    each = 8
    processes = [start(ADD, place / "edits", place / "run", name, each) for name in "ab"]
    for process in processes:
        go(process)
    for process in processes:
        _, err = process.communicate(timeout=PATIENCE_S)
        assert process.returncode == 0, err
    ledger = check_whole(place / "edits")
    names = [entry.name for entry in ledger.entries]
    assert sorted(names) == sorted(f"{name}-{number}" for name in "ab" for number in range(each))
    for name in "ab":
        assert [other for other in names if other.startswith(name)] == [f"{name}-{number}" for number in range(each)]
