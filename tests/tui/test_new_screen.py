"""The New screen: a recipe as a form, and the command that it stands for."""

import shlex
import subprocess
import sys

import pytest
from textual import events

from readwrite_edit.errors import RecipeError
from readwrite_edit.recipe import load_recipe
from readwrite_edit.tui.dialogs import ConfirmDialog
from readwrite_edit.tui.forms.draft import wrong_with
from readwrite_edit.tui.forms.form import More
from readwrite_edit.tui.forms.new_screen import NewScreen
from readwrite_edit.tui.forms.schema import Field
from readwrite_edit.tui.forms.source import open_align
from readwrite_edit.tui.forms.values import UnreadableError, flow, text_of, value_of
from readwrite_edit.tui.home.runs_screen import RunsScreen
from readwrite_edit.tui.run.run_screen import RunScreen
from tests.tui.forms import MAKES_A_RUN, FakeCommands, checked, command, until, write
from tests.tui.screens import LARGE, drive, notes, pictured, says, settle, shown

NASTY = ["yes", "1e-4", " Rome", "a: b", "#x", "[a", "", "\x1b[31m", "é\u202e", "null", "a, b", "it's \"q\"", "-",
         "- a", "C:\\x", '"x"', "a\nb", "2024-01-01", '"\\u001b"']  # fmt: skip


RECIPE = """
model: {path: bundled:smollm2-135m-instruct}
data: {path: builtin:concise}
adapter: {basis: random, rank: 16}
"""


@pytest.fixture
def mine(tmp_path):
    """A recipe of few keys: each row of a form takes its time."""
    path = tmp_path / "mine.yaml"
    path.write_text(RECIPE)
    return path


def new(source="dpo_readonly", commands=None):
    return lambda: NewScreen(source, commands=commands or FakeCommands())


async def opened(app, pilot):
    await settle(app, pilot)
    await checked(app, pilot)


# ---- values and drafts


@pytest.mark.parametrize("text", NASTY)
def test_a_text_survives_the_form_and_the_command_line(text):
    field = Field(path=("a", "b"), kind="text")
    assert value_of(field, text_of(field, text)) == text
    many = Field(path=("a", "b"), kind="texts")
    assert value_of(many, text_of(many, [text, "x"])) == [one for one in (text, "x") if one.strip()]
    assert "\x1b" not in text_of(field, text) + flow(text) + flow([text]) + text_of(many, [text])
    from readwrite_edit.recipe.yaml_nodes import read_document

    assert read_document(flow(text)).value == text
    assert read_document(flow([text, {"k": text}])).value == [text, {"k": text}]


def test_what_is_no_yaml_is_told():
    with pytest.raises(UnreadableError):
        value_of(Field(path=("a", "b"), kind="value"), "[1,")


def test_the_run_of_a_run_s_recipe_is_called_as_that_run_without_its_time():
    names = {"runs/20250101-000000-dpo_lora/recipe.yaml": "dpo_lora", "mine/recipe.yaml": "mine", "a/b.yaml": "b",
             "20250101-000000-/recipe.yaml": "recipe"}  # fmt: skip
    assert {source: NewScreen(source).run_name() for source in names} == names


CHANGES = [
    ("adapter.rank", "32", 32), ("adapter.modules", "q_proj, v_proj", ("q_proj", "v_proj")),
    ("adapter.basis", "random", "random"), ("adapter.layers", "0-11, 20", (*range(12), 20)),
    ("train.learning_rate", "4e-3", 4e-3), ("train.bf16", "true", True), ("train.max_length", "", None),
    ("data.path", "a: b #c", "a: b #c"), ("train.lr_scheduler_kwargs", "{a: 1}", {"a": 1}),
    ("evaluation.generations", "Say, what?\nyes", ("Say, what?", "yes")),
    ("calibration.protect", "builtin:prose", ("prose",)),
]  # fmt: skip


@pytest.mark.parametrize(("key", "text", "value"), CHANGES)
def test_the_override_says_what_was_typed_and_only_that(key, text, value):
    draft = open_align("dpo_readonly").draft
    draft.write(draft.field(key), text)
    assert wrong_with(draft.snapshot()) == [] and len(draft.overrides()) == 1
    recipe, before = load_recipe("dpo_readonly", draft.overrides()), load_recipe("dpo_readonly")
    section, name = key.split(".")
    found = getattr(getattr(recipe, section), name)
    assert (tuple(one.name for one in found) if key == "calibration.protect" else found) == value
    same = recipe.model_copy(update={section: getattr(before, section)})
    assert same == before
    draft.write(draft.field(key), draft.text_before(draft.field(key)))
    assert draft.overrides() == []


WRONG = [
    ("adapter.rank", "many", "got 'many'; expected a whole number"), ("adapter.rank", "0", "expected at least 1"),
    ("adapter.modules", "q_prj", "did you mean 'q_proj'?"), ("objective.beta", "[1,", "no YAML value"),
    ("train.learning_rate", "-1", "expected at least 0"), ("adapter.energy", "0.9", "set one of the two to null"),
    ("model.path", "", "expected text that is not empty"), ("model.device", "gpu", "expected text"),
]  # fmt: skip


@pytest.mark.parametrize(("key", "text", "message"), WRONG)
def test_what_the_form_says_is_what_the_command_would_say(key, text, message):
    draft = open_align("dpo_readonly").draft
    draft.write(draft.field(key), text)
    problems = wrong_with(draft.snapshot())
    assert draft.field(problems[0].key).key == key and message in problems[0].message
    with pytest.raises(RecipeError, match="--set"):
        load_recipe("dpo_readonly", draft.overrides())


# ---- the form


def test_the_form_shows_set_keys_first_each_on_one_line_and_the_command(tmp_path):
    async def steps(app, pilot):
        await opened(app, pilot)
        lines = [line.split() for line in shown(app)]
        assert ["path", "builtin:concise"] in [line[:2] for line in lines] and ["rank", "16"] in lines
        assert says(app, "▸ 8 more keys of data") and says(app, "✓ in order, nothing changed")
        assert says(app, "$ readwrite-edit align --recipe dpo_readonly --run-dir")
        assert not says(app, "batch_size")
        assert says(app, "Where the model is")  # of the field under the cursor

    drive(tmp_path, steps, screen=new())


def test_a_change_is_marked_and_in_the_command_until_taken_back_and_letters_do_nothing_else(tmp_path, mine):
    async def steps(app, pilot):
        await opened(app, pilot)
        await write(app, pilot, "adapter.rank", "32")
        assert "--set adapter.rank=32 --run-dir" in command(app)
        assert says(app, "• rank") and says(app, "default 16") and says(app, "1 changed")
        await pilot.press("f8")
        await checked(app, pilot)
        assert "--set" not in command(app) and says(app, "nothing changed")
        app.screen.form._rows["model.path"].editor.focus()
        await pilot.pause()
        for key in ("tab", "tab", "z"):  # typed ahead, before the first one is through
            app.simulate_key(key)
        await checked(app, pilot)
        assert "--set data.path=builtin:concisez --run-dir" in command(app)
        for key in ("model.path", "adapter.basis"):
            app.screen.form._rows[key].editor.focus()
            await pilot.press("q", "y", "n", "question_mark", "s", "d")
        assert app.is_running and isinstance(app.screen, NewScreen)
        assert not any("copied" in note for note in notes(app))

    drive(tmp_path, steps, screen=new(mine))


def test_a_wrong_value_is_told_at_its_field_nothing_starts_and_leaving_asks(tmp_path, mine):
    commands = FakeCommands()

    async def steps(app, pilot):
        await opened(app, pilot)
        await write(app, pilot, "adapter.rank", "many q?")
        lines = shown(app)
        place = next(number for number, line in enumerate(lines) if "many q?" in line and "rank" in line)
        assert "✗ got 'many q?'; expected a whole number" in lines[place + 1]
        assert says(app, "✗ 1 problem: adapter.rank")
        await pilot.press("f5", "f6")
        await settle(app, pilot)
        assert isinstance(app.screen, NewScreen) and any("expected a whole number" in note for note in notes(app))
        await write(app, pilot, "adapter.rank", "8")
        assert says(app, "✓ in order") and not says(app, "✗ got")
        await pilot.press("escape")
        await pilot.pause()
        assert isinstance(app.screen, ConfirmDialog) and says(app, "1 change is lost") and says(app, "adapter.rank=8")
        await pilot.press("n")
        assert isinstance(app.screen, NewScreen)
        await pilot.press("escape", "y")
        await pilot.pause()
        assert isinstance(app.screen, RunsScreen)

    drive(tmp_path, steps, LARGE, screen=new(mine, commands))
    assert commands.launched == commands.queued == []


def test_folded_keys_are_found_by_words_by_unfolding_and_by_their_problems(tmp_path, mine):
    async def steps(app, pilot):
        await opened(app, pilot)
        await pilot.press("f3", *"t_de")
        await until(app, pilot, lambda: says(app, "  weight_decay"))
        assert not says(app, "  path")
        await pilot.press(*["backspace"] * 4)
        await until(app, pilot, lambda: says(app, "builtin:concise"))
        assert not says(app, "  weight_decay") and not says(app, "  protect")
        app.screen.draft.write(app.screen.draft.field("calibration.tokens"), "x")
        app.screen.check_now()
        await until(app, pilot, lambda: says(app, "• tokens") and says(app, "got 'x'"))
        more = next(more for more in app.screen.query(More) if more.part.name == "geometry")
        more.focus()
        await pilot.press("enter")
        await until(app, pilot, lambda: app.screen.form.row and app.screen.form.row.field.key == "geometry.k")
        assert says(app, "  every")

    drive(tmp_path, steps, (120, 50), screen=new(mine))


# ---- start and queue


def test_start_takes_the_changes_to_another_recipe_and_opens_the_run_when_its_folder_appears(tmp_path, mine):
    other, commands = tmp_path / "other.yaml", FakeCommands(MAKES_A_RUN.replace("KIND", "align"))
    other.write_text(RECIPE)

    async def steps(app, pilot):
        await opened(app, pilot)
        await write(app, pilot, "adapter.rank", "4")
        app.screen.query_one("#file").value = str(other)
        app.screen.query_one("#file").focus()
        await pilot.press("enter")
        await opened(app, pilot)
        await pilot.press("f5")
        await until(app, pilot, lambda: isinstance(app.screen, RunScreen))
        await pilot.press("escape")
        await pilot.pause()
        assert isinstance(app.screen, RunsScreen)

    drive(tmp_path / "runs", steps, screen=new(mine, commands))
    (argv,) = commands.launched
    assert argv[:5] == ["align", "--recipe", str(other), "--set", "adapter.rank=4"]
    assert argv[5] == "--run-dir" and argv[6].startswith(str(tmp_path / "runs")) and argv[6].endswith("-other")


def test_a_command_that_ends_without_a_run_is_heard_and_the_form_stays(tmp_path, mine):
    async def steps(app, pilot):
        await opened(app, pilot)
        await write(app, pilot, "model.path", "nosuch")
        await pilot.press("f5")
        await until(app, pilot, lambda: says(app, "no such model"))
        assert says(app, "\\x1b[31mred") and says(app, "exit code 2") and says(app, "nosuch")
        await pilot.press("escape")
        await pilot.pause()
        assert isinstance(app.screen, ConfirmDialog)  # nothing was made of the changes yet

    drive(tmp_path, steps, LARGE, screen=new(mine))


def test_queue_takes_the_command_as_it_stands_and_the_next_run_has_another_folder(tmp_path, mine):
    commands = FakeCommands()

    async def steps(app, pilot):
        await opened(app, pilot)
        await pilot.press("f6", "f6")
        await until(app, pilot, lambda: len(commands.queued) == 2)
        await settle(app, pilot)
        assert shlex.split(command(app))[-1] not in [argv[-1] for argv, _ in commands.queued]

    drive(tmp_path, steps, screen=new(mine, commands))
    assert [argv[:3] for argv, _ in commands.queued] == [["align", "--recipe", str(mine)]] * 2


def test_readonly_refuses_to_start_and_to_queue(tmp_path, mine):
    commands = FakeCommands()

    async def steps(app, pilot):
        await opened(app, pilot)
        await pilot.press("f5", "f6")
        await settle(app, pilot)
        assert all("--readonly" in note for note in notes(app)[:2])

    drive(tmp_path, steps, screen=new(mine, commands), readonly=True)
    assert commands.launched == commands.queued == []


# ---- sources


def test_hostile_recipes_are_data(tmp_path):
    path = tmp_path / "[red]\x1b[2J.yaml"
    path.write_text('model: {path: "\\u001b[31m[bold]x"}\ndata: {path: "a\\nb"}\n"\\u001b]0;x\\u0007": {"[b]": 1}\n')

    async def steps(app, pilot):
        await opened(app, pilot)
        assert "\x1b" not in "".join(shown(app)) and "\x07" not in "".join(shown(app))
        assert says(app, '"\\u001b[31m[bold]x"') and says(app, '"a\\nb"') and says(app, "[red]\\x1b[2J.yaml")
        assert says(app, "unknown key")
        row = app.screen.form._rows["data.path"]
        row.editor.post_message(events.Paste("\x1b[7m"))
        await checked(app, pilot)
        assert row.editor.value.endswith("\\x1b[7m") and "\x1b" not in "".join(shown(app))

    drive(tmp_path, steps, LARGE, screen=new(path))


WRONG_FILES = [
    ("model: [", "not a recipe in YAML"),
    ("- 1", "expected sections"),
    (None, "no recipe"),
    ("steer: {}", "edit"),
]


@pytest.mark.parametrize(("text", "told"), WRONG_FILES)
def test_a_file_that_is_no_recipe_of_an_alignment_is_told(tmp_path, text, told):
    path = tmp_path / "x.yaml"
    if text is not None:
        path.write_text(text)
    found = open_align(str(path))
    assert found.draft is None and told in found.problems[0].message


def test_without_a_recipe_another_can_be_chosen(tmp_path, mine):
    async def steps(app, pilot):
        await settle(app, pilot)
        assert says(app, "✗ 1 problem") and says(app, "no recipe")
        await pilot.press("f5", "f8")
        await pilot.pause()
        assert any("no recipe yet" in note for note in notes(app))
        app.screen.query_one("#file").focus()
        app.screen.query_one("#file").value = str(mine)
        await pilot.press("enter")
        await opened(app, pilot)
        assert says(app, "✓ in order")

    drive(tmp_path, steps, LARGE, screen=new(tmp_path / "nosuch"))


def test_a_run_s_own_recipe_can_be_started_again(tmp_path):
    (tmp_path / "recipe.yaml").write_text(RECIPE + "provenance: {torch: '1'}\n")
    found = open_align(str(tmp_path))
    assert found.source == str(tmp_path / "recipe.yaml") and wrong_with(found.draft.snapshot()) == []


# ---- pictures


def test_it_looks_so(tmp_path, snap_compare, mine):
    async def steps(app, pilot):
        await opened(app, pilot)
        app.screen.query_one("#folder").value = "runs/mine"
        await write(app, pilot, "adapter.rank", "x")

    mine.rename(tmp_path / "r.yaml")
    assert pictured(snap_compare, tmp_path, steps, screen=new("r.yaml"))


# ---- what is loaded

LOADED = """
import asyncio, sys
from pathlib import Path
from readwrite_edit.tui.app import RunsApp
from readwrite_edit.tui.forms.edit_screen import EditScreen
from readwrite_edit.tui.forms.export_screen import ExportScreen
from readwrite_edit.tui.forms.new_screen import NewScreen

async def session():
    app = RunsApp(Path(sys.argv[1]))
    async with app.run_test() as pilot:
        for screen in (NewScreen(), EditScreen(), ExportScreen(Path(sys.argv[1]))):
            app.push_screen(screen)
            for _ in range(3):
                await app.workers.wait_for_complete()
                await pilot.pause()
        assert app.screen.checks

asyncio.run(session())
print(*sorted({name.partition(".")[0] for name in sys.modules}))
"""


def test_the_forms_load_no_torch(tmp_path):
    done = subprocess.run([sys.executable, "-c", LOADED, str(tmp_path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    loaded = set(done.stdout.split())
    assert "pydantic" in loaded and not loaded & {"torch", "transformers", "peft", "trl", "numpy", "pandas"}
