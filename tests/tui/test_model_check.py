"""The model that a form's recipe names: whether there can be one of that name."""

import pytest

from readwrite_edit.tui.forms.draft import hub_id, wrong_with
from readwrite_edit.tui.forms.new_screen import NewScreen
from readwrite_edit.tui.forms.source import open_align, open_edit
from tests.tui.forms import FakeCommands, checked, write
from tests.tui.screens import LARGE, drive, notes, says, settle

WRONG = [
    ("bundled:nosuch", "no bundled model 'nosuch': there is bundled:smollm2-135m-instruct"),
    ("./nosuch", "no such folder, and not a Hub id"), ("/nosuch/folder", "no such folder, and not a Hub id"),
    ("a/b/c", "not a Hub id"), ("~nobody-of-that-name/model", "home directory"), ("nosuch.gguf", "no such GGUF file"),
    ("x.safetensors", "expected a folder with config.json"), ("empty", "a folder without config.json"),
    ("plain.txt", "expected a folder with config.json"), ("x" * 5000 + "/y", "name too long"),
]  # fmt: skip
RIGHT = [
    ("bundled:smollm2-135m-instruct", ""), ("model", ""), ("model.GGUF", ""), ("owner/name", "owner/name"),
    ("gpt2", "gpt2"), ("nosuch/folder", "nosuch/folder"),
]  # fmt: skip


@pytest.fixture(autouse=True)
def places(tmp_path, monkeypatch):
    for name in ("model", "empty"):
        (tmp_path / name).mkdir()
    (tmp_path / "model" / "config.json").write_text("{}")
    for name in ("plain.txt", "model.GGUF"):
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path)


def named(path, *, opened=open_align, source="dpo_readonly", **more):
    draft = opened(source).draft
    for key, text in {"model.path": path, **more}.items():
        draft.write(draft.field(key), text)
    return draft.snapshot()


@pytest.mark.parametrize(("path", "why"), WRONG)
def test_a_model_that_can_not_be_there_is_told_at_its_key(path, why):
    (problem,) = wrong_with(named(path))
    assert problem.key == "model.path" and why in problem.message.replace("File name", "name")
    assert hub_id(named(path)) == ""


@pytest.mark.parametrize(("path", "taken_for"), RIGHT)
def test_a_model_that_may_be_there_passes_and_a_name_of_the_hub_is_said_to_be_taken_for_one(path, taken_for):
    assert wrong_with(named(path)) == [] and hub_id(named(path)) == taken_for


def test_a_revision_needs_the_hub():
    (problem,) = wrong_with(named("model", **{"model.revision": "main"}))
    assert problem.key == "model.revision" and "only models on the Hub" in problem.message
    assert hub_id(named("a/b", **{"model.revision": "v1"})) == "a/b@v1"


def test_an_edit_s_model_is_looked_at_too_and_one_that_is_missing_is_told_once():
    found = wrong_with(named("./nosuch", opened=open_edit, source="edit_associate"))
    assert [one.key for one in found] == ["model.path"]
    assert [one.key for one in wrong_with(named(""))] == ["model.path"]


def test_the_form_says_it_and_does_not_start(tmp_path):
    commands = FakeCommands()

    async def steps(app, pilot):
        await settle(app, pilot)
        await checked(app, pilot)
        await write(app, pilot, "model.path", "./nosuch")
        assert says(app, "✗ ./nosuch: no such folder, and not a Hub id") and says(app, "✗ 1 problem: model.path")
        await pilot.press("f5", "f6")
        await settle(app, pilot)
        assert "no such folder" in notes(app)[-1]
        await write(app, pilot, "model.path", "some/model")
        assert says(app, "✓ in order, 1 changed; some/model is taken for a Hub id, looked up when the run begins")

    drive(tmp_path / "runs", steps, LARGE, screen=lambda: NewScreen(commands=commands))
    assert commands.launched == commands.queued == []
