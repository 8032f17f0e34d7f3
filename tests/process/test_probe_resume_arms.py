"""Real processes: a contrast probe that is killed or stopped in the middle of an arm goes on with that arm."""

from __future__ import annotations

import json
import signal
import time
from pathlib import Path

import pandas as pd
import pytest

from tests.forked_cli import FORKED_CLI, Forked
from tests.small_runs import write_model, write_rows

GRADES, STEPS, PATIENCE_S = 3, 12, 240
TABLES = ("contrast", "trend", "arms", "steps", "geometry")
OPTIONS = ("--grades=0,0.5,1", "--seeds=0", f"--steps={STEPS}", "--batch-size=4", "--max-length=64", "--eval-rows=4")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("arms")
    write_model(folder / "model")
    write_rows(folder / "rows.jsonl", 24)
    return folder


@pytest.fixture(scope="module")
def undisturbed(place: Path) -> dict[str, pd.DataFrame]:
    process = _start(place, "whole")
    assert process.wait(PATIENCE_S) == 0, (place / "whole" / "console.log").read_text()
    return _tables(place / "whole")


def test_a_killed_probe_goes_on_with_the_next_arm(place: Path, undisturbed: dict[str, pd.DataFrame]) -> None:
    process = _start(place, "killed")
    _wait_for_step(place / "killed", STEPS + 2, process)
    process.kill()
    process.wait(PATIENCE_S)
    finished = sorted((place / "killed" / "arms").glob("grade-*.json"))
    assert [path.name for path in finished] == ["grade-0-seed-0.json"]
    written = finished[0].stat().st_mtime_ns
    assert _resume(place, "killed").wait(PATIENCE_S) == 0
    assert finished[0].stat().st_mtime_ns == written, "a finished arm is not trained again"
    _assert_same(_tables(place / "killed"), undisturbed)


@pytest.mark.parametrize("by_signal", [True, False], ids=["SIGINT", "stop request"])
def test_a_stopped_probe_drops_the_half_arm_and_goes_on(
    place: Path, undisturbed: dict[str, pd.DataFrame], by_signal: bool
) -> None:
    name = f"stopped-{by_signal}"
    process = _start(place, name)
    _wait_for_step(place / name, STEPS + 1, process)
    if by_signal:
        process.send_signal(signal.SIGINT)
    else:
        (place / name / "requests").mkdir()
        (place / name / "requests" / "stop").touch()
    assert process.wait(PATIENCE_S) == (130 if by_signal else 0)
    state = json.loads((place / name / "state.json").read_text())
    assert state["status"] == "stopped" and STEPS < state["step"] < GRADES * STEPS
    assert not (place / name / "contrast.parquet").exists()
    assert _resume(place, name).wait(PATIENCE_S) == 0
    _assert_same(_tables(place / name), undisturbed)


def _start(place: Path, name: str) -> Forked:
    data = ("--data=rows.jsonl", "--device=cpu", "--k=4", "--tokens=400", f"--run-dir={name}")
    return _command(place, "contrast", "model", *data, *OPTIONS)


def _resume(place: Path, name: str) -> Forked:
    return _command(place, "resume", name)


def _command(place: Path, *words: str) -> Forked:
    return FORKED_CLI.start(place, "probe", *words, READWRITE_EDIT_CACHE=str(place / "cache"))


def _wait_for_step(run: Path, step: int, process: Forked) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise AssertionError(f"the probe ended by itself:\n{process.console()}")
        lines = (run / "metrics.jsonl").read_text().count('"kind": "train"') if (run / "metrics.jsonl").exists() else 0
        if lines >= step:
            return
        time.sleep(0.01)
    raise AssertionError(f"step {step} was not reached")


def _tables(run: Path) -> dict[str, pd.DataFrame]:
    return {name: pd.read_parquet(run / f"{name}.parquet") for name in TABLES}


def _assert_same(found: dict[str, pd.DataFrame], expected: dict[str, pd.DataFrame]) -> None:
    for name in TABLES:
        pd.testing.assert_frame_equal(found[name], expected[name])
