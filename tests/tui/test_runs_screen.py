"""The screens of the TUI, driven by keys on an 80×24 terminal."""

import asyncio
import json
import subprocess
import sys

import pytest
from textual.color import Color
from textual.widgets import DataTable

from readwrite_edit.runs.writer import RunWriter
from readwrite_edit.tui.app import RunsApp
from readwrite_edit.tui.dialogs import ConfirmDialog, HelpDialog
from readwrite_edit.tui.feed import RunFeed, latest_values
from readwrite_edit.tui.geometry_grid import MEASURES, explain, grid
from readwrite_edit.tui.run_screen import RunScreen
from readwrite_edit.tui.runs_screen import RunsScreen

MODULES = ("q_proj", "k_proj")


def geometry_rows(layers, fraction):
    return [
        {"layer": layer, "module": module, "read_fraction": fraction, "norm": 0.25, "read_isotropic_null": 0.028}
        for layer in range(layers)
        for module in MODULES
    ]


def make_run(root, name="20250101-000000-dpo", *, recipe="dpo_readonly", status="finished", layers=30):
    run = RunWriter.start(root / name, recipe_text="", recipe_name=recipe, max_steps=24)
    run.log_metrics(11, {"loss": 0.69, "rewards/margins": 0.1})
    run.log_metrics(12, {"loss": 0.625, "rewards/margins": float("nan")})
    run.log_geometry(12, geometry_rows(layers, 0.57))
    run.heartbeat(12)
    if status:
        run.mark(status)
        run.close()
    return run


async def settle(app, pilot):
    """Let the worker read, its message arrive and the screen be drawn."""
    for _ in range(2):
        await app.workers.wait_for_complete()
        await pilot.pause()


def drive(root, steps, size=(80, 24)):
    """Open the application, run ``steps(app, pilot)`` on it, give back what they return."""

    async def session():
        app = RunsApp(root)
        async with app.run_test(size=size) as pilot:
            await settle(app, pilot)
            return await steps(app, pilot)

    return asyncio.run(session())


def shown(app):
    """What stands on the screen, line by line."""
    width = app.size.width
    return ["".join(segment.text for segment in strip)[:width] for strip in app.screen._compositor.render_strips()]


def says(app, text):
    return any(text in line for line in shown(app))


def test_the_list_shows_word_glyph_step_and_loss_within_80_columns(tmp_path):
    make_run(tmp_path)

    async def steps(app, pilot):
        line = next(line for line in shown(app) if "finished" in line and "align" in line)
        assert line.split() == [
            "✓",
            "finished",
            "align",
            "dpo_readonly",
            "12/24",
            "0.625",
            "0",
            "s",
            "20250101-000000-dpo",
        ]
        assert says(app, "1 finished") and says(app, " open  s stop")

    drive(tmp_path, steps)


def test_an_empty_folder_says_how_to_start(tmp_path):
    async def steps(app, pilot):
        assert says(app, "No runs in") and says(app, "readwrite-edit align")
        await pilot.press("enter", "s")
        assert isinstance(app.screen, RunsScreen)

    drive(tmp_path / "missing", steps)


def test_a_root_that_is_a_file_is_said_not_raised(tmp_path):
    (tmp_path / "file").touch()

    async def steps(app, pilot):
        assert says(app, "name a folder of runs")

    drive(tmp_path / "file", steps)


def test_the_list_follows_the_folders_and_the_cursor_stays_on_its_run(tmp_path):
    make_run(tmp_path, "a")
    make_run(tmp_path, "b")

    async def steps(app, pilot):
        await pilot.press("down")
        chosen = app.screen.chosen.view.name
        run = make_run(tmp_path, "c", status=None)
        await pilot.press("r")
        await settle(app, pilot)
        assert app.screen.query_one(DataTable).row_count == 3
        assert app.screen.chosen.view.name == chosen
        assert says(app, "▶ running")
        run.log_metrics(13, {"loss": 0.123})
        run.mark("failed", "out of memory")
        run.close()
        await pilot.press("r")
        await settle(app, pilot)
        assert says(app, "✗ failed") and says(app, "0.123") and not says(app, "▶ running")
        assert app.screen.chosen.view.name == chosen

    drive(tmp_path, steps)


def test_a_run_opens_with_its_last_metrics(tmp_path):
    make_run(tmp_path)

    async def steps(app, pilot):
        await pilot.press("enter")
        await settle(app, pilot)
        assert isinstance(app.screen, RunScreen)
        lines = [line.split() for line in shown(app)]
        assert ["train", "loss", "12", "0.625", "0.69"] in lines
        assert ["train", "rewards/margins", "12", "–", "0.1"] in lines
        assert says(app, "step 12/24")
        await pilot.press("escape")
        assert isinstance(app.screen, RunsScreen)

    drive(tmp_path, steps)


def test_geometry_shows_a_digit_per_matrix_and_the_figures_of_the_cursor(tmp_path):
    run = make_run(tmp_path, status=None)

    async def steps(app, pilot):
        await pilot.press("enter", "g")
        await settle(app, pilot)
        lines = [line.split() for line in shown(app)]
        assert ["q_proj", "k_proj"] in lines and ["0", "5", "5"] in lines
        await pilot.press("down", "right")
        await pilot.pause()
        assert says(app, "layer 1 k_proj: read 0.57  k/d 0.028")
        run.log_geometry(13, geometry_rows(30, 0.93))
        app.screen._refresh()
        await settle(app, pilot)
        assert ["0", "9", "9"] in [line.split() for line in shown(app)]
        assert says(app, "step 13") and says(app, "layer 1 k_proj: read 0.93")

    drive(tmp_path, steps)
    run.close()


def make_probe(root, name="20250101-000000-probe-delta"):
    rows = geometry_rows(30, 0.057)
    rows = [row | {"write_fraction": 0.031, "write_isotropic_null": 0.028, "read_energy_null": 0.7} for row in rows]
    with RunWriter.start(root / name, recipe_text="", recipe_name="delta", kind="probe") as run:
        run.log_geometry(0, rows)
        run.heartbeat(60, 60)
        run.mark("finished")


def test_a_probe_is_listed_and_its_geometry_can_be_seen_against_its_nulls(tmp_path):
    make_probe(tmp_path)

    async def steps(app, pilot):
        assert ["✓", "finished", "probe", "delta", "60/60"] in [line.split()[:5] for line in shown(app)]
        await pilot.press("enter", "g")
        await settle(app, pilot)
        assert says(app, "read fraction ÷ k/d") and ["0", "2", "2"] in [line.split() for line in shown(app)]
        await pilot.press("v", "v", "v")
        await settle(app, pilot)
        assert says(app, "write fraction ÷ k/d") and ["0", "1", "1"] in [line.split() for line in shown(app)]
        assert says(app, "energy null 0.7") and says(app, "write 0.031")
        await pilot.press("v")
        await settle(app, pilot)
        assert says(app, "read fraction in tenths") and ["0", "0", "0"] in [line.split() for line in shown(app)]

    drive(tmp_path, steps)


def test_the_digit_under_the_cursor_keeps_the_cursor_s_own_colours(tmp_path):
    make_run(tmp_path)

    async def steps(app, pilot):
        await pilot.press("enter", "g", "down")
        await settle(app, pilot)
        table = app.screen.query_one("#grid", DataTable)
        ground = table.get_component_styles("datatable--cursor").background
        segments = [
            part for strip in app.screen._compositor.render_strips() for part in strip if part.text.strip() == "5"
        ]
        pairs = [(Color.from_rich_color(part.style.color), part.style.bgcolor.triplet) for part in segments]
        inks = [ink for ink, behind in pairs if behind == ground.rich_color.triplet]
        assert len(inks) == 1 and abs(inks[0].brightness - ground.brightness) > 0.4

    drive(tmp_path, steps)


def test_stop_asks_first_and_writes_the_request_only_on_yes(tmp_path):
    run = make_run(tmp_path, status=None)

    async def steps(app, pilot):
        for key in ("n", "escape"):
            await pilot.press("s")
            await pilot.pause()
            assert isinstance(app.screen, ConfirmDialog)
            assert says(app, "readwrite-edit runs stop")
            await pilot.press(key)
            assert not run.stop_requested()
        await pilot.press("enter")
        await settle(app, pilot)
        await pilot.press("s")
        await pilot.press("y")
        await pilot.pause()
        assert run.stop_requested()
        await pilot.press("escape", "r")
        await settle(app, pilot)
        assert says(app, "▷ stopping")

    drive(tmp_path, steps)
    run.close()


def test_stop_on_an_ended_run_says_why_not(tmp_path):
    make_run(tmp_path)

    async def steps(app, pilot):
        await pilot.press("s")
        await pilot.pause()
        assert isinstance(app.screen, RunsScreen)
        assert any("is finished: there is nothing to stop" in note.message for note in app._notifications)

    drive(tmp_path, steps)
    assert not (tmp_path / "20250101-000000-dpo" / "requests").exists()


def test_a_run_that_ended_while_the_question_stood_gets_no_request(tmp_path):
    run = make_run(tmp_path, status=None)

    async def steps(app, pilot):
        await pilot.press("s")
        run.mark("finished")
        await pilot.press("y")
        await pilot.pause()
        assert any("ended meanwhile" in note.message for note in app._notifications)

    drive(tmp_path, steps)
    run.close()
    assert not run.stop_requested()


def test_help_lists_the_keys_of_the_open_screen_and_q_quits(tmp_path):
    make_run(tmp_path)

    async def steps(app, pilot):
        await pilot.press("question_mark")
        await pilot.pause()
        assert isinstance(app.screen, HelpDialog)
        assert says(app, "open") and says(app, "stop") and says(app, "quit")
        await pilot.press("escape", "q")
        await pilot.pause()
        return app

    assert drive(tmp_path, steps).return_code == 0


def test_hostile_folders_are_rows_and_their_text_is_data(tmp_path):
    make_run(tmp_path, "[red]markup[", recipe="[/bold]\x1b[31mx")
    (tmp_path / "\x1b]0;title\x07").mkdir()
    newer = tmp_path / "newer"
    newer.mkdir()
    (newer / "state.json").write_text('{"schema": 99}')
    lines = [{"step": 1, "segment": 0, "kind": "[b]", "values": {"\x1b[2J[link]": 1e400, "nested": {"a": 1}}}, "junk"]
    text = "\n".join(map(json.dumps, lines)).replace("Infinity", "1e400") + "\n" + "x" * 2_000_000 + "\n"
    (tmp_path / "[red]markup[" / "metrics.jsonl").write_text(text)
    geometry = [{"step": 1, "segment": 0, "layer": 2**52, "module": "[b]\x1b[31m", "read_fraction": "x"}]
    (tmp_path / "[red]markup[" / "geometry.jsonl").write_text("\n".join(map(json.dumps, geometry)) + "\n")

    async def steps(app, pilot):
        assert says(app, "[red]markup[") and says(app, "[/bold]\\x1b[31mx")
        assert says(app, "\\x1b]0;title\\x07") and says(app, "2 broken")
        names = [row.view.name for row in app.screen._rows]
        for _ in names:
            await pilot.press("enter")
            await settle(app, pilot)
            await pilot.press("g")
            await settle(app, pilot)
            assert "\x1b" not in "".join(shown(app))
            await pilot.press("escape", "down")
        await pilot.press("home", *["up"] * 3, "enter")
        await settle(app, pilot)
        assert says(app, "\\x1b[2J[link]") and says(app, "2 lines of its records can not be read")

    drive(tmp_path, steps)


@pytest.mark.parametrize("size", [(120, 34), (40, 10)])
def test_sizes(tmp_path, size):
    make_run(tmp_path, layers=80)

    async def steps(app, pilot):
        assert says(app, "✓ finished")
        await pilot.press("enter", "g")
        await settle(app, pilot)
        assert isinstance(app.screen, RunScreen)
        assert app.screen.query_one("#grid", DataTable).row_count == 80

    drive(tmp_path, steps, size)


def test_feed_reads_only_what_is_new_and_heeds_a_resume(tmp_path):
    make_run(tmp_path, "run", status="stopped")
    feed = RunFeed(tmp_path / "run")
    first = feed.read()
    assert feed.read().values is first.values
    with RunWriter.resume(tmp_path / "run") as run:
        run.rewind(11)
        reading = feed.read()
        assert reading.values == [("train", "loss", 11, 0.69, None), ("train", "rewards/margins", 11, 0.1, None)]
        assert reading.snapshot == []
    (tmp_path / "run" / "metrics.jsonl").write_text("")
    assert feed.read().values == []


def test_latest_values_keep_kinds_apart():
    records = [
        {"step": 1, "kind": "train", "values": {"loss": 3.0}},
        {"step": 2, "kind": "train", "values": {"loss": 2.0, "lr": 1.0}},
        {"step": 2, "kind": "eval", "values": {"loss": 9.0}},
    ]
    assert latest_values(records) == [
        ("train", "loss", 2, 2.0, 3.0),
        ("train", "lr", 2, 1.0, None),
        ("eval", "loss", 2, 9.0, None),
    ]


def test_grid_orders_layers_and_modules_and_marks_what_is_missing():
    rows = [
        {"step": 4, "layer": layer, "module": module}
        for layer, module in ((10, "o_proj"), (2, "k_proj"), (2, "zz"), (10, "q_proj"))
    ]
    rows[1]["read_fraction"] = 0.31
    made = grid(rows)
    assert (made.step, made.layers, made.modules) == (4, (2, 10), ("q_proj", "k_proj", "o_proj", "zz"))
    fraction = MEASURES[0]
    values = [made.value(*place, fraction) for place in ((2, "k_proj"), (10, "k_proj"), (10, "o_proj"))]
    assert values == [0.31, None, None]
    assert [fraction.digit(value) for value in (None, -0.1, 0.0, 0.099, 0.1, 0.95, 1.0, 7.0)] == list("·0001999")
    assert explain(10, "k_proj", None) == "layer 10 k_proj: not measured"


def test_grid_divides_by_a_null_and_takes_the_first_of_several_records():
    record = {"step": 4, "layer": 0, "module": "q_proj", "read_fraction": 0.06, "read_isotropic_null": 0.025}
    rows = [record, record | {"read_fraction": 0.5}, record | {"layer": 1, "read_isotropic_null": 0.0}]
    ratio = next(measure for measure in MEASURES if measure.null == "read_isotropic_null")
    made = grid(rows)
    assert made.value(0, "q_proj", ratio) == pytest.approx(2.4)
    assert made.value(1, "q_proj", ratio) is None
    assert [ratio.digit(value) for value in (None, 0.4, 2.4, 1e9)] == list("·029")


def test_explain_gives_both_nulls_and_p_values_of_both_sides():
    record = {
        "read_fraction": 0.06, "read_isotropic_null": 0.03, "read_isotropic_p": 1e-30, "read_energy_null": 0.7,
        "write_fraction": 0.04, "write_isotropic_null": 0.03, "write_isotropic_p": 0.25, "norm": 0.5,
    }  # fmt: skip
    assert explain(3, "o_proj", record) == (
        "layer 3 o_proj: read 0.06  k/d 0.03  p 1e-30  energy null 0.7   "
        "write 0.04  k/d 0.03  p 0.25  energy null –   norm 0.5"
    )
    assert explain(3, "q_proj", {"norm": 0.0}) == "layer 3 q_proj: read –   write –   norm 0"


LOADED = """
import asyncio, sys
from pathlib import Path
from readwrite_edit.tui.app import RunsApp

async def session():
    app = RunsApp(Path(sys.argv[1]))
    async with app.run_test() as pilot:
        await app.workers.wait_for_complete()
        await pilot.press("enter")
        await app.workers.wait_for_complete()
        await pilot.pause()

asyncio.run(session())
print(*sorted({name.partition(".")[0] for name in sys.modules}))
"""


def python(code, *arguments):
    outcome = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True)
    assert outcome.returncode == 0, outcome.stderr
    return set(outcome.stdout.split())


def test_the_tui_loads_no_torch(tmp_path):
    make_run(tmp_path)
    loaded = python(LOADED, str(tmp_path))
    assert "textual" in loaded
    assert not loaded & {"torch", "transformers", "peft", "trl", "numpy"}


def test_the_core_loads_no_textual_and_runs_only_the_standard_library():
    code = "import sys; before = set(sys.modules); import readwrite_edit.runs.writer, readwrite_edit.runs.console, "
    code += "readwrite_edit.runs.reader, readwrite_edit.runs.requests; "
    code += "print(*{name.partition('.')[0] for name in set(sys.modules) - before})"
    foreign = python(code) - set(sys.stdlib_module_names) - {"readwrite_edit"}
    assert foreign == set()
