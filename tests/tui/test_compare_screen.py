"""Two to four runs side by side, driven by keys."""

import json
import shutil
import subprocess
import sys

import pytest
from textual.widgets import Static

from readwrite_edit.runs.writer import RunWriter
from readwrite_edit.tui.charts.chart import Chart
from readwrite_edit.tui.compare.lines import change_text
from readwrite_edit.tui.compare.screen import CompareScreen
from readwrite_edit.tui.run.run_screen import RunScreen
from readwrite_edit.tui.run.text_view import TextView
from tests.tui.screens import LARGE, SMALL, drive, geometry_rows, notes, says, settle, shown

PROMPT = "Why is the sky blue?"


def start(root, name, level, *, recipe="train: {max_steps: 24, learning_rate: 0.001}", result=True):
    run = RunWriter.start(root / name, recipe_text=recipe, recipe_name=f"recipe-{name}", max_steps=24)
    for step in range(1, 13):
        run.log_metrics(step, {"loss": level / step, "grad_norm": level})
    run.log_metrics(12, {"eval_loss": level / 10, "kl_prose": level / 100}, kind="eval")
    run.log_geometry(12, geometry_rows(4, level / 10))
    if result:
        end = {
            "before": {"eval_loss": 0.6931}, "after": {"eval_loss": level / 10},
            "generations": [{"prompt": PROMPT, "before": "It scatters.", "after": f"[red]{name}\x1b[2J says {level}"}],
        }  # fmt: skip
        (root / name / "summary.json").write_text(json.dumps(end))
    return run


def ended(root, *names, **options):
    for place, name in enumerate(names, 1):
        with start(root, name, float(place), **options) as run:
            run.mark("finished")
    return [root / name for name in names]


def compared(root, paths, steps, size=SMALL):
    return drive(root, steps, size, screen=lambda: CompareScreen(paths))


async def pressed(app, pilot, *keys):
    await pilot.press(*keys)
    await settle(app, pilot)


def lines_of(app, selector):
    return [" ".join(str(line).split()) for line in app.screen.query_one(selector, TextView).lines]


@pytest.mark.parametrize("count, size", [(2, SMALL), (4, LARGE)])
def test_curves_lie_over_each_other_and_are_named_at_their_ends(tmp_path, count, size):
    paths = ended(tmp_path, *"wxyz"[:count])

    async def steps(app, pilot):
        for letter, name in zip("ABCD"[:count], "wxyz", strict=False):
            assert says(app, f"{letter} ") and says(app, f"{name}   ✓ finished   recipe-{name}   0/24")
        loss = next(chart for chart in app.screen.query(Chart) if chart.render_line(0).text.startswith("loss"))
        ends = [loss.render_line(row).text.rstrip()[-1:] for row in range(1, loss.size.height)]
        assert [end for end in ends if end in set("ABCD")] == list("DCBA"[4 - count :])
        values = ", ".join(f"{letter} {place / 12:.7g}" for place, letter in enumerate("ABCD"[:count], 1))
        assert says(app, f"loss at step 12: {values}, A eval 0.1")
        assert says(app, "$ readwrite-edit runs compare")
        await pressed(app, pilot, "enter", "plus", "m")
        assert says(app, "zoomed") and says(app, "smoothing 0.6")

    compared(tmp_path, paths, steps, size)


def test_recipes_show_the_keys_that_differ_run_by_run(tmp_path):
    with start(tmp_path, "a", 1.0), start(tmp_path, "b", 2.0, recipe='train: {learning_rate: "[red]\\e[31m"}'):
        (tmp_path / "a" / "recipe.yaml").write_text("train: {learning_rate: 0.001, note: " + "long " * 20 + "}")

    async def steps(app, pilot):
        await pressed(app, pilot, "i")
        lines = lines_of(app, "#compare-recipes")
        assert lines[0] == "A B"
        assert any("learning_rate 0.001" in line for line in lines) and any("\\x1b[31m" in line for line in lines)
        assert any(line.startswith("A long long") for line in lines) and "B –" in lines

    compared(tmp_path, [tmp_path / "a", tmp_path / "b"], steps)


def test_recipes_that_say_the_same_and_one_that_can_not_be_read(tmp_path):
    paths = ended(tmp_path, "a", "b")

    async def steps(app, pilot):
        await pressed(app, pilot, "i")
        assert says(app, "The recipes say the same.")
        (tmp_path / "b" / "recipe.yaml").write_text("a: [")
        app.screen._refresh()
        await settle(app, pilot)
        assert any("recipe.yaml is not plain YAML" in line for line in lines_of(app, "#compare-recipes"))

    compared(tmp_path, paths, steps)


def test_geometry_shows_means_and_the_difference_against_the_first(tmp_path):
    paths = ended(tmp_path, "a", "b", "c")

    async def steps(app, pilot):
        await pressed(app, pilot, "g")
        assert says(app, "mean over layers") and says(app, "B − A") and says(app, "C − A")
        table = [str(line).split() for line in str(app.screen.query_one("#compare-means", Static).render()).split("\n")]
        assert ["all", "matrices", "0.1", "0.2", "0.3", "+0.1", "+0.2"] in table
        assert next(line for line in shown(app) if "▸" in line).split()[-1] == "0.1"  # the mean of B − A
        await pressed(app, pilot, "down", "right")
        assert says(app, "A 0.1   B 0.2   C 0.3   B − A +0.1   C − A +0.2") and says(app, "layer 1 k_proj")
        await pressed(app, pilot, "n")
        assert says(app, "C − A   read fraction")
        await pressed(app, pilot, "n", "v")
        assert says(app, "A   read fraction ÷ k/d")
        await pressed(app, pilot, "V")
        assert says(app, "A   read fraction ") and not says(app, "A   read fraction ÷")

    compared(tmp_path, paths, steps)


def without_geometry(root, *names):
    for name in names:
        with RunWriter.start(root / name, recipe_text="", recipe_name="x", kind="edit") as run:
            run.mark("finished")
    return [root / name for name in names]


OPENED = [
    ("xoo", "A has no geometry.", ["B", "C"], "A –   B 0.1   C 0.2"),
    ("oxo", "B has no geometry.", ["C − A", "A", "C"], "A 0.1   B –   C 0.2   C − A +0.1"),
    ("xxo", "A and B have no geometry.", ["C"], "A –   B –   C 0.1"),
]


@pytest.mark.parametrize(("has", "told", "opened", "figures"), OPENED)
def test_geometry_opens_on_what_there_is_and_says_who_has_none(tmp_path, has, told, opened, figures):
    levels = iter((1.0, 2.0))
    for name, one in zip("abc", has, strict=True):
        if one == "x":
            without_geometry(tmp_path, name)
            continue
        with start(tmp_path, name, next(levels)) as run:
            run.mark("finished")

    async def steps(app, pilot):
        await pressed(app, pilot, "g")
        assert says(app, told) and says(app, f"layer 0 q_proj: {figures}")
        assert says(app, "mean over layers") and not says(app, "B − A")
        for name in (*opened, opened[0]):
            assert says(app, f" {name}   read fraction")
            await pressed(app, pilot, "n")

    compared(tmp_path, [tmp_path / name for name in "abc"], steps)


def test_four_runs_can_be_read_on_the_least_terminal(tmp_path):
    paths = ended(tmp_path, *"abcd")
    for path in paths:
        end = json.loads((path / "summary.json").read_text())
        end["after"]["kl_prose-of-a-long-name"] = 0.25
        (path / "summary.json").write_text(json.dumps(end))

    async def steps(app, pilot):
        assert says(app, " A ✓ recipe-a") and says(app, "D ✓ recipe-d")
        await pressed(app, pilot, "p")
        lines = [line.rstrip() for line in shown(app)]
        at = lines.index(" Held-out loss")
        assert lines[at - 1].split() == ["before", *"ABCD"]
        assert lines[at + 1].split() == ["0.6931", "0.1000", "0.2000", "0.3000", "0.4000"]
        assert all(lines[at - 1].index(name) > 0 for name in "ABCD")
        await pressed(app, pilot, "g")
        lines = shown(app)
        assert any("mean over layers" in line and "D" in line and "D − A" not in line for line in lines)
        assert any("q_proj" in line and "+" in line for line in lines) and any("k_proj" in line for line in lines)
        assert says(app, "layer 0 q_proj: A 0.1   B 0.2   C 0.3   D 0.4")
        assert says(app, " B − A +0.1   C − A +0.2   D − A +0.3")

    compared(tmp_path, paths, steps, (60, 16))


def test_a_difference_that_is_rounding_is_none():
    assert change_text(1.0, 1.0 + 2.2e-16) == "0" and change_text(0.0, 1e-30) == "+1e-30"
    assert change_text(0.25, 0.125) == "-0.125" and change_text(None, 1.0) == "–"


def test_answers_stand_side_by_side_below_the_figures(tmp_path):
    paths = ended(tmp_path, "a", "b")

    async def steps(app, pilot):
        await pressed(app, pilot, "p")
        lines = lines_of(app, "#compare-answers")
        assert lines[:2] == ["before A B", "Held-out loss 0.6931 0.1000 0.2000"] and PROMPT in lines
        assert "before │ A after │ B after" in lines
        assert "It scatters. │ [red]a\\x1b[2J says 1.0 │ [red]b\\x1b[2J says 2.0" in lines
        assert says(app, PROMPT)

    compared(tmp_path, paths, steps, LARGE)


def test_runs_without_curves_geometry_or_result_are_said_to_have_none(tmp_path):
    for name in "ab":
        with RunWriter.start(tmp_path / name, recipe_text="", recipe_name="x", kind="edit") as run:
            run.mark("failed", "[b]out of \x1b[1mmemory")

    async def steps(app, pilot):
        assert says(app, "No run has logged a value.") and says(app, "✗ failed")
        assert says(app, "[b]out of \\x1b[1mmemory")
        await pressed(app, pilot, "v")
        assert notes(app)[-1] == "quantity: it belongs to the geometry"
        await pressed(app, pilot, "g")
        assert says(app, "No run has a geometry.")
        await pressed(app, pilot, "p")
        assert says(app, "No run has written its result yet.")

    compared(tmp_path, [tmp_path / "a", tmp_path / "b"], steps)


def test_a_run_that_goes_on_and_one_that_is_deleted_meanwhile(tmp_path):
    ended(tmp_path, "a")
    run = start(tmp_path, "b", 2.0)

    async def steps(app, pilot):
        assert says(app, "▶ running")
        run.log_metrics(13, {"loss": 0.125})
        shutil.rmtree(tmp_path / "a")
        app.screen._refresh()
        await settle(app, pilot)
        assert says(app, "! broken") and says(app, "loss at step 13: A 0.08333333 at step 12")
        assert says(app, "B 0.125")
        await pressed(app, pilot, "i", "g", "p", "c")
        assert isinstance(app.screen, CompareScreen)

    compared(tmp_path, [tmp_path / "a", tmp_path / "b"], steps)
    run.close()


@pytest.mark.parametrize("count", [1, 5])
def test_a_wrong_number_of_runs_is_said(tmp_path, count):
    paths = ended(tmp_path, *"abcde"[:count])

    async def steps(app, pilot):
        assert says(app, f"{count} runs: mark 2 to 4 to compare")
        await pilot.press("i")
        assert notes(app)[-1] == f"recipes: {count} runs: mark 2 to 4 to compare"

    compared(tmp_path, paths, steps)


LOADED = """
import asyncio, sys
from pathlib import Path
from readwrite_edit.tui.app import RunsApp
from tests.tui.screens import settle

async def session():
    app, root = RunsApp(Path(sys.argv[1])), Path(sys.argv[1])
    async with app.run_test() as pilot:
        await settle(app, pilot)
        from readwrite_edit.tui.compare.screen import CompareScreen
        from readwrite_edit.tui.run.run_screen import RunScreen
        for screen, keys in ((RunScreen(root / "a"), "glipc"), (CompareScreen([root / "a", root / "b"]), "igpc")):
            app.push_screen(screen)
            for key in keys:
                await settle(app, pilot)
                await pilot.press(key)
            await settle(app, pilot)

asyncio.run(session())
print(*sorted({name.partition(".")[0] for name in sys.modules}))
"""


def test_no_tab_of_either_screen_loads_torch_or_numpy(tmp_path):
    ended(tmp_path, "a", "b")
    outcome = subprocess.run([sys.executable, "-c", LOADED, str(tmp_path)], capture_output=True, text=True)
    assert outcome.returncode == 0, outcome.stderr
    loaded = set(outcome.stdout.split())
    assert "pydantic" in loaded  # the recipe was compared with its default
    assert not loaded & {"torch", "transformers", "peft", "trl", "numpy", "pandas", "textual_plot"}


def test_compare_and_run_have_a_method_for_each_of_their_actions():
    from readwrite_edit.tui.actions import ACTIONS
    from readwrite_edit.tui.run.console_pane import ConsolePane, SearchLine
    from readwrite_edit.tui.run.curves_pane import CurvesPane
    from readwrite_edit.tui.run.recipe_pane import RecipePane
    from readwrite_edit.tui.run.report_pane import ReportPane

    places = {place.NAME: place for place in (
        RunScreen, CompareScreen, CurvesPane, ConsolePane, SearchLine, RecipePane, ReportPane
    )}  # fmt: skip
    mine = [action for action in ACTIONS if action.place in places]
    assert len(mine) > 40 and all(hasattr(places[action.place], action.method) for action in mine)
