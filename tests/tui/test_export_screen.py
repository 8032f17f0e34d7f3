"""The Export screen: checklist, dry run, export, upload."""

import json
from pathlib import Path

import pytest

from readwrite_edit.tui.dialogs import ConfirmDialog
from readwrite_edit.tui.forms.export_checks import checklist, size_text
from readwrite_edit.tui.forms.export_screen import ExportScreen, planned_text
from readwrite_edit.tui.forms.process import Answer
from tests.tui.forms import FakeCommands, command, until
from tests.tui.screens import LARGE, drive, notes, pictured, says, settle, shown, still_run

PLAN = {"dry_run": True, "to": "out", "push": "me/it", "address": None, "files": [
    {"name": "README.md", "size_bytes": 6720, "estimated": False},
    {"name": "model\x1b.safetensors", "size_bytes": 3_700_000, "estimated": True},
]}  # fmt: skip


@pytest.fixture
def run(tmp_path):
    """A finished run whose files say that all is well."""
    path = still_run(tmp_path / "runs", "20250101-000000-dpo")
    (path / "adapter").mkdir()
    (path / "adapter" / "adapter_model.safetensors").write_bytes(b"0" * 2000)
    (path / "adapter" / "adapter_config.json").write_text(json.dumps({"r": 16, "target_modules": ["k_proj", "q_proj"]}))
    base = {"source": "bundled:smollm2-135m-instruct", "revision": None, "dtype": "float32", "quantization": None}
    (path / "adapter" / "readwrite_edit.json").write_text(json.dumps({"base": base}))
    certified(path, passed=True)
    return path


def certified(path, *, passed, detail="logits differ by 0"):
    checks = [{"name": "reload", "passed": passed, "detail": detail}]
    (path / "summary.json").write_text(json.dumps({"certificate": {"passed": passed, "checks": checks}}))


def export(path, commands=None):
    return lambda: ExportScreen(path, commands=commands or FakeCommands())


def found(path):
    return {check.name: (check.passed, check.text) for check in checklist(path)}


def test_the_list_says_what_is_there_and_the_dry_run_what_would_be_written(run):
    commands = FakeCommands(answers=[Answer(0, json.dumps(PLAN), ()), Answer(2, "", ("the disk is \x1b full",))])

    async def steps(app, pilot):
        await settle(app, pilot)
        for text in ("✓ certificate  its one check passed", "✓ names", "LoRA of rank 16 on k_proj, q_proj", "· model"):
            assert says(app, text)
        await pilot.press("f4")
        await settle(app, pilot)
        assert says(app, "would write to out") and says(app, "6.72 kB  README.md")
        assert "--dry-run --json" in command(app) and "\x1b" not in "".join(shown(app))
        await pilot.press("f4")
        await settle(app, pilot)
        assert says(app, "✗ the disk is")

    drive(run.parent, steps, screen=export(run, commands))
    assert commands.asked[0] == ["export", str(run), "--to", "exports/20250101-000000-dpo", "--dry-run", "--json"]


def test_what_is_wrong_is_told_in_words(run):
    certified(run, passed=False, detail="by 3\x1b[31m")
    assert found(run)["certificate"] == ("no", "not passed: reload (by 3\\x1b[31m)")
    (run / "summary.json").write_text("[")
    assert found(run)["certificate"] == ("no", "none: the run did not finish")
    (run / "adapter" / "adapter_config.json").write_text("[]")
    assert found(run)["names"][0] == "no"
    (run / "adapter" / "readwrite_edit.json").unlink()
    assert found(run)["base"][0] == "no" and "missing: readwrite_edit.json" in found(run)["files"][1]
    (run / "state.json").unlink()
    assert found(run)["run"][0] == "no"
    assert found(run.parent / "nosuch")["run"][0] == "no"


def test_a_run_that_did_not_pass_is_neither_exported_nor_pushed(run):
    certified(run, passed=False)
    commands = FakeCommands()

    async def steps(app, pilot):
        await settle(app, pilot)
        await pilot.press("f5", "f9")
        await settle(app, pilot)
        assert [note.partition(":")[0] for note in notes(app)] == ["export", "push"]
        assert "not passed: reload" in notes(app)[0]

    drive(run.parent, steps, screen=export(run, commands))
    assert commands.launched == []


def test_an_edit_s_run_names_the_ledger(tmp_path):
    path = still_run(tmp_path, "e", kind="edit")
    assert [check.passed for check in checklist(path)] == ["no"] and "ledger" in checklist(path)[0].text


def test_export_and_push_ask_for_the_repository_by_name(run):
    commands = FakeCommands("print('written to out')")

    async def steps(app, pilot):
        await settle(app, pilot)
        await pilot.press("f9")
        await pilot.pause()
        assert notes(app) == ["push: name a repository first, owner/name"]
        await pilot.press("f5")
        await until(app, pilot, lambda: says(app, "written to out"))
        assert says(app, "✓ done")
        await pilot.press("f5")
        await until(app, pilot, lambda: len(commands.launched) == 2 and says(app, "✓ done"))
        app.screen.query_one("#push").focus()
        await pilot.press(*"me/it", "f9")
        await pilot.pause()
        assert isinstance(app.screen, ConfirmDialog) and says(app, "to me/it?") and says(app, "--push me/it")
        await pilot.press("n", "f9")
        await pilot.pause()
        await pilot.press("y")
        await until(app, pilot, lambda: len(commands.launched) == 3)
        await until(app, pilot, lambda: says(app, "✓ done"))

    drive(run.parent, steps, LARGE, screen=export(run, commands))
    first, second, third = commands.launched
    assert first == second == ["export", str(run), "--to", "exports/20250101-000000-dpo"]
    assert third == [*first, "--force", "--push", "me/it"]  # an upload may replace what was written a moment ago


def test_a_failed_upload_says_why_before_it_lists_what_was_written(run):
    script = "import sys; print('written to out', *range(8), 'the hub says no', sep='\\n'); sys.exit(2)"

    async def steps(app, pilot):
        await settle(app, pilot)
        await pilot.press("f5")
        await until(app, pilot, lambda: says(app, "exit code 2"))
        lines = shown(app)
        at = next(place for place, line in enumerate(lines) if "exit code 2" in line)
        assert "the hub says no" in lines[at + 1]

    drive(run.parent, steps, screen=export(run, FakeCommands(script)))


def test_letters_and_switches(run):
    async def steps(app, pilot):
        await settle(app, pilot)
        await pilot.press(*"qy", "down", "q", "space")
        await settle(app, pilot)
        assert app.is_running and "dpoqy --merge" in command(app) and says(app, "yes")

    drive(run.parent, steps, screen=export(run))


def test_readonly_checks_and_writes_nothing(run):
    commands = FakeCommands(answers=[Answer(0, json.dumps(PLAN), ())])

    async def steps(app, pilot):
        await settle(app, pilot)
        await pilot.press("f5", "f9", "f4")
        await settle(app, pilot)
        assert sum("--readonly" in note for note in notes(app)) == 2 and says(app, "would write to out")

    drive(run.parent, steps, screen=export(run, commands), readonly=True)
    assert commands.launched == []


@pytest.mark.parametrize("answer", ["", "[]", '{"files": 3}', '{"files": [3]}', "[" * 100000])
def test_an_answer_that_is_no_plan_is_none(answer):
    assert planned_text(answer) is None


def test_it_looks_so(tmp_path, run, snap_compare):
    commands = FakeCommands(answers=[Answer(0, json.dumps(PLAN), ())])

    async def steps(app, pilot):
        await pilot.press("f4")

    assert pictured(snap_compare, tmp_path, steps, screen=export(Path("runs") / run.name, commands))


def test_sizes():
    assert [size_text(size) for size in (0, 999, 6720)] == ["0 bytes", "999 bytes", "6.72 kB"]
    assert [size_text(size) for size in (3_700_000, 2.5e12)] == ["3.7 MB", "2.5 TB"]
