"""The Edit screen: an intervention as a form, its price, its effect, the ledger."""

import json
from pathlib import Path

import pytest

from readwrite_edit.cli import build_parser
from readwrite_edit.cli.edit import _common_options, _field_options, _model_options
from readwrite_edit.edit.settings.reading import edit_recipe_of, load_edit_recipe
from readwrite_edit.tui.dialogs import ConfirmDialog
from readwrite_edit.tui.forms.draft import wrong_with
from readwrite_edit.tui.forms.edit_command import edit_arguments
from readwrite_edit.tui.forms.edit_effect import EDIT, effect_text, read_effect
from readwrite_edit.tui.forms.edit_panes import EffectPane
from readwrite_edit.tui.forms.edit_price import price_text
from readwrite_edit.tui.forms.edit_screen import EditScreen
from readwrite_edit.tui.forms.ledger_data import ledger_rows
from readwrite_edit.tui.forms.ledger_dialog import FolderDialog
from readwrite_edit.tui.forms.ledger_pane import LedgerPane
from readwrite_edit.tui.forms.process import Answer, Commands
from readwrite_edit.tui.forms.source import BUNDLED, base_of_run, open_edit
from readwrite_edit.tui.home.runs_screen import RunsScreen
from readwrite_edit.tui.run.run_screen import RunScreen
from tests.small_edits import ledger_of_three
from tests.tui.forms import MAKES_A_RUN, FakeCommands, checked, command, until, write
from tests.tui.screens import LARGE, SMALL, drive, notes, pictured, says, settle, shown, still_run

PRICE = {
    "edit": "associate", "title": "Tower → \x1b[31mRome", "why": "layer 13 as traced", "notes": ["C was [red]shrunk"],
    "figures": {"norm": 5.8, "predicted_damage": 0.2266, "odd": None},
    "tables": {
        "preflight": [{"layer": 13, "module": "down_proj", "rank": 1, "norm": 5.7995, "relative_norm": 0.0328,
                       "predicted_damage": 0.2266, "condition": None, "under_step_fraction": 1e-15}],
        "overlaps": [{"entry": "rome-1", "layer": 13, "module": "down_proj", "cosine": 0.5}],
    },
}  # fmt: skip
FACT = {"prompt": "The tower is in", "subject": "tower", "target": " Rome"}


def edit(source="associate", commands=None):
    return lambda: EditScreen(source, commands=commands or FakeCommands())


async def opened(app, pilot):
    await settle(app, pilot)
    await checked(app, pilot)


def filled(kind, **texts):
    draft = open_edit(kind).draft
    for name, text in texts.items():
        draft.write(draft.field(f"{kind}.{name.replace('__', '.')}"), text)
    return draft


# ---- the command

FORMS = [
    ("associate", {**FACT, "paraphrases": "One, two\n-three", "layers": "3,4", "margin": "1e-1"}),
    ("associate", {**FACT, "target": "-x", "locality": "a: b\nyes", "value": "optimised", "seed": "7"}),
    ("associate", {**FACT, "prompt": "\"tower \\u001b\"", "preserve": "builtin:prose\n{path: x.txt, weight: 2}"}),
    ("attend", {"prompts": "a b\nb a", "query": "last", "key": "a", "layer": "3", "change": "-2.5", "head": ""}),
    ("project", {"direction__token": " yes", "modules": "down_proj", "in_turn": "false", "layers": "0-3"}),
    ("steer", {"direction__positive": "good", "direction__negative": "bad", "prompts": "x", "layer": "2"}),
    ("extract", {"tuned": "some/model", "rank": "", "energy": "0.5", "unrelated": "true"}),
    ("project_adapter", {"adapter": "some/adapter", "k": "4"}),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "texts"), FORMS)
def test_the_command_s_options_give_what_the_form_holds(kind, texts):
    draft = filled(kind, **texts)
    assert wrong_with(draft.snapshot()) == []
    argv = edit_arguments(draft, kind=kind, recipe=None)
    args = build_parser().parse_args(argv)
    assert not any("\x1b" in word for word in argv)
    options = [*_model_options(args), *_field_options(args), *_common_options(args)]
    by_command = edit_recipe_of(kind, options, args.set)
    values = {}
    for override in draft.overrides():
        values.setdefault("sets", []).append(override)
    by_form = edit_recipe_of(kind, [(("model", "path"), "MODEL", BUNDLED)], values["sets"])
    assert by_command == by_form


def test_a_shipped_recipe_is_given_by_name_with_what_differs():
    draft = open_edit("edit_associate").draft
    draft.write(draft.field("associate.target"), " Paris")
    argv = edit_arguments(draft, kind="associate", recipe="edit_associate")
    assert argv == ["edit", "--recipe", "edit_associate", "--set", 'associate.target=" Paris"']
    assert load_edit_recipe(argv[2], argv[4:]).associate.target == " Paris"


@pytest.mark.parametrize("source", ["nosuch", "dpo_readonly", "\x00", "x" * 300])
def test_what_is_no_edit_is_told(source):
    found = open_edit(source)
    assert found.draft is None and len(found.problems) == 1 and "\x00" not in str(found.problems[0])


# ---- the form


def test_the_form_asks_for_what_is_missing_and_shows_the_command(tmp_path):
    async def steps(app, pilot):
        await opened(app, pilot)
        assert says(app, "✗ missing prompt, subject, target") and says(app, "✗ 1 problem: associate.prompt")
        await pilot.press("f4", "f5")
        await settle(app, pilot)
        assert app.screen.pane == "fill" and len(notes(app)) == 2
        for name, text in {"prompt": "a q", "subject": "q", "target": " x", "paraphrases": "c d\ne"}.items():
            await write(app, pilot, f"associate.{name}", text)
        given = "--prompt 'a q' --subject q --target ' x' --paraphrases 'c d' e"
        assert f"edit associate {BUNDLED} {given} --run-dir" in command(app)
        assert says(app, "✓ in order, 5 changed")
        await pilot.press("escape")
        await pilot.pause()
        assert isinstance(app.screen, ConfirmDialog) and says(app, "4 changes are lost")

    drive(tmp_path, steps, screen=edit())


# ---- the price


def test_the_price_is_shown_and_escape_goes_back_to_the_form(tmp_path):
    commands = FakeCommands(answers=[Answer(0, json.dumps(PRICE), ()), Answer(2, "", ("no model 'x\\x1b[2J'",))])

    async def steps(app, pilot):
        await opened(app, pilot)
        await pilot.press("f4")
        await settle(app, pilot)
        row = next(line.split() for line in shown(app) if "down_proj" in line)
        assert row == ["layer", "13", "down_proj", "1", "5.8", "0.0328", "0.227", "1e-15"]
        assert says(app, "Tower → \\x1b[31mRome") and says(app, "layer 13 as traced") and says(app, "[red]shrunk")
        assert says(app, "rome-1") and "--dry-run --json" in command(app)
        await pilot.press("escape")
        assert app.screen.pane == "fill" and "--run-dir" in command(app)
        await pilot.press("f4")
        await settle(app, pilot)
        assert says(app, "✗ no model 'x\\x1b[2J'")
        await pilot.press("f7")
        await settle(app, pilot)

    drive(tmp_path, steps, LARGE, screen=edit("edit_associate", commands))
    assert commands.asked[0] == ["edit", "--recipe", "edit_associate", "--dry-run", "--json"]
    assert commands.asked[2] == ["edit", "ls", "--model", BUNDLED, "--json"]


@pytest.mark.parametrize("answer", ["", "[", "[]", "{}", '{"tables": 3}', "[" * 100000])
def test_an_answer_that_is_no_price_is_none(answer):
    assert price_text(answer) is None


def test_odd_values_of_a_price_are_shown_as_far_as_they_go():
    tables = {"preflight": [3, {"layer": "\x1b", "norm": float("inf"), "rank": True}], "overlaps": "x"}
    text = price_text(json.dumps({"tables": tables, "notes": 3, "figures": [1], "title": None}))
    assert text is not None and "\\x1b" in text.plain and "\x1b" not in text.plain


# ---- the effect


def write_effect(run, *, value=3.0, verdict="beyond its random controls"):
    rows = [f"random_input,energy,{number},{number / 100},T" for number in range(99)]
    rows.append(f"sign_flip,both,0,{-value},T")
    (run / "controls.csv").write_text("family,matching,index,effect,statistic\n" + "\n".join(rows) + "\n")
    head = "family,matching,n_controls,effect,reached,difference,low,high,p_value,statistic\n"
    (run / "effects.csv").write_text(
        head + f"random_input,energy,99,{value},0,{value - 0.5},2.1,2.9,0.01,log p\x1b[31m\n"
        f"sign_flip,both,1,{value},0,{2 * value},5,7,0.5,log p\n"
    )
    generations = [{"prompt": "Where?", "before": "In Paris\n\x1b[2J", "after": "In Rome"}, 3]
    summary = {"title": "Tower → Rome", "verdict": verdict, "generations": generations, "notes": ["[b]"]}
    (run / "summary.json").write_text(json.dumps(summary))


def test_the_edit_stands_as_a_line_through_its_controls(tmp_path):
    write_effect(tmp_path)
    for width in (60, 78, 118):
        lines = effect_text(read_effect(tmp_path), width).plain.splitlines()
        strips = [line for line in lines if line.startswith(("random inputs, same", "opposite")) and EDIT in line]
        axis = next(line for line in lines if "┴" in line)
        assert len(strips) == 2 and {line.index(EDIT) for line in strips} == {axis.index(EDIT)}
        places = [number for number, char in enumerate(strips[0]) if char in "▁▂▃▄▅▆▇█"]
        assert places and max(places) < strips[0].index(EDIT) and "●" in strips[1] and strips[0].endswith("p 0.01")
        assert strips[1].index("●") < min(places)
        assert max(map(len, [*strips, axis])) <= width
    text = "\n".join(lines)
    assert "+2.5" in text and "2.1 to 2.9" in text and "0 of 99" in text and "after      In Rome" in text
    assert "In Paris \\x1b[2J" in text and "\x1b" not in text


@pytest.mark.parametrize("content", [None, "", "x" * 100, "family,effect\na,nan\nb,inf\n", "\x00\x00"])
def test_without_tables_it_says_that_there_are_no_controls(tmp_path, content):
    if content is not None:
        for name in ("controls.csv", "effects.csv"):
            (tmp_path / name).write_text(content)
    assert "No controls" in effect_text(read_effect(tmp_path), 60).plain


def test_an_edit_is_followed_and_its_effect_shown(tmp_path):
    commands = FakeCommands(MAKES_A_RUN.replace("KIND", "edit").replace("finished", "running"))

    async def steps(app, pilot):
        await opened(app, pilot)
        assert any("no edit was made" in str(app.screen.why_not("edit.effect")) for _ in "x")
        await pilot.press("f5")
        await until(app, pilot, lambda: app.screen.pane == "effect" and says(app, "step 1/1"))
        run = app.screen.folder
        write_effect(run)
        state = (run / "state.json").read_text().replace("running", "finished").replace("silent", "finished")
        (run / "state.json").write_text(state)
        await until(app, pilot, lambda: says(app, EDIT))
        assert says(app, "Tower → Rome") and says(app, "p 0.01")
        await pilot.press("escape", "escape")
        assert isinstance(app.screen, RunsScreen)

    drive(tmp_path, steps, LARGE, screen=edit("edit_associate", commands))


@pytest.mark.parametrize("size", [SMALL, LARGE])
def test_the_effect_looks_so(tmp_path, snap_compare, size):
    write_effect(still_run(tmp_path, "edited", kind="edit"))

    async def steps(app, pilot):
        app.screen.query_one(EffectPane).follow(Path("edited"))
        await settle(app, pilot)
        await pilot.press("f9")

    assert pictured(snap_compare, tmp_path, steps, size, screen=edit("nosuch"))


def test_a_run_of_an_edit_opens_with_its_settings_and_any_other_gives_its_base(tmp_path):
    run = tmp_path / "20250101-000000-edit-associate"
    run.mkdir()
    (run / "state.json").write_text(json.dumps({"kind": "edit"}))
    known = "model: {path: here}\nassociate: {prompt: a b, subject: b, target: c}\ncommand: x\ncontrols: {count: 9}\n"
    (run / "recipe.yaml").write_text(known)
    found = open_edit(str(run))
    argv = edit_arguments(found.draft, kind=found.kind, recipe=None)
    assert argv[:3] == ["edit", "associate", "here"]
    assert argv[3:] == ["--prompt", "a b", "--subject", "b", "--target", "c", "--set", "controls.count=9"]
    assert base_of_run(run) == "here" and base_of_run(tmp_path) == ""


# ---- the ledger


def listed(*entries):
    return Answer(0, json.dumps([{"folder": "edits/x", "base": {"source": "/m"}, "entries": list(entries)}]), ())


def entry(name, active=True, **more):
    known = {"kind": "associate", "title": f"of {name}", "created": "2025-01-02T03:04:05Z"}
    return {"name": name, "active": active, **known, **more}


def test_undo_redo_mark_and_stack_go_through_the_command_line(tmp_path):
    before, after = listed(entry("a"), entry("b", active=False)), listed(entry("a", active=False))
    answers = [before, Answer(0, "undone: a", ()), after]
    commands = FakeCommands("print('1 edit in one adapter'); print('pass  finite')", answers)

    async def steps(app, pilot):
        await pilot.press("f7")
        await settle(app, pilot)
        assert says(app, "✓ in force") and says(app, "○ undone") and says(app, "2 edits, 1 in force")
        await pilot.press("r")
        await pilot.pause()
        assert notes(app) == ["redo: 'a' is in force already; u takes it out"]
        await pilot.press("space", "s")
        await pilot.pause()
        assert isinstance(app.screen, FolderDialog)
        await pilot.press(*"out", "enter")
        await until(app, pilot, lambda: says(app, " pass  finite"))  # a line of its own
        assert len(notes(app)) == 1  # the stack's end is none of a run that the form started
        await pilot.press("home", "u")
        await settle(app, pilot)
        assert command(app) == "readwrite-edit edit undo a --ledger edits/x"
        assert commands.asked[1] == ["edit", "undo", "a", "--ledger", "edits/x"] and says(app, "○ undone")
        assert "undone: a" in notes(app)
        await pilot.press("escape")
        assert app.screen.pane == "fill"

    drive(tmp_path, steps, LARGE, screen=edit("nosuch", commands))
    assert commands.asked[0] == ["edit", "ls", "--json"]
    assert commands.launched == [["edit", "stack", "a", "--to", "out", "--ledger", "edits/x"]]


def test_show_opens_the_edit_s_run_or_says_that_it_is_gone(tmp_path):
    run = tmp_path / "runs" / "one"
    run.mkdir(parents=True)
    commands = FakeCommands(answers=[listed(entry("a", run=str(run)), entry("[b]\x1b[31m", run="/no\x1b"))])

    async def steps(app, pilot):
        await pilot.press("f7")
        await settle(app, pilot)
        assert says(app, "[b]\\x1b[31m") and "\x1b" not in "".join(shown(app))
        await pilot.press("down", "enter")
        await pilot.pause()
        assert notes(app) == ["show: its run folder is gone: /no\\x1b"]
        await pilot.press("up", "enter")
        await settle(app, pilot)
        assert isinstance(app.screen, RunScreen)

    drive(tmp_path / "runs", steps, LARGE, screen=edit("nosuch", commands))


def test_readonly_shows_the_ledger_and_changes_nothing(tmp_path):
    commands = FakeCommands(answers=[listed(entry("a"))])

    async def steps(app, pilot):
        await pilot.press("f5", "f6", "f7")
        await settle(app, pilot)
        await pilot.press("u", "s")
        await settle(app, pilot)
        assert says(app, "of a") and sum("--readonly" in note for note in notes(app)) == 4

    drive(tmp_path, steps, LARGE, screen=edit("nosuch", commands), readonly=True)
    assert len(commands.asked) == 1 and commands.launched == commands.queued == []


@pytest.mark.parametrize("answer", ["", "{}", "[{}]", '[{"entries": [3]}]', "[" * 100000])
def test_an_answer_that_is_no_ledger_has_no_rows(answer):
    assert not ledger_rows(answer)


def test_the_real_command_lists_undoes_and_tells_of_a_damaged_ledger(tmp_path):
    ledger = ledger_of_three(tmp_path)
    names = [one.name for one in ledger.entries]

    async def steps(app, pilot):
        pane = app.screen.query_one(LedgerPane)
        app.screen.show_pane("ledger")
        pane.show("", str(ledger.folder.parent))
        await settle(app, pilot)
        assert [row.name for row in pane.rows] == names
        await pilot.press("u")
        await until(app, pilot, lambda: pane.rows and not pane.rows[0].active)
        (ledger.folder / "ledger.json").write_text("{")
        pane.show("", str(ledger.folder.parent))
        await settle(app, pilot)
        assert says(app, "✗ ") and says(app, "ledger.json")

    drive(tmp_path, steps, LARGE, screen=edit("nosuch", Commands()))
