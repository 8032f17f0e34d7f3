"""How the screens of results look: one run, its geometry, one matrix, runs side by side, an export.

After a change that is meant: ``pytest tests/tui/test_snapshots.py --snapshot-update``, then look at each picture.
"""

import json
from pathlib import Path

import pytest

from readwrite_edit.evaluate.records import as_line
from readwrite_edit.tui.compare.screen import CompareScreen
from readwrite_edit.tui.forms.export_screen import ExportScreen
from readwrite_edit.tui.forms.process import Answer
from readwrite_edit.tui.run.run_screen import RunScreen
from tests.compared_runs import evaluations_of
from tests.tui.forms import FakeCommands
from tests.tui.measured_runs import measured_run
from tests.tui.screens import LARGE, SMALL, pictured, settle

ROOT = Path("runs")
STEPS = (64, 80, 96)  # of evaluations, after the resume
RUN, OTHER, BARE = "20250601-093000-dpo_lora", "20250601-101500-dpo_readonly", "20250601-110000-dpo_random"
PLAN = {"to": "exports/adapter", "files": [
    {"name": "README.md", "size_bytes": 6720, "estimated": False},
    {"name": "adapter_model.safetensors", "size_bytes": 3_700_000, "estimated": True},
]}  # fmt: skip


@pytest.fixture
def look(tmp_path, snap_compare, monkeypatch):
    """Compare what a screen looks like after some keys."""
    monkeypatch.delenv("NO_COLOR", raising=False)
    measured_run(tmp_path / "runs", RUN, 0.55, recipe="dpo_lora")
    measured_run(tmp_path / "runs", OTHER, 0.95)
    measured_run(tmp_path / "runs", BARE, 0.3, recipe="dpo_random", geometry=False)
    for name, gain, cost in ((RUN, 1.0, 0.02), (OTHER, 0.8, 0.004), (BARE, 0.3, 0.01)):
        lines = (as_line(one) | {"segment": 1} for one in evaluations_of(gain=gain, cost=cost, steps=STEPS))
        (tmp_path / "runs" / name / "evaluations.jsonl").write_text("".join(json.dumps(one) + "\n" for one in lines))

    def looks_so(screen, keys, size):
        async def steps(app, pilot):
            for key in keys:
                await pilot.press(key)
                await settle(app, pilot)

        return pictured(snap_compare, tmp_path, steps, size, screen=screen)

    return looks_so


def run():
    return RunScreen(ROOT / OTHER)


def pair():
    return CompareScreen([ROOT / RUN, ROOT / OTHER])


def three():
    return CompareScreen([ROOT / BARE, ROOT / RUN, ROOT / OTHER])


def export():
    return ExportScreen(ROOT / OTHER, commands=FakeCommands(answers=[Answer(0, json.dumps(PLAN), ())]))


TO_A_MATRIX = ("g", *["right"] * 9, "down")
LOOKS = {
    "run": (run, ()),
    "one-chart": (run, ("enter", "m")),
    "geometry": (run, TO_A_MATRIX),
    "matrix": (run, (*TO_A_MATRIX, "enter")),
    "compare": (pair, ()),
    "compare-geometry": (pair, TO_A_MATRIX),
    "compare-one-without": (three, TO_A_MATRIX),
    "compare-plane": (three, ("e",)),
    "compare-plane-loss": (pair, ("e", "t", "w")),
    "compare-answers": (three, ("p",)),
    "export": (export, ("f4",)),
}


@pytest.mark.parametrize("size", [SMALL, LARGE], ids=["small", "large"])
@pytest.mark.parametrize("name", LOOKS)
def test_it_looks_so(look, name, size):
    assert look(*LOOKS[name], size)


@pytest.mark.parametrize("name", ["geometry", "matrix", "compare", "compare-geometry"])
def test_it_looks_so_without_colours(look, monkeypatch, name):
    monkeypatch.setenv("NO_COLOR", "1")
    assert look(*LOOKS[name], SMALL)


@pytest.mark.parametrize("name", ["compare-geometry", "compare-answers"])
def test_it_looks_so_on_the_least_terminal(look, name):
    assert look(*LOOKS[name], (60, 16))
