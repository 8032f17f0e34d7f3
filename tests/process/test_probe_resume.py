"""Real processes: a probe that was killed, interrupted or asked to stop goes on and finds what a whole one finds."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.finished_run import write_finished_run
from tests.slow_delta import load, random_moments, write_moments
from tests.small_runs import write_model
from tests.tiny_models import TINY

PATIENCE_S = 240
TENSORS = 21
UNDER_WAY = 2  # the children have one thread: one tensor in it, and one that waits
# Imports everything once, then forks a process for each command line it is given: a probe of its own, without the
# seconds of importing. A probe waits after some of the tensors until a file tells it to go on; the page is left out.
NURSERY = """
import json, os, sys, time
from pathlib import Path
import readwrite_edit.probe.delta.probe, readwrite_edit.report.probe_text
from readwrite_edit.cli import main
from readwrite_edit.durable import write_text
from readwrite_edit.job import result
from readwrite_edit.probe.delta import dense
from readwrite_edit.job.session import Session

def run(arguments, stops):
    result.write_report = lambda run: write_text(run / "report.html", "a page")
    original, measured = Session.advance, dense._Tensor.measured

    def advance(self, done, total, unit="step"):
        if done in stops:
            Path(f"waiting-{done}").touch()
            while not Path("go").exists():
                time.sleep(0.01)
        original(self, done, total, unit)

    def counted(self):
        with open("measured.txt", "a") as file:
            file.write(self.pair.name + "\\n")
        return measured(self)

    Session.advance, dense._Tensor.measured = advance, counted
    return main(arguments)

for line in sys.stdin:
    order = json.loads(line)
    if "wait" in order:
        status = os.waitpid(order["wait"], 0 if order["block"] else os.WNOHANG)
        print(os.waitstatus_to_exitcode(status[1]) if status[0] else "alive", flush=True)
        continue
    child = os.fork()
    if child == 0:
        os.chdir(order["place"])
        output = os.open(order["output"], os.O_WRONLY | os.O_CREAT)
        os.dup2(output, 1), os.dup2(output, 2)
        os.environ["READWRITE_EDIT_CACHE"] = order["place"] + "/cache"
        code = 99
        try:
            code = run(order["arguments"], order["stops"])
            sys.stdout.flush()
        finally:
            os._exit(code)
    print(child, flush=True)
"""
DELTA = ("delta", "base", "tuned", "--statistics", "s", "--run-dir", "run")


class Nursery:
    """The process that forks probes."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", NURSERY],
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def ask(self, **order: Any) -> str:
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(json.dumps(order) + "\n")
        self.process.stdin.flush()
        return self.process.stdout.readline().strip()


@dataclass
class Probe:
    """One forked process."""

    nursery: Nursery
    pid: int
    output: Path
    code: int | None = None

    def wait(self, *, block: bool = True) -> int | None:
        """Its exit code; None while it runs and ``block`` is off."""
        if self.code is None:
            answer = self.nursery.ask(wait=self.pid, block=block)
            self.code = None if answer == "alive" else int(answer)
        return self.code

    def send(self, number: int) -> None:
        os.kill(self.pid, number)

    def console(self) -> str:
        return self.output.read_text()


@dataclass
class Place:
    """A folder in which probes run."""

    folder: Path
    nursery: Nursery
    probes: int = 0

    def start(self, stops: Sequence[int], *arguments: str) -> Probe:
        self.probes += 1
        output = self.folder / f"output-{self.probes}.txt"
        asked = {"arguments": ["probe", *arguments], "stops": list(stops)}
        return Probe(self.nursery, int(self.nursery.ask(place=str(self.folder), output=str(output), **asked)), output)

    def __truediv__(self, name: str) -> Path:
        return self.folder / name


@pytest.fixture(scope="module")
def nursery() -> Iterator[Nursery]:
    found = Nursery()
    yield found
    assert found.process.stdin is not None
    found.process.stdin.close()
    found.process.wait(PATIENCE_S)


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory, nursery: Nursery) -> Path:
    """A pair, statistics, and a probe of them that nothing disturbed."""
    place = tmp_path_factory.mktemp("good")
    write_model(place / "base")
    model = TINY["llama"]()
    generator = torch.Generator().manual_seed(0)
    for weight in model.parameters():
        weight.data += 0.01 * torch.randn(weight.shape, generator=generator)
    model.save_pretrained(place / "tuned")
    write_moments(place / "s", random_moments(load(place / "base")))
    process = Place(place, nursery).start([], *DELTA)
    assert process.wait() == 0, process.console()
    (place / "run").rename(place / "whole")
    (place / "measured.txt").unlink()
    return place


@pytest.fixture
def place(good: Path, tmp_path: Path, nursery: Nursery) -> Place:
    """The pair where it was, and a folder of this test's own to be in."""
    for name in ("base", "tuned", "s"):
        (tmp_path / name).symlink_to(good / name)
    return Place(tmp_path, nursery)


def test_a_killed_probe_goes_on_twice_and_finds_the_same(place: Place, good: Path) -> None:
    process = place.start([6], *DELTA)
    _wait_for(place / "waiting-6", process)
    process.send(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    # what a kill in the middle of a write leaves: half a line
    with (place / "run" / "tensors.jsonl").open("a") as file:
        file.write('{"name": "half')
    process = place.start([13], "resume", "run")
    _wait_for(place / "waiting-13", process)
    process.send(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    _drop_last_line(place / "run" / "tensors.jsonl")  # killed between the geometry and its tensor's line
    process = place.start([], "resume", "run")
    assert process.wait() == 0, process.console()
    assert _tables(place / "run") == _tables(good / "whole")
    # those under way at each of the two kills, and the one whose line was dropped
    assert _measured_again(place) <= 2 * UNDER_WAY + 1
    assert _state(place)["status"] == "finished" and _state(place)["segment"] == 2


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_it_with_130_and_a_second_process_is_refused(place: Place, good: Path, number: int) -> None:
    process = place.start([4], *DELTA)
    _wait_for(place / "waiting-4", process)
    second = place.start([], "resume", "run")
    assert second.wait() == 3 and "in use by another process" in second.console()
    process.send(number)
    (place / "go").touch()
    assert process.wait() == 130
    assert "stopped; go on with readwrite-edit probe resume run" in process.console()
    assert _state(place)["status"] == "stopped" and not (place / "run" / "geometry.parquet").exists()
    process = place.start([], "resume", "run")
    assert process.wait() == 0, process.console()
    assert _tables(place / "run") == _tables(good / "whole")
    assert _measured_again(place) <= UNDER_WAY


def test_a_stop_request_ends_it_with_0_and_changed_input_is_refused(place: Place) -> None:
    process = place.start([4], *DELTA)
    _wait_for(place / "waiting-4", process)
    (place / "run" / "requests").mkdir()
    (place / "run" / "requests" / "stop").touch()
    (place / "go").touch()
    assert process.wait() == 0
    assert _state(place)["status"] == "stopped"
    for name in ("tuned/model.safetensors", "s"):
        with _own_copy(place, name.partition("/")[0]) as path:
            _touch_content(path / "model.safetensors" if path.is_dir() else path)
            again = place.start([], "resume", "run")
            assert again.wait() == 2
            message = again.console()
            assert "is no longer the file that this probe began with" in message and name in message
    assert 4 <= len((place / "measured.txt").read_text().split()) <= 4 + UNDER_WAY


def _measured_again(place: Place) -> int:
    """How many tensors were measured more than once; each was at least once."""
    measured = (place / "measured.txt").read_text().split()
    assert len(set(measured)) == TENSORS
    return len(measured) - TENSORS


def test_what_can_not_be_resumed(place: Place, good: Path) -> None:
    (place / "run").symlink_to(good / "whole")
    write_finished_run(place / "align")
    (place / "empty").mkdir()
    for name, code, words in (
        ("run", 2, "run is finished: see run/report.html, or start a new probe"),
        ("align", 2, "align is not the run of a probe: it is of kind align"),
        ("./empty", 2, "empty is not the run of a probe"),
        ("nothing", 2, "no run 'nothing' under runs: there are none yet"),
    ):
        process = place.start([], "resume", name)
        assert process.wait() == code
        lines = process.console().splitlines()
        assert len(lines) == 1 and words in lines[0], lines


def _wait_for(path: Path, process: Probe) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not path.exists():
        if process.wait(block=False) is not None:
            pytest.fail(f"the probe ended early:\n{process.console()}")
        if time.monotonic() > deadline:
            pytest.fail(f"{path.name} was not reached")
        time.sleep(0.02)


def _tables(run: Path) -> dict[str, bytes]:
    """The tables, and what the summary says of them."""
    files = [run / name for name in ("geometry.csv", "curves.csv", "heads.csv", "tensors.csv", "summary.json")]
    return {path.name: path.read_bytes() for path in files}


def _state(place: Place) -> dict:
    return json.loads((place / "run" / "state.json").read_text())


def _drop_last_line(path: Path) -> None:
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[:-1]))


@contextmanager
def _own_copy(place: Place, name: str) -> Iterator[Path]:
    """A copy of a linked file or folder in its place while the block lasts."""
    path, target = place / name, (place / name).readlink()
    path.unlink()
    (shutil.copytree if target.is_dir() else shutil.copy2)(target, path)
    yield path
    (shutil.rmtree if path.is_dir() else os.unlink)(path)
    path.symlink_to(target)


def _touch_content(path: Path) -> None:
    if path.name == "s":
        write_moments(path, random_moments(TINY["llama"](), seed=5))
        return
    tensors = load_file(path)
    tensors["model.norm.weight"] += 1
    save_file(tensors, path, metadata={"format": "pt"})
