"""One open run: its state, curves, log, recipe and result, driven by keys."""

import json
import shutil

import pytest
from textual.widgets import Static

from readwrite_edit.runs.reader import read_run
from readwrite_edit.runs.writer import RunWriter
from readwrite_edit.tui.charts.chart import Chart
from readwrite_edit.tui.home.runs_screen import RunsScreen
from readwrite_edit.tui.run import feed
from readwrite_edit.tui.run.console_pane import ConsolePane
from readwrite_edit.tui.run.recipe_pane import recipe_lines
from readwrite_edit.tui.run.recipe_rows import read_recipe
from readwrite_edit.tui.run.report_data import read_report
from readwrite_edit.tui.run.report_lines import report_lines
from readwrite_edit.tui.run.run_screen import RunScreen
from readwrite_edit.tui.run.text_view import TextView
from tests.tui.screens import LARGE, SMALL, drive, make_run, notes, says, settle, shown

NAME = "20250101-000000-dpo"


def train(run, steps, **more):
    """Log so many steps of what an alignment logs."""
    for step in steps:
        values = {"loss": 1 / step, "rewards/chosen": 0.1 * step, "rewards/rejected": -0.1 * step, "grad_norm": 2.0}
        run.log_metrics(step, values | more)


def start(root, name=NAME, steps=20, **options):
    run = RunWriter.start(root / name, recipe_text="", recipe_name="dpo_readonly", max_steps=40, **options)
    train(run, range(1, steps + 1))
    run.log_metrics(steps, {"eval_loss": 0.04, "kl_prose": 0.03, "kl_chat": 0.1}, kind="eval")
    run.heartbeat(steps)
    return run


def opened(root, steps, size=SMALL, name=NAME, **options):
    return drive(root, steps, size, screen=lambda: RunScreen(root / name), **options)


async def refreshed(app, pilot):
    app.screen._refresh()
    await settle(app, pilot)


async def pressed(app, pilot, *keys):
    await pilot.press(*keys)
    await settle(app, pilot)


def text_of(app, selector):
    return str(app.screen.query_one(selector, Static).render())


def braille_of(app):
    return sum("⠀" < char <= "⣿" for line in shown(app) for char in line)


# ---- state


def test_enter_opens_a_run_with_state_curves_and_command_and_escape_goes_back(tmp_path):
    make_run(tmp_path)

    async def steps(app, pilot):
        await pressed(app, pilot, "enter")
        assert isinstance(app.screen, RunScreen)
        assert says(app, "✓ finished") and says(app, "step 12/24") and says(app, "loss")
        assert says(app, "$ readwrite-edit runs tail /") and braille_of(app) > 10
        await pressed(app, pilot, "escape")
        assert isinstance(app.screen, RunsScreen)

    drive(tmp_path, steps)


def test_alarms_garbage_and_the_reason_of_a_failure_stand_above_the_tabs(tmp_path):
    run = start(tmp_path)
    run.log_metrics(20, {}, kind="alarm", message="the loss [red]rose\x1b[2J")
    with (tmp_path / NAME / "metrics.jsonl").open("a") as file:
        file.write("garbage\n")
    run.mark("failed", "out of memory [b]")
    run.close()

    async def steps(app, pilot):
        assert says(app, "✗ failed") and says(app, "out of memory [b]")
        assert says(app, "! 1 alarm, the last: the loss [red]rose\\x1b[2J")
        assert says(app, "1 line of metrics.jsonl can not be read and is left out.")
        assert says(app, "curves 1–") and braille_of(app) > 10

    opened(tmp_path, steps)


def test_a_run_is_followed_while_it_goes_on_and_ends(tmp_path):
    run = start(tmp_path)

    async def steps(app, pilot):
        assert says(app, "▶ running") and says(app, "loss at step 20: train 0.05, eval 0.04")
        train(run, [21])
        await refreshed(app, pilot)
        assert says(app, "loss at step 21: train 0.04761905, eval 0.04 at step 20")
        run.heartbeat(21)
        run.mark("finished")
        run.close()
        await refreshed(app, pilot)
        assert says(app, "✓ finished") and says(app, "step 21/40")

    opened(tmp_path, steps)


def test_a_run_that_is_resumed_while_open_shows_where(tmp_path):
    run = start(tmp_path)
    run.mark("stopped")
    run.close()

    async def steps(app, pilot):
        with RunWriter.resume(tmp_path / NAME) as again:
            again.rewind(10)
            train(again, range(11, 16), loss=0.5)
            await refreshed(app, pilot)
            assert says(app, "resumed 1×") and says(app, "↻") and says(app, "┆")
            assert says(app, "loss at step 15: train 0.5 in segment 1")
            await pressed(app, pilot, *["left"] * 6)
            assert says(app, "at step 9: train 0.1111111 in segment 0")

    opened(tmp_path, steps)


def test_a_folder_that_is_deleted_while_open_is_said(tmp_path):
    start(tmp_path).close()

    async def steps(app, pilot):
        await pressed(app, pilot, "l")
        shutil.rmtree(tmp_path / NAME)
        await refreshed(app, pilot)
        assert says(app, "! broken") and isinstance(app.screen, RunScreen)
        await pressed(app, pilot, "i", "p", "c")
        assert says(app, "loss at step 20")
        await pilot.press("s")
        assert any("is broken: there is nothing to stop" in note for note in notes(app))

    opened(tmp_path, steps)


def test_a_long_run_is_read_to_its_end_piece_by_piece(tmp_path, monkeypatch):
    monkeypatch.setattr(feed, "_LONGEST_READ_S", 0.0)
    with start(tmp_path) as run:
        train(run, range(21, 5000))

    async def steps(app, pilot):
        for _ in range(20):
            await settle(app, pilot)
        assert says(app, "steps 1–4999") and not says(app, "reading …")

    opened(tmp_path, steps)


# ---- curves


@pytest.mark.parametrize("size, charts", [(SMALL, 4), (LARGE, 6)])
def test_charts_use_the_room_and_the_chosen_one_can_stand_alone(tmp_path, size, charts):
    start(tmp_path).close()

    async def steps(app, pilot):
        seen = [chart for chart in app.screen.query(Chart) if chart.display]
        assert len(seen) == min(charts, 4) and says(app, "rewards") and says(app, "KL to the base nats/token")
        assert says(app, "chosen") and says(app, "rejected") and says(app, "chat")
        await pressed(app, pilot, "down", "down", "enter")
        assert [chart.display for chart in app.screen.query(Chart)].count(True) == 1
        assert says(app, "curves 3 of 4") and says(app, "KL to the base (nats/token) at step 20")
        await pressed(app, pilot, "enter", "j", "k", "up")
        assert says(app, "rewards at step 20: chosen 2, rejected -2")

    opened(tmp_path, steps, size)


def test_zoom_pan_and_whole(tmp_path):
    start(tmp_path, steps=40).close()

    async def steps(app, pilot):
        assert says(app, "steps 1–40")
        await pilot.press("minus", "comma")
        assert [note for note in notes(app) if "all steps are shown" in note]
        await pressed(app, pilot, "home", "plus", "plus")
        assert says(app, "steps 1–11, zoomed")
        await pressed(app, pilot, "full_stop")
        assert says(app, "steps 6–16")
        await pressed(app, pilot, "minus")
        assert says(app, "steps 1–20, zoomed") or says(app, "steps 1–21, zoomed")
        await pressed(app, pilot, "end")
        assert says(app, "–40, zoomed") and says(app, "loss at step 40")
        await pressed(app, pilot, "0")
        assert says(app, "steps 1–40") and not says(app, "zoomed")

    opened(tmp_path, steps)


def test_smoothing_is_named_shown_and_given_beside_the_exact_value(tmp_path):
    start(tmp_path).close()

    async def steps(app, pilot):
        await pressed(app, pilot, "m", "m")
        await settle(app, pilot)
        assert says(app, "smoothing 0.9") and says(app, "loss at step 20: train 0.05 (smoothed 0.1")
        await pressed(app, pilot, "m", "m")
        assert "smoothing" not in text_of(app, "#curves-caption")
        await pressed(app, pilot, "o")
        assert says(app, "logarithmic") and says(app, "1e-1")

    opened(tmp_path, steps)


def test_the_cursor_goes_from_value_to_value(tmp_path):
    start(tmp_path).close()

    async def steps(app, pilot):
        await pressed(app, pilot, "left")
        assert says(app, "loss at step 19: train 0.05263158") and says(app, "│")
        await pressed(app, pilot, "home", "right", "right")
        assert says(app, "loss at step 3: train 0.3333333")
        await pressed(app, pilot, "end", "right")
        assert says(app, "loss at step 20")

    opened(tmp_path, steps)


@pytest.mark.parametrize(
    "kind, words", [("probe", "This probe logged no values"), ("align", "No values: this run is finished and logged")]
)
def test_a_run_without_curves_says_why(tmp_path, kind, words):
    with RunWriter.start(tmp_path / NAME, recipe_text="", recipe_name="delta", kind=kind) as run:
        run.mark("finished")

    async def steps(app, pilot):
        assert says(app, words)
        await pilot.press("m")
        assert notes(app)[-1] == "smooth: there are no curves"

    opened(tmp_path, steps)


# ---- log


def log(tmp_path, data):
    start(tmp_path).close()
    (tmp_path / NAME / "console.log").write_bytes(data)


def test_the_log_follows_its_end_and_stays_where_it_is_told(tmp_path):
    log(tmp_path, b"".join(b"line %d\n" % number for number in range(500)))

    async def steps(app, pilot):
        await pressed(app, pilot, "l")
        await pilot.pause()
        assert says(app, "line 499") and says(app, "following")
        with (tmp_path / NAME / "console.log").open("ab") as file:
            file.write(b"one more\nand without its end")
        app.screen.query_one(ConsolePane).refresh_log()
        await settle(app, pilot)
        assert says(app, "one more") and says(app, "and without its end")
        await pressed(app, pilot, "home")
        with (tmp_path / NAME / "console.log").open("ab") as file:
            file.write(b", now ended\nthe final line\n")
        app.screen.query_one(ConsolePane).refresh_log()
        await settle(app, pilot)
        assert says(app, "line 0 ") and says(app, "not following") and not says(app, "final")
        await pressed(app, pilot, "f")
        assert says(app, "and without its end, now ended") and says(app, "the final line")

    opened(tmp_path, steps)


def test_words_are_found_counted_and_gone_through(tmp_path):
    log(tmp_path, b"".join(b"step %d Loss\n" % number for number in range(300)) + b"the end\n")

    async def steps(app, pilot):
        await pressed(app, pilot, "l", "n")
        assert notes(app)[-1] == "next: no words are searched for"
        await pressed(app, pilot, "slash", *"9 l", "enter")
        assert says(app, "“9 l” 30 of 30") and says(app, "step 299 Loss") and says(app, "not following")
        await pressed(app, pilot, "n", "n")
        assert says(app, "2 of 30") and says(app, "step 19 Loss")
        await pressed(app, pilot, "N")
        assert says(app, "1 of 30") and says(app, "step 9 Loss")
        await pressed(app, pilot, "slash", "z", "enter")
        assert any("nothing holds" in note for note in notes(app))
        await pressed(app, pilot, "slash", "escape")
        assert isinstance(app.screen, RunScreen) and not says(app, "“")

    opened(tmp_path, steps)


def test_escapes_control_characters_and_huge_lines_of_a_log_are_harmless(tmp_path):
    hostile = b"\x1b[31mred\x1b[0m \x1b]0;title\x07 [bold]b[/bold]\na\rb\x00\xff \xe2\x80\xae\n"
    log(tmp_path, b"early\n" * 300_000 + b"x" * 10_000_000 + b"\n" + hostile + b"y" * 100_000)

    async def steps(app, pilot):
        await pressed(app, pilot, "l")
        text = "\n".join(map(str, app.screen.query_one(TextView).lines))
        assert "\x1b" not in "".join(shown(app)) and len(text) < 1_200_000
        assert "red  [bold]b[/bold]" in text and "b\\x00\ufffd \\u202e" in text
        assert says(app, "MB are left out")
        assert "KiB, cut)" in text.splitlines()[-1] and len(text.splitlines()[-1]) < 5000

    opened(tmp_path, steps)


def test_a_log_that_is_replaced_or_missing(tmp_path):
    start(tmp_path).close()

    async def steps(app, pilot):
        await pressed(app, pilot, "l")
        assert says(app, "Nothing was printed yet")
        for text in ("first\n" * 50, "second\n"):
            (tmp_path / NAME / "console.log").write_text(text)
            app.screen.query_one(ConsolePane).refresh_log()
            await settle(app, pilot)
        assert says(app, "second") and not says(app, "first")

    opened(tmp_path, steps)


# ---- recipe


RECIPE = """
model: {path: "bundled:smollm2-135m-instruct", dtype: auto}
data: {path: "[red]\\e[31mx"}
train: {max_steps: 24, learning_rate: 0.001, own: 7}
provenance: {torch: 2.13.0, weights_sha256: abc}
"""


def test_the_recipe_marks_what_differs_from_the_shipped_one(tmp_path):
    start(tmp_path).close()
    (tmp_path / NAME / "recipe.yaml").write_text(RECIPE)

    async def steps(app, pilot):
        await pressed(app, pilot, "i")
        assert says(app, "beside the shipped dpo_readonly") and says(app, "[red]\\x1b[31mx")
        lines = [" ".join(str(line).split()) for line in app.screen.query_one(TextView).lines]
        assert "≠ learning_rate 0.001 default 0.0004" in lines and "+ own 7" in lines
        assert "dtype auto" in lines and "− rank not given default 16" in lines
        assert "▸ provenance: 2 entries" in lines and not any("weights_sha256" in line for line in lines)
        await pressed(app, pilot, "v", "o")
        lines = [" ".join(str(line).split()) for line in app.screen.query_one(TextView).lines]
        assert "dtype auto" not in lines and "+ own 7" in lines and "weights_sha256 abc" in lines
        assert says(app, "the rest is hidden")

    opened(tmp_path, steps)


@pytest.mark.parametrize("text", ["", "[1, 2]", "a: [", "x: " + "y" * 2_000_000, "a: &a [*a]", "\x00", None])
def test_a_recipe_that_is_none_is_said(tmp_path, text):
    start(tmp_path).close()
    (tmp_path / NAME / "recipe.yaml").unlink()
    if text is not None:
        (tmp_path / NAME / "recipe.yaml").write_text(text)
    reading = read_recipe(read_run(tmp_path / NAME))
    assert "recipe" in reading.problem and not reading.rows
    assert list(recipe_lines(reading, only_changes=True, unfolded=True)) == []


def test_a_recipe_without_a_shipped_one_stands_beside_the_defaults_of_its_sections(tmp_path):
    with RunWriter.start(tmp_path / "own", recipe_text=RECIPE.replace("24", "25"), recipe_name="mine") as run:
        run.mark("finished")
    reading = read_recipe(read_run(tmp_path / "own"))
    found = {row.key: (row.sign, row.default) for row in reading.rows}
    assert reading.beside == "the defaults of its sections"
    assert found["data.path"][0] == found["model.dtype"][0] == " " and found["train.own"] == ("+", None)
    assert found["objective.beta"] == ("−", 0.1) and found["train.max_steps"][0] == "≠"


# ---- result


SUMMARY = {
    "before": {"eval_loss": 0.6931, "eval_rewards/accuracies": 0.5, "kl_prose": 0.0},
    "after": {"eval_loss": 0.1853, "eval_rewards/accuracies": 1.0, "kl_prose": 0.0315},
    "certificate": {"passed": False, "checks": [{"name": "reload", "passed": False, "detail": "differs [b]\x1b[2J"}]},
    "verdict": "shown beyond its controls", "why": "layer 12", "figures": {"effect": 0.0123456, "none": None},
    "alarms": ["step 7: the margin fell"], "notes": ["read this"], "main": "effects", "tables": ["effects", "other"],
    "generations": [{"prompt": "Why [red]?", "before": "before " * 30, "after": "after\n\x1b[31m" + "after " * 30}],
}  # fmt: skip


def with_result(tmp_path, summary):
    start(tmp_path).close()
    (tmp_path / NAME / "summary.json").write_text(json.dumps(summary))


def test_the_result_has_its_table_verdict_certificate_alarms_and_answers_side_by_side(tmp_path):
    with_result(tmp_path, SUMMARY)
    (tmp_path / NAME / "report.html").write_text("<html>")

    async def steps(app, pilot):
        await pressed(app, pilot, "p")
        lines = [" ".join(str(line).split()) for line in app.screen.query_one(TextView).lines]
        assert "Held-out loss 0.6931 0.1853 -0.5078" in lines and "Held-out accuracy (%) 50.0 100.0 +50.0" in lines
        assert "verdict shown beyond its controls" in lines and "why layer 12" in lines
        assert "certificate ✗ not passed" in lines and "✗ reload differs [b]\\x1b[2J" in lines
        assert "effect 0.01235" in lines and "! step 7: the margin fell" in lines and "· read this" in lines
        assert "Why [red]?" in lines and "before │ after" in lines
        assert any(line.startswith("before before") and "│ \\x1b[31mafter after" in line for line in lines)
        assert f"report {tmp_path / NAME / 'report.html'}" in lines and says(app, "verdict")

    opened(tmp_path, steps, LARGE)


def test_the_tables_come_one_after_the_other_main_first(tmp_path):
    with_result(tmp_path, SUMMARY)
    rows = "\n".join(f"{number},{number / 7},{'z' * 60}" for number in range(6000))
    (tmp_path / NAME / "effects.csv").write_text(f"layer,[red]effect\x1b[2J,{'long' * 10}\n{rows}\n")
    (tmp_path / NAME / "a_note.csv").write_text('x,y\n"broken\n')
    (tmp_path / NAME / "empty.csv").write_text("")

    async def steps(app, pilot):
        await pressed(app, pilot, "p")
        assert says(app, "3 tables beside it")
        await pressed(app, pilot, "v")
        assert says(app, "table 1 of 3: effects, 5000 rows") and says(app, "1000 rows are left out")
        assert says(app, "layer  [red]effect\\x1b[2J") and says(app, "0.1429")
        await pressed(app, pilot, "end", "right")
        assert says(app, "4999") or says(app, "714.1")
        await pressed(app, pilot, "v", "v")
        assert says(app, "table 3 of 3: empty") and says(app, "it is empty")
        await pressed(app, pilot, "v")
        assert says(app, "the result") and says(app, "verdict")
        await pressed(app, pilot, "V")
        assert says(app, "table 3 of 3")

    opened(tmp_path, steps)


@pytest.mark.parametrize(
    "summary",
    [
        {}, {"before": [], "after": 3, "certificate": [], "generations": {}, "figures": "x", "verdict": 7, "alarms": 1},
        {"generations": [1, {"prompt": None}], "certificate": {"passed": 1, "checks": [0, {"name": 5}]}},
        {"after": {"a" * 5000: 1e308, "b": {"c": 1}, "d": "x"}, "figures": {"f": [1], "g": True}, "adapter_bytes": "x"},
    ],
)  # fmt: skip
@pytest.mark.parametrize("width", [20, 80, 200])
def test_a_result_that_is_missing_or_strange_is_shown_as_far_as_it_goes(tmp_path, summary, width):
    with_result(tmp_path, summary)
    data = read_report(read_run(tmp_path / NAME))
    lines = [line.plain for line in report_lines(data, ["alarm \x1b[2J"], width)]
    assert lines[-1] == "report   no report.html was written" and not any("\x1b" in line for line in lines)
    assert "! alarm \\x1b[2J" in "".join(lines)
    assert (data.summary != {}) == bool(summary) or lines[0].startswith("No result yet")


def test_the_result_appears_when_the_run_writes_it(tmp_path):
    run = start(tmp_path)

    async def steps(app, pilot):
        await pressed(app, pilot, "p")
        assert says(app, "No result yet") and says(app, "▶ running, step")
        (tmp_path / NAME / "summary.json").write_text(json.dumps(SUMMARY))
        run.mark("finished")
        run.close()
        await refreshed(app, pilot)
        assert says(app, "verdict  shown beyond its controls")

    opened(tmp_path, steps)


# ---- what can be done


def test_stop_asks_and_refuses_where_there_is_nothing_to_stop(tmp_path):
    run = start(tmp_path)

    async def steps(app, pilot):
        await pressed(app, pilot, "s")
        assert says(app, "Stop") and not run.stop_requested()
        await pressed(app, pilot, "y")
        assert run.stop_requested()
        run.mark("stopped")
        run.close()
        await refreshed(app, pilot)
        await pilot.press("s", "x")
        assert any("there is nothing to stop" in note for note in notes(app))
        assert any("it has no adapter" in note for note in notes(app))

    opened(tmp_path, steps)


def test_a_run_that_does_not_heed_the_request_is_pointed_out_here_too(tmp_path):
    run, now = start(tmp_path), [1.7e9]

    async def steps(app, pilot):
        await pressed(app, pilot, "s", "y")
        for passed_s, told in ((59, False), (2, True)):
            now[0] += passed_s
            await refreshed(app, pilot)
            assert any("still lives 60 s after" in note for note in notes(app)) == told

    opened(tmp_path, steps, clock=lambda: now[0])
    run.close()


def test_readonly_refuses_to_stop(tmp_path):
    run = start(tmp_path)

    async def steps(app, pilot):
        await pressed(app, pilot, "s")
        assert isinstance(app.screen, RunScreen) and notes(app)[-1] == "stop: this session is --readonly"

    opened(tmp_path, steps, readonly=True)
    assert not run.stop_requested()
    run.close()
