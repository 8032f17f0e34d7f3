"""Queues among real processes: order, devices, pauses, and what kill -9 of a runner or a run leaves."""

import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from readwrite_edit import queue
from readwrite_edit.queue.items import save_item
from readwrite_edit.queue.store import place_of, stored
from readwrite_edit.runs.folder import FolderError
from readwrite_edit.runs.reader import read_run
from tests.fake_runs import fake_argv, journal, lives, start_runner, wait_until


@pytest.fixture
def root(tmp_path, monkeypatch):
    """A folder of runs; the devices' locks lie in a cache of the test's own, and any GPU is there."""
    monkeypatch.setattr("readwrite_edit.queue.adding.why_absent", lambda device: None)
    monkeypatch.setenv("READWRITE_EDIT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "runs"


@pytest.fixture
def gate(tmp_path):
    return tmp_path / "gate"


@pytest.fixture
def begun():
    """Runners that a test has started; none outlives it."""
    runners = []
    yield lambda *args, **options: runners.append(start_runner(*args, **options)) or runners[-1]
    for runner in runners:
        runner.kill()
        runner.communicate()


def states(root):
    return [item.state for item in queue.items(root)]


def running_pid(root, position=0):
    wait_until(lambda: queue.items(root)[position].run.joinpath("state.json").exists(), "the run's folder")
    return queue.items(root)[position].pid


def test_items_run_in_order_one_at_a_time_and_leave_log_and_exit_code(root, gate, begun, tmp_path):
    gate.touch()
    for name in ("one", "two", "three"):
        queue.add(root, fake_argv(gate), name, device="cpu")
    said, complaints = begun(root).communicate(timeout=60)
    assert complaints == ""
    assert [word for word, *_ in journal(tmp_path)] == ["start", "end"] * 3
    assert [name.split("-", 2)[2] for _, name, *_ in journal(tmp_path)[::2]] == ["one", "two", "three"]
    assert [(item.state, item.exit_code, item.reason) for item in queue.items(root)] == [("done", 0, "")] * 3
    assert all(item.log.read_text() == "said at the end\n" for item in queue.items(root))
    assert all(read_run(item.run).status == "finished" for item in queue.items(root))
    assert not queue.runner_alive(root)
    assert said.count("started on cpu") == said.count(": done") == 3


def test_kill_9_of_the_runner_touches_no_run_and_nothing_runs_twice(root, gate, begun, tmp_path):
    queue.add(root, fake_argv(gate), "first", device="cpu")
    queue.add(root, fake_argv(gate), "second", device="cpu")
    first = begun(root, start_new_session=True)
    pid = running_pid(root)
    os.killpg(first.pid, signal.SIGKILL)
    first.wait()
    assert not queue.runner_alive(root)
    assert states(root) == ["running", "waiting"] and lives(pid)
    (tmp_path / "beside").mkdir()
    (tmp_path / "beside" / "gate").touch()
    queue.add(root, fake_argv(tmp_path / "beside" / "gate"), "beside", device="cuda:7")
    second = begun(root)
    wait_until(lambda: states(root)[2] == "done", "the new runner at work")
    assert states(root)[:2] == ["running", "waiting"] and len(journal(tmp_path)) == 1
    gate.touch()
    second.communicate(timeout=60)
    one, two, _ = queue.items(root)
    assert (one.state, one.exit_code) == ("done", None) and "its run finished" in one.reason
    assert (two.state, two.exit_code) == ("done", 0)
    assert [line[:2] for line in journal(tmp_path)] == [
        [word, item.run.name] for item in (one, two) for word in ("start", "end")
    ]


def test_a_second_runner_of_the_same_queue_is_refused(root, gate, begun):
    queue.add(root, fake_argv(gate), device="cpu")
    first = begun(root)
    running_pid(root)
    assert queue.ensure_runner(root) is None
    second = begun(root)
    _, complaint = second.communicate(timeout=60)
    assert second.returncode == 1 and f"works on {place_of(root)} already, as pid {first.pid}" in complaint
    assert states(root) == ["running"]
    gate.touch()
    first.communicate(timeout=60)
    assert states(root) == ["done"]


def test_two_queues_share_a_device_and_two_devices_run_side_by_side(root, gate, begun, tmp_path):
    other = tmp_path / "other"
    queue.add(root, fake_argv(gate), "here", device="cpu")
    queue.add(root, fake_argv(gate), "beside", device="cuda:7")
    begun(root)
    running_pid(root, 0)
    running_pid(root, 1)
    queue.add(other, fake_argv(gate), "there", device="cpu")
    waiting = begun(other)
    assert "there: waits: cpu is taken by pid" in waiting.stdout.readline()
    assert states(root) == ["running", "running"] and states(other) == ["waiting"]
    gate.touch()
    waiting.communicate(timeout=60)
    assert states(other) == ["done"]
    devices = {name.split("-")[-1]: device for word, name, _, *device in journal(tmp_path) if word == "start"}
    assert devices == {"here": [], "beside": ["7"], "there": []}


def test_kill_9_of_runner_and_run_frees_the_device_and_the_item_has_failed(root, gate, begun):
    queue.add(root, fake_argv(gate), "killed", device="cpu")
    queue.add(root, fake_argv(gate), "next", device="cpu")
    first = begun(root)
    pid = running_pid(root)
    first.kill()
    first.wait()
    os.killpg(pid, signal.SIGKILL)
    wait_until(lambda: states(root)[0] == "failed")
    assert "its run failed: its process is gone" in queue.items(root)[0].reason
    gate.touch()
    begun(root).communicate(timeout=60)
    assert states(root) == ["failed", "done"]


def test_kill_9_of_a_run_and_a_wrong_command_are_failures_with_a_reason(root, gate, begun, tmp_path):
    queue.add(root, fake_argv(gate), "killed", device="cpu")
    queue.add(root, fake_argv(gate, fail="no such data"), "wrong", device="cpu")
    runner = begun(root)
    os.kill(running_pid(root), signal.SIGKILL)
    runner.communicate(timeout=60)
    outcomes = [(item.state, item.exit_code, item.reason) for item in queue.items(root)]
    assert outcomes == [("failed", 137, "ended by SIGKILL"), ("failed", 1, "readwrite-edit: no such data")]


def test_a_pause_takes_effect_between_items(root, gate, begun, tmp_path):
    queue.add(root, fake_argv(gate), "one", device="cpu")
    queue.add(root, fake_argv(gate), "two", device="cpu")
    runner = begun(root)
    pid = running_pid(root)
    queue.pause(root)
    assert lives(pid) and queue.is_paused(root)
    gate.touch()
    wait_until(lambda: states(root)[0] == "done")
    with queue.store.changing(root):
        assert states(root) == ["done", "waiting"] and len(journal(tmp_path)) == 2
    assert runner.poll() is None
    queue.resume(root)
    runner.communicate(timeout=60)
    assert states(root) == ["done", "done"]


def test_what_a_killed_runner_left_between_two_of_its_steps_is_judged(root, gate, begun, tmp_path):
    gate.touch()
    claimed, lost, foreign = (queue.add(root, fake_argv(gate), device="cpu") for _ in range(3))
    place, here = place_of(root), os.uname().nodename
    save_item(place, replace(claimed, state="running", started_s=1.0, hostname=here))
    save_item(place, replace(lost, state="running", started_s=1.0, hostname=here, pid=1))
    save_item(place, replace(foreign, state="running", started_s=1.0, hostname="elsewhere", pid=1))
    assert states(root) == ["waiting", "failed", "running"]
    assert [item.state for item in stored(place)] == ["running"] * 3  # looking writes nothing
    begun(root).communicate(timeout=60)
    assert states(root) == ["done", "failed", "running"]
    assert "ended before its run began" in queue.items(root)[1].reason
    assert [word for word, *_ in journal(tmp_path)] == ["start", "end"]


def test_kill_9_right_after_the_start_does_not_start_it_again(root, gate, begun, tmp_path):
    queue.add(root, fake_argv(gate), device="cpu")
    first = begun(root, dying="started")
    first.communicate(timeout=60)
    assert first.returncode == -signal.SIGKILL
    assert [item.pid for item in stored(place_of(root))] == [None], "it was to die before it noted the pid"
    assert states(root) == ["running"]
    second = begun(root)
    wait_until(lambda: journal(tmp_path))
    gate.touch()
    second.communicate(timeout=60)
    assert states(root) == ["done"] and [word for word, *_ in journal(tmp_path)] == ["start", "end"]


def test_kill_9_right_before_the_start_starts_it_the_next_time(root, gate, begun, tmp_path):
    gate.touch()
    queue.add(root, fake_argv(gate), device="cpu")
    first = begun(root, dying="starting")
    first.communicate(timeout=60)
    assert first.returncode == -signal.SIGKILL
    assert [item.state for item in stored(place_of(root))] == ["running"] and states(root) == ["waiting"]
    begun(root).communicate(timeout=60)
    assert states(root) == ["done"] and [word for word, *_ in journal(tmp_path)] == ["start", "end"]


def test_a_run_that_waits_to_be_resumed_is_not_judged_by_its_old_state(root, gate, begun):
    gate.touch()
    old = queue.add(root, fake_argv(gate), "old", device="cpu")
    begun(root).communicate(timeout=60)
    again = queue.add(root, ["align", "--resume", str(old.run)], device="cpu")
    assert again.run == old.run
    views = {view.name: view.status for view in queue.list_all(root)}
    assert views == {old.run.name: "queued"}
    started_s = read_run(old.run).started_s + 1000
    save_item(place_of(root), replace(again, state="running", started_s=started_s, hostname=os.uname().nodename))
    assert states(root) == ["done", "waiting"]


def test_an_item_shows_as_a_queued_run_until_it_has_its_folder(root, gate, begun):
    item = queue.add(root, fake_argv(gate), "shown", device="cpu")
    (view,) = queue.list_all(root)
    assert (view.name, view.status, view.kind, view.recipe) == (item.run.name, "queued", "align", "shown")
    assert view.reason == "waits for cpu" and view.path == root / item.run.name
    assert not item.run.exists()
    runner = begun(root)
    running_pid(root)
    assert [view.status for view in queue.list_all(root)] == ["running"]
    with pytest.raises(FolderError, match="runs stop"):
        queue.forget(root, item.id)
    gate.touch()
    runner.communicate(timeout=60)
    queue.forget(root, item.id)
    assert queue.items(root) == [] and read_run(item.run).status == "finished"
    assert sorted(path.name for path in place_of(root).iterdir()) == ["queue.lock", "runner.lock"]


def test_an_item_taken_off_the_list_never_begins(root, gate, begun, tmp_path):
    gate.touch()
    one = queue.add(root, fake_argv(gate), "one", device="cpu")
    queue.add(root, fake_argv(gate), "two", device="cpu")
    queue.forget(root, one.id)
    assert [view.recipe for view in queue.list_all(root)] == ["two"]
    begun(root).communicate(timeout=60)
    assert states(root) == ["done"]
    assert [name.split("-")[-1] for _, name, *_ in journal(tmp_path)] == ["two", "two"]


def test_an_interrupted_runner_leaves_its_run_alone(root, gate, begun):
    queue.add(root, fake_argv(gate), device="cpu")
    runner = begun(root, start_new_session=True)
    pid = running_pid(root)
    os.killpg(runner.pid, signal.SIGINT)
    said, _ = runner.communicate(timeout=60)
    assert f"goes on as pid {pid}" in said and lives(pid)
    gate.touch()
    wait_until(lambda: states(root) == ["done"])


def test_a_command_that_can_not_be_started_fails_and_the_next_one_runs(root, gate, begun, tmp_path, monkeypatch):
    gate.touch()
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    queue.add(root, fake_argv(gate), "lost", device="cpu")
    monkeypatch.chdir(tmp_path)
    gone.rmdir()
    queue.add(root, fake_argv(gate), "kept", device="cpu")
    begun(root).communicate(timeout=60)
    lost, kept = queue.items(root)
    assert (lost.state, lost.exit_code) == ("failed", None) and str(gone) in lost.reason
    assert kept.state == "done"


def test_items_added_from_many_processes_keep_one_order(root, gate):
    code = "import sys; from pathlib import Path; from readwrite_edit.queue import add\n"
    code += "for _ in range(5): add(Path(sys.argv[1]), ['align', '--recipe', 'x'], 'x', device='cpu')"
    adders = [subprocess.Popen([sys.executable, "-c", code, str(root)]) for _ in range(3)]
    assert [adder.wait(timeout=60) for adder in adders] == [0, 0, 0]
    found = queue.items(root)
    assert [int(item.id.partition("-")[0]) for item in found] == list(range(1, 16))
    assert len({item.run for item in found}) == 15, "two items were promised one folder"
    assert Path(found[0].run).parent == root
