"""Sweeps among real processes: what kill -9 of the sweep or of a run leaves, and what the same call makes of it."""

import json
import os
import signal

import pytest

from readwrite_edit.queue import items
from readwrite_edit.queue.runner import runner_pid
from readwrite_edit.queue.store import changing
from readwrite_edit.runs.reader import read_run
from tests.fake_runs import journal, wait_until
from tests.fake_sweeps import ended, fake_recipe, runs_of, start_sweep

GRID = ("--over", "adapter.basis=principal,lora", "--seeds", "2")
ALL = sorted(f"{basis}_s{seed}" for basis in ("principal", "lora") for seed in (0, 1))
CHOICE = ("--over", "train.learning_rate=0.01,0.03", "--choose", "train.learning_rate")


@pytest.fixture
def folder(tmp_path):
    fake_recipe(tmp_path)
    return tmp_path


@pytest.fixture
def begun(folder):
    """Sweeps that a test has started; neither they nor their runs outlive it."""
    sweeps = []
    yield lambda *options: sweeps.append(start_sweep(folder, *options)) or sweeps[-1]
    (folder / "gate").touch()
    for sweep in sweeps:
        sweep.kill()
        sweep.communicate()


def kill_group(pid):
    os.killpg(pid, signal.SIGKILL)


def test_a_sweep_killed_in_the_middle_is_finished_by_the_same_call_and_nothing_runs_twice(folder, begun):
    (folder / f"gate-{ALL[2]}").touch()  # the first one, principal_s0, ends; the next one works on
    first = begun(*GRID)
    wait_until(lambda: len(runs_of(journal(folder), "start")) == 2, "the second run")
    wait_until(lambda: (folder / "sweep" / "lora_s0" / "state.json").exists(), "its folder")
    kill_group(first.pid)
    first.wait()
    assert read_run(folder / "sweep" / "lora_s0").status == "running"
    second = begun(*GRID)
    assert "1 of 4 runs are finished" in second.stdout.readline()
    (folder / "gate").touch()
    code, said, complaints = ended(second)
    assert (code, complaints) == (0, "") and "4 of 4 runs are finished" in said
    assert runs_of(journal(folder), "start") == runs_of(journal(folder), "end") == ALL
    assert runs_of(journal(folder), "resume") == []
    code, said, _ = ended(begun(*GRID))
    assert code == 0 and "4 of 4 runs are finished" in said and len(runs_of(journal(folder), "start")) == 4


def test_a_run_killed_in_the_middle_is_reported_and_resumed_by_the_next_call(folder, begun):
    (folder / f"gate-{ALL[2]}").touch()
    first = begun(*GRID)
    wait_until(lambda: len(runs_of(journal(folder), "start")) == 2, "the second run")
    victim = folder / "sweep" / "lora_s0"
    wait_until(lambda: (victim / "state.json").exists(), "its folder")
    kill_group(read_run(victim).pid)
    (folder / "gate").touch()
    code, said, _ = ended(first)
    assert code == 3 and "3 of 4 runs are finished" in said and "lora_s0: failed: its process is gone" in said
    code, said, _ = ended(begun(*GRID))
    assert code == 0 and "4 of 4 runs are finished" in said
    assert runs_of(journal(folder), "start") == ALL and runs_of(journal(folder), "resume") == ["lora_s0"]


def test_a_run_that_can_not_begin_is_tried_once_a_call_and_again_by_the_next(folder, begun):
    (folder / "gate").touch()
    refused = folder / "refuse-lora_s1"
    refused.touch()
    code, said, _ = ended(begun(*GRID))
    assert code == 3 and "3 of 4 runs are finished" in said and "lora_s1: failed: refused" in said
    assert runs_of(journal(folder), "start").count("lora_s1") == 1
    refused.unlink()
    assert ended(begun(*GRID))[0] == 0
    assert runs_of(journal(folder), "start") == sorted([*ALL, "lora_s1"])


def test_only_the_chosen_value_gets_further_seeds_and_the_dry_run_foretells_it(folder, begun):
    grid = ("--over", "adapter.basis=principal,lora", *CHOICE, "--seeds", "2")
    code, said, _ = ended(begun(*grid, "--dry-run"))
    assert code == 0 and "and 2 more, of the other seeds" in said and "known once a first run is finished" in said
    assert not (folder / "sweep").exists()
    first = begun(*grid)
    wait_until(lambda: runs_of(journal(folder), "start"), "the first run")
    (folder / f"gate-{runs_of(journal(folder), 'start')[0]}").touch()
    wait_until(lambda: len(runs_of(journal(folder), "start")) == 2, "the second run")
    code, said, _ = ended(begun(*grid, "--dry-run", "--json"))
    told = json.loads(said)
    assert code == 0 and told["seconds_left"] > 0 and told["later"] == 2
    assert sorted(run["status"] for run in told["runs"])[0] == "finished"
    (folder / "gate").touch()
    assert ended(first)[0] == 0
    done = runs_of(journal(folder), "end")
    later = [name for name in done if name.endswith("_s1")]
    assert later == [f"{basis}_learning_rate0.03_s1" for basis in ("lora", "principal")]
    assert len(done) == 6


def test_the_other_seeds_wait_for_a_run_of_the_first_one_that_was_killed(folder, begun):
    """Chosen among the other three alone, lora would go on with the value that loses."""
    values = [f"{basis}_learning_rate{rate}_s0" for basis in ("principal", "lora") for rate in ("0.01", "0.03")]
    for name in values[:3]:
        (folder / f"gate-{name}").touch()
    grid = ("--over", "adapter.basis=principal,lora", *CHOICE, "--seeds", "2")
    first = begun(*grid)
    victim = folder / "sweep" / values[3]
    wait_until(lambda: (victim / "state.json").exists(), "the last run of the first seed")
    kill_group(first.pid)
    kill_group(read_run(victim).pid)
    (folder / "gate").touch()
    wait_until(lambda: read_run(victim).status == "failed", "its end")
    code, said, _ = ended(begun(*grid, "--dry-run"))
    assert code == 0 and "and 2 more, of the other seeds" in said and "_s1" not in said
    assert ended(begun(*grid))[0] == 0
    later = [name for name in runs_of(journal(folder), "start") if name.endswith("_s1")]
    assert later == [f"{basis}_learning_rate0.03_s1" for basis in ("lora", "principal")]
    assert runs_of(journal(folder), "resume") == values[3:]


def test_a_second_sweep_of_the_same_folder_is_refused_while_one_works_and_changes_nothing(folder, begun):
    first = begun(*GRID)
    wait_until(lambda: journal(folder), "the first run")
    record, waiting = (folder / "sweep" / "sweep.json").read_text(), items(folder / "sweep")
    code, said, complaint = ended(begun(*GRID, "--over", "adapter.rank=2"))
    assert code == 2 and f"already, as pid {first.pid}" in complaint and complaint.count("\n") == 1 and said == ""
    assert (folder / "sweep" / "sweep.json").read_text() == record and len(items(folder / "sweep")) == len(waiting)
    assert len(runs_of(journal(folder), "start")) == 1


def test_a_sweep_that_is_ended_says_what_goes_on_also_of_what_another_started(folder, begun):
    first = begun(*GRID)
    wait_until(lambda: (folder / "sweep" / ALL[2] / "state.json").exists(), "the first run")
    kill_group(first.pid)
    pid = read_run(folder / "sweep" / ALL[2]).pid
    second = begun(*GRID)
    assert "0 of 4 runs are finished" in second.stdout.readline()
    wait_until(lambda: runner_pid(folder / "sweep") == second.pid, "its work")
    with changing(folder / "sweep"):  # it looks at the queue, again and again
        second.terminate()
    code, said, complaint = ended(second)
    assert (code, complaint) == (143, "readwrite-edit: terminated\n") and f"goes on as pid {pid}" in said
