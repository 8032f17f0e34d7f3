"""Real processes: stop, interrupt, kill and resume a run; the adapter must not tell the difference."""

import json
import signal
import time
from pathlib import Path

import pytest

from tests.forked_cli import FORKED_CLI, Forked
from tests.small_runs import small_recipe, write_recipe

STEPS, SAVE_EVERY = 60, 7
PATIENCE_S = 240


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A recipe, its model and its data; one cache for all runs."""
    folder = tmp_path_factory.mktemp("runs")
    train = {"max_steps": STEPS, "save_steps": SAVE_EVERY, "weight_decay": 0.1, "learning_rate": 0.003}
    write_recipe(folder / "recipe.yaml", small_recipe(folder, train=train, geometry={"every": 20}))
    return folder


@pytest.fixture(scope="module")
def uninterrupted(place) -> bytes:
    """The adapter of a run that nothing disturbed."""
    process = _start(place, "--recipe", "recipe.yaml", "--run-dir", "whole")
    assert process.wait(PATIENCE_S) == 0, process.console()
    return _adapter(place / "whole")


def test_a_stop_request_saves_and_ends_cleanly_and_the_resumed_run_equals(place, uninterrupted):
    process = _start(place, "--recipe", "recipe.yaml", "--run-dir", "stopped")
    _wait_for_step(place / "stopped", 7, process)
    (place / "stopped" / "requests").mkdir()
    (place / "stopped" / "requests" / "stop").touch()
    assert process.wait(PATIENCE_S) == 0
    state = _state(place / "stopped")
    assert state["status"] == "stopped" and 7 <= state["step"] < STEPS
    assert (place / "stopped" / "checkpoints" / f"checkpoint-{state['step']}" / "complete.json").is_file()
    assert not (place / "stopped" / "adapter").exists()
    assert _start(place, "--resume", "stopped").wait(PATIENCE_S) == 0
    assert _adapter(place / "stopped") == uninterrupted


def test_a_killed_run_resumes_from_its_last_whole_checkpoint_and_equals(place, uninterrupted):
    process = _start(place, "--recipe", "recipe.yaml", "--run-dir", "killed")
    _wait_for_step(place / "killed", 16, process)
    process.kill()
    process.wait(PATIENCE_S)
    newest = max((place / "killed" / "checkpoints").glob("checkpoint-*"), key=lambda path: int(path.name[11:]))
    _cut_short(newest / "optimizer.pt")
    resumed = _start(place, "--resume", "killed")
    assert resumed.wait(PATIENCE_S) == 0
    assert "optimizer.pt" in (output := resumed.console()) or "not finished" in output
    assert _adapter(place / "killed") == uninterrupted
    steps = [line["step"] for line in _lines(place / "killed" / "metrics.jsonl") if line["kind"] == "train"]
    assert _state(place / "killed")["segment"] == 1 and steps[-1] == STEPS


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_and_ends_with_130_and_a_second_process_is_refused(place, number, uninterrupted):
    name = f"signal-{number}"
    process = _start(place, "--recipe", "recipe.yaml", "--run-dir", name)
    _wait_for_step(place / name, 3, process)
    second = _start(place, "--resume", name)
    process.send_signal(signal.SIGSTOP)  # holds its lock and stays alive while the second one tries
    assert second.wait(PATIENCE_S) == 3
    assert "in use" in second.console()
    process.send_signal(signal.SIGCONT)
    process.send_signal(number)
    assert process.wait(PATIENCE_S) == 130
    assert _state(place / name)["status"] == "stopped"
    assert _start(place, "--resume", name).wait(PATIENCE_S) == 0
    assert _adapter(place / name) == uninterrupted


def test_a_finished_run_is_not_resumed(place, uninterrupted):
    process = _start(place, "--resume", "whole")
    assert process.wait(PATIENCE_S) == 2
    assert "is finished" in process.console()
    assert _adapter(place / "whole") == uninterrupted and _state(place / "whole")["status"] == "finished"


def _start(place: Path, *arguments: str) -> Forked:
    return FORKED_CLI.start(place, "align", *arguments, READWRITE_EDIT_CACHE=str(place / "cache"))


def _wait_for_step(run: Path, step: int, process: Forked) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            pytest.fail(f"the run ended early:\n{process.console()}")
        if any(line["step"] >= step for line in _lines(run / "metrics.jsonl") if line["kind"] == "train"):
            return
        time.sleep(0.02)
    pytest.fail(f"step {step} was not reached")


def _lines(path: Path) -> list[dict]:
    whole = path.read_text().rpartition("\n")[0] if path.is_file() else ""
    return [json.loads(line) for line in whole.splitlines()]


def _state(run: Path) -> dict:
    return json.loads((run / "state.json").read_text())


def _adapter(run: Path) -> bytes:
    return (run / "adapter" / "adapter_model.safetensors").read_bytes()


def _cut_short(path: Path) -> None:
    if path.is_file():
        path.write_bytes(path.read_bytes()[:-10])
