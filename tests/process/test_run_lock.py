"""The lock of a run among real processes."""

import os
import signal
import subprocess
import sys

import pytest

from readwrite_edit.errors import RunError
from readwrite_edit.runs.lock import RunLock, is_locked
from readwrite_edit.runs.reader import metrics, read_run
from readwrite_edit.runs.writer import RunWriter

HOLD = """
import sys
from pathlib import Path
from readwrite_edit.runs.writer import RunWriter
run = RunWriter.start(Path(sys.argv[1]), recipe_text="", recipe_name="dpo")
run.log_metrics(1, {"loss": 1.0})
print("ready", flush=True)
sys.stdin.read()
"""

FORK = """
import os, sys, time
from pathlib import Path
from readwrite_edit.runs.lock import is_locked
from readwrite_edit.runs.writer import RunWriter
path = Path(sys.argv[1])
run = RunWriter.start(path, recipe_text="", recipe_name="dpo")
if os.fork() == 0:
    assert is_locked(path / "run.lock")  # the parent's, seen from the child
    run.close()                          # must not free what the parent holds
    print(f"child {os.getpid()}", flush=True)
    sys.stdin.read()
    print("held" if is_locked(path / "run.lock") else "free", flush=True)
    os._exit(0)
sys.stdin.read()
"""


def spawn(code, path):
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    said = process.stdout.readline()
    assert said, "the process ended before it took the lock"
    return process, said


def kill(process):
    process.send_signal(signal.SIGKILL)
    process.wait()


def test_a_run_held_by_another_process_is_refused_with_its_pid(tmp_path):
    process, _ = spawn(HOLD, tmp_path / "run")
    try:
        assert read_run(tmp_path / "run").status == "running"
        for take in (
            lambda: RunWriter.resume(tmp_path / "run"),
            lambda: RunLock(tmp_path / "run" / "run.lock").acquire(),
        ):
            with pytest.raises(RunError, match=f"in use by pid {process.pid} on host "):
                take()
        with pytest.raises(RunError, match=f"in use by pid {process.pid} on host "):
            RunWriter.start(tmp_path / "run", recipe_text="", recipe_name="dpo")
        assert read_run(tmp_path / "run").status == "running"
    finally:
        kill(process)


def test_kill_9_frees_the_run_and_it_resumes(tmp_path):
    process, _ = spawn(HOLD, tmp_path / "run")
    kill(process)
    view = read_run(tmp_path / "run")
    assert (view.status, view.reason) == ("failed", "its process is gone")
    with RunWriter.resume(tmp_path / "run") as run:
        run.log_metrics(2, {"loss": 0.5})
        assert read_run(tmp_path / "run").status == "running"
    assert [record["step"] for record in metrics(tmp_path / "run")] == [1, 2]


def test_a_forked_child_of_a_dead_run_does_not_keep_it_alive(tmp_path):
    process, said = spawn(FORK, tmp_path / "run")
    child = int(said.split()[1])
    try:
        assert is_locked(tmp_path / "run" / "run.lock"), "the child's close dropped the parent's lock"
        kill(process)
        os.kill(child, 0)  # it lives and still has the descriptor
        assert not is_locked(tmp_path / "run" / "run.lock")
        assert read_run(tmp_path / "run").status == "failed"
    finally:
        process.stdin.close()
    assert process.stdout.readline() == "free\n", "the child took its parent's lock for its own"


def test_reading_in_the_writing_process_does_not_drop_the_lock(tmp_path):
    with RunWriter.start(tmp_path / "run", recipe_text="", recipe_name="dpo"):
        for _ in range(3):
            assert read_run(tmp_path / "run").status == "running"
        with pytest.raises(RunError):
            RunWriter.resume(tmp_path / "run")
        code = "import sys; from pathlib import Path; from readwrite_edit.runs.lock import is_locked; "
        code += "sys.exit(0 if is_locked(Path(sys.argv[1])) else 1)"
        outcome = subprocess.run([sys.executable, "-c", code, str(tmp_path / "run" / "run.lock")])
        assert outcome.returncode == 0


FILL = """
import resource, sys
from pathlib import Path
from readwrite_edit.errors import RunError
from readwrite_edit.runs.writer import RunWriter
run = RunWriter.start(Path(sys.argv[1]), recipe_text="", recipe_name="dpo")
resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))
try:
    with run:
        for step in range(1000):
            run.log_metrics(step, {"loss": 1.0})
except RunError as error:
    print(error, flush=True)
"""


def test_a_disk_that_takes_no_more_is_a_run_error_and_leaves_whole_lines(tmp_path):
    process, said = spawn(FILL, tmp_path / "run")
    process.communicate()
    assert "metrics.jsonl: File too large" in said
    content = (tmp_path / "run" / "metrics.jsonl").read_bytes()
    assert 1500 < len(content) <= 2000 and content.endswith(b"\n")
    assert read_run(tmp_path / "run").status == "failed"
    assert "metrics.jsonl" in read_run(tmp_path / "run").reason
