"""The plane of gain and cost on the Compare screen, and its lines."""

import json
import subprocess
import sys

import pytest
from textual.widgets import Static

from readwrite_edit.compare.result import compare_runs
from readwrite_edit.tui.charts.chart import Chart
from readwrite_edit.tui.compare.plane import lines_of, pieces, read_paths
from readwrite_edit.tui.compare.screen import CompareScreen
from tests.compared_runs import evaluations_of, write_compared
from tests.tui.screens import LARGE, SMALL, drive, notes, says, settle


def compared(root, paths, steps, size=SMALL):
    return drive(root, steps, size, screen=lambda: CompareScreen(paths))


def runs(root, **by_name):
    return [write_compared(root / name, evaluations_of(**made)) for name, made in by_name.items()]


async def pressed(app, pilot, *keys):
    await pilot.press(*keys)
    await settle(app, pilot)


def chart(app):
    return app.screen.query_one("#plane-chart", Chart)


def drawn(app):
    return [chart(app).render_line(row).text for row in range(chart(app).size.height)]


@pytest.mark.parametrize("size", [SMALL, LARGE])
@pytest.mark.parametrize("colour", [True, False])
def test_each_run_has_its_path_its_marks_and_its_letter(tmp_path, monkeypatch, size, colour):
    if not colour:
        monkeypatch.setenv("NO_COLOR", "1")
    paths = runs(tmp_path, cheap={"cost": 0.002, "spread": 0.0}, dear={"cost": 0.02, "spread": 0.0})

    async def steps(app, pilot):
        await pressed(app, pilot, "e")
        assert says(app, "KL on prose in nats") and says(app, "text 1 of 2: t")
        rows = drawn(app)
        assert rows[0].startswith("gain: margin") and sum(row.count("●") for row in rows[1:]) == 3
        assert sum(row.count("◆") for row in rows[1:]) == 3 and {row.rstrip()[-1:] for row in rows} >= {"A", "B"}
        top = next(row for row in rows[1:] if "●" in row)
        assert top.index("●") < len(top) // 2, "a tenth of the cost is a third of the way"
        assert says(app, "A ● step 15: 1 at KL 0.002") and says(app, "$ readwrite-edit compare ")
        await pressed(app, pilot, "t", "w")
        assert says(app, "KL on chat") and drawn(app)[0].startswith("gain: fall of the loss")
        await pressed(app, pilot, "t", "w", "c")
        assert says(app, "$ readwrite-edit runs compare")

    compared(tmp_path, paths, steps, size)


def test_runs_of_other_rows_are_not_to_be_compared_and_it_says_so(tmp_path):
    paths = runs(tmp_path, one={}, other={"names": "x", "texts": ("prose",)})

    async def steps(app, pilot):
        await pressed(app, pilot, "e")
        assert says(app, "A and B were evaluated with different held-out rows: not to be compared")
        await pressed(app, pilot, "t")
        assert says(app, "KL on chat") and says(app, "without an evaluation on it: B")

    compared(tmp_path, paths, steps)


def test_a_run_without_evaluations_and_one_that_goes_on(tmp_path):
    one, other = runs(tmp_path, one={}, other={})
    (one / "evaluations.jsonl").unlink()
    lines = (other / "evaluations.jsonl").read_text().splitlines(keepends=True)
    (other / "evaluations.jsonl").write_text("".join(lines[:1]) + "garbage\n")

    async def steps(app, pilot):
        await pressed(app, pilot, "e")
        assert says(app, "without an evaluation on it: A") and says(app, "B ◆ step 5")
        assert says(app, "B is incomplete: 1 line can not be read")
        (other / "evaluations.jsonl").write_text("".join(lines))
        app.screen._refresh()
        await settle(app, pilot)
        await settle(app, pilot)
        assert says(app, "B ◆ step 15") and not says(app, "incomplete")

    compared(tmp_path, [one, other], steps)


def test_a_live_run_that_writes_its_last_line_is_not_incomplete(tmp_path):
    (path,) = runs(tmp_path, one={})
    kept = (path / "evaluations.jsonl").read_text()
    (path / "evaluations.jsonl").write_text(kept[:-20])
    assert [one.split(":")[0] for one in read_paths([path], "A").amiss] == ["A is incomplete"]
    state = json.loads((path / "state.json").read_text())
    (path / "state.json").write_text(json.dumps({**state, "status": "running", "hostname": "elsewhere"}))
    assert read_paths([path], "A").amiss == ()


def test_no_run_has_evaluations_and_keys_of_the_plane_elsewhere(tmp_path):
    paths = runs(tmp_path, one={}, other={})
    for path in paths:
        (path / "evaluations.jsonl").unlink()

    async def steps(app, pilot):
        await pressed(app, pilot, "t")
        assert any("it belongs to the plane" in note for note in notes(app))
        await pressed(app, pilot, "e", "t", "w")
        assert "No run has evaluated" in str(app.screen.query_one("#plane-caption", Static).render())

    compared(tmp_path, paths, steps)


def test_names_of_texts_are_made_safe(tmp_path):
    evil = "[red]\x1b[2Jx"
    paths = runs(tmp_path, one={"texts": (evil,)}, other={"texts": (evil,)})

    async def steps(app, pilot):
        await pressed(app, pilot, "e")
        assert says(app, "KL on [red]\\x1b[2Jx")

    compared(tmp_path, paths, steps)


def test_the_plane_shows_the_rows_that_compare_reports(tmp_path):
    paths = runs(tmp_path, a_s0={"seed": 3}, b_s0={"seed": 4, "gain": 2.0})
    read = read_paths(paths, "AB")
    for place, arm in enumerate(("a_s0", "b_s0")):
        points = [one for one in compare_runs(paths, draws=100).points if one.arm == arm]
        assert read.paths[place, "margin", "chat"] == [(one.step, one.kl["chat"], one.margin) for one in points]


def test_a_path_that_turns_back_is_drawn_in_pieces_that_go_right():
    assert pieces([(0, 0), (1, 1), (2, 2), (1, 3), (3, 4)]) == [
        [(0, 0), (1, 1), (2, 2)], [(1, 3), (2, 2)], [(1, 3), (3, 4)]
    ]  # fmt: skip
    lines = list(lines_of([[(5, 0.04, 1.0), (10, 0.01, 2.0)], []], "AB"))
    assert all(list(line.x) == sorted(line.x) for line in lines) and [line.label for line in lines] == ["", "", "A"]


def test_numpy_is_loaded_by_the_plane_alone_and_torch_by_nothing(tmp_path):
    write_compared(tmp_path / "a")
    code = (
        "import sys; from pathlib import Path; from readwrite_edit.tui.compare.plane import ComparePlane, read_paths; "
    )
    code += "before = set(sys.modules); read_paths([Path(sys.argv[1])], 'A'); "
    code += "print('numpy' in before, 'numpy' in sys.modules, *({'torch', 'scipy', 'pydantic'} & set(sys.modules)))"
    found = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "a")], capture_output=True, text=True, check=True
    )
    assert found.stdout.split() == ["False", "True"]
