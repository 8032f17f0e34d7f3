"""Commands and runs that outlive whoever started them, and the signals that end a run."""

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace

import pytest

from readwrite_edit.runs.folder import FolderError, RunFolder
from readwrite_edit.runs.launching import launch, launch_outcome
from readwrite_edit.runs.reader import read_run
from readwrite_edit.runs.state import load_state, save_state
from readwrite_edit.runs.termination import kill, terminate
from tests.fake_runs import FAKE, fake_argv, lives, start_fake, wait_until

LAUNCH = """
import sys, time
from pathlib import Path
from readwrite_edit.runs import launching
launching.program = lambda argv: [sys.executable, "-c", sys.argv[1], *argv]
found = launching.launch(sys.argv[3:], root=Path(sys.argv[2]), name="fake")
print(found.pid, found.log, flush=True)
time.sleep(600)
"""
# Forks a worker into its own process group; both work until they are killed.
WITH_WORKER = FAKE.replace('note("start")', "worker = os.fork()\nif worker == 0:\n    time.sleep(600)\nnote('start')")


def outcome_of(launched):
    wait_until(lambda: launch_outcome(launched) is not None, "the end of the command")
    return launch_outcome(launched)


def test_a_launched_run_survives_kill_9_of_its_parent_and_its_terminal(tmp_path):
    gate, path = tmp_path / "gate", tmp_path / "runs" / "run"
    command = [sys.executable, "-c", LAUNCH, FAKE, str(tmp_path / "runs"), *fake_argv(gate), "--run-dir", str(path)]
    parent = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)
    pid, log = parent.stdout.readline().split()
    wait_until(lambda: read_run(path).status == "running")
    assert os.getsid(int(pid)) == os.getpgid(int(pid)) == int(pid) != os.getsid(parent.pid)
    os.killpg(parent.pid, signal.SIGKILL)
    parent.communicate()
    os.killpg(int(pid), 0)
    assert read_run(path).status == "running"
    gate.touch()
    wait_until(lambda: read_run(path).status == "finished")
    wait_until(lambda: not lives(int(pid)))
    first, *rest = open(log).read().splitlines()
    assert first.startswith("$ readwrite-edit align --gate ") and rest == ["said at the end"]
    assert log.startswith(str(tmp_path / "runs" / ".launched")) and log.endswith("-fake.log")


def test_a_launched_command_tells_its_exit_code_and_last_words(tmp_path, monkeypatch):
    (tmp_path / "queue.py").write_text("raise SystemExit('the user has a file of this name')")
    (tmp_path / "json.py").write_text("raise SystemExit('and of this one')")
    monkeypatch.chdir(tmp_path)
    good = launch(["runs", "ls", "--root", "runs"], root=tmp_path / "runs", name="look here")
    bad = launch(["runs", "show", "none\x1b[2J"], root=tmp_path / "runs", name="look here")
    assert good.log != bad.log and good.log.name.endswith("-look-here.log")
    code, lines = outcome_of(good)
    assert (code, lines) == (0, ["$ readwrite-edit runs ls --root runs", "no runs under runs"])
    code, lines = outcome_of(bad)
    assert code == 2 and lines[-1].startswith("readwrite-edit: no run 'none")


def test_a_command_killed_by_a_signal_has_a_shell_s_exit_code(tmp_path):
    launched = launch(["runs", "tail", "--follow", "x"], root=tmp_path, name="x")
    launched.process.kill()
    assert outcome_of(launched)[0] == 137


def test_nothing_is_launched_where_the_log_can_not_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(FolderError, match="name a folder of runs that can be written"):
        launch(["runs", "ls"], root=tmp_path / "file", name="x")


@pytest.fixture
def fake(tmp_path):
    """A fake run in a session of its own, and its folder."""
    path = tmp_path / "run"
    process = start_fake(path, tmp_path / "gate", start_new_session=True)
    wait_until(lambda: read_run(path).status == "running")
    yield process, path
    process.kill()
    process.wait()


def test_terminate_reaches_the_whole_group_of_a_run(tmp_path):
    path = tmp_path / "run"
    command = [sys.executable, "-c", WITH_WORKER, *fake_argv(tmp_path / "gate"), "--run-dir", str(path)]
    process = subprocess.Popen(command, start_new_session=True)
    wait_until(lambda: read_run(path).status == "running")
    children = open(f"/proc/{process.pid}/task/{process.pid}/children").read().split()
    assert len(children) == 1 and lives(int(children[0]))
    sent = terminate(path)
    assert (sent.number, sent.pid, sent.group) == (signal.SIGTERM, process.pid, True)
    assert process.wait(timeout=60) == -signal.SIGTERM
    wait_until(lambda: not lives(int(children[0])), "the end of the worker")
    assert read_run(path).status == "failed"
    with pytest.raises(FolderError, match="its process is gone"):
        terminate(path)


def test_a_run_that_leads_no_group_gets_the_signal_alone(tmp_path):
    path = tmp_path / "run"
    process = start_fake(path, tmp_path / "gate")
    wait_until(lambda: read_run(path).status == "running")
    sent = kill(path)
    assert process.wait(timeout=60) == -signal.SIGKILL
    assert not sent.group and "alone" in str(sent)


def test_a_pid_that_another_process_has_now_is_never_sent_a_signal(tmp_path, fake):
    process, path = fake
    innocent = subprocess.Popen(["sleep", "600"], start_new_session=True)
    folder = RunFolder(path)
    try:
        process.send_signal(signal.SIGSTOP)  # or its next heartbeat would write over this
        state = load_state(folder.state)
        save_state(folder.state, replace(state, pid=innocent.pid), flush=False)
        with pytest.raises(FolderError, match=f"held by pid {process.pid}, not by pid {innocent.pid}"):
            kill(path)
        process.kill()
        process.wait()
        with pytest.raises(FolderError, match="its process is gone"):
            kill(path)
        assert innocent.poll() is None
    finally:
        innocent.kill()
        innocent.wait()


@pytest.mark.parametrize(
    ("change", "reason"),
    [({"hostname": "elsewhere"}, "on host elsewhere"), ({"pid": 0}, "names no process"), ({"pid": 1}, "no process")],
)
def test_a_state_that_names_nobody_here_sends_no_signal(fake, change, reason):
    process, path = fake
    process.send_signal(signal.SIGSTOP)
    folder = RunFolder(path)
    save_state(folder.state, replace(load_state(folder.state), **change), flush=False)
    with pytest.raises(FolderError, match=reason):
        terminate(path)
    assert process.poll() is None


def test_no_signal_to_this_very_process_and_none_for_a_broken_state(tmp_path):
    from readwrite_edit.runs.writer import RunWriter

    with RunWriter.start(tmp_path / "run", recipe_text="", recipe_name="dpo"):
        with pytest.raises(FolderError, match="this very process"):
            terminate(tmp_path / "run")
        (tmp_path / "run" / "state.json").write_text(json.dumps({"schema": 99}))
        with pytest.raises(FolderError, match="newer version"):
            kill(tmp_path / "run")
