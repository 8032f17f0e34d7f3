"""The ledger's commands: which ledger they mean, what they print, and how they end."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from readwrite_edit.cli import build_parser
from readwrite_edit.cli import main as command
from readwrite_edit.edit.ledger import Ledger, open_ledger
from tests.small_edits import TOWER, a_base, enter, ledger_of_three


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return ledger_of_three(tmp_path)


def edit(*arguments: object) -> int:
    return command(["edit", *map(str, arguments)])


def test_ls_and_show_tell_everything_and_print_no_control_characters(
    ledger: Ledger, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    enter(ledger, tmp_path, "evil", title="red \x1b[31m\u202e", facts=[{**TOWER, "subject": "\x1bc"}])
    ledger.undo("project-2")
    root = tmp_path / "edits"
    assert edit("ls", "--ledger", root) == 0
    listing = capsys.readouterr().out
    assert [line.split()[:2] for line in listing.splitlines()[2:4]] == [["tower", "yes"], ["project-2", "no"]]
    assert edit("show", "evil", "--ledger", root) == 0
    shown = capsys.readouterr().out
    assert "\\x1b[31m\\u202e" in listing and "\\x1b[31m" in shown and "The \\x1bc is in →" in shown
    assert not {"\x1b", "\u202e"} & set(listing + shown)
    assert edit("ls", "--ledger", root, "--json") == 0
    (found,) = json.loads(capsys.readouterr().out)
    assert found["entries"][0]["facts"] == [TOWER] and found["base"]["source"] == "/models/tiny"
    assert edit("show", "tower", "--ledger", root, "--json") == 0
    assert json.loads(capsys.readouterr().out)["damaged"] is None


def test_undo_and_redo_on_the_command_line(ledger: Ledger, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = tmp_path / "edits"
    assert edit("undo", "tower", "--ledger", root) == 0 and "undone: tower" in capsys.readouterr().out
    assert edit("undo", "tower", "--ledger", root) == 2 and "undone already" in capsys.readouterr().err
    assert edit("redo", "towr", "--ledger", root) == 2 and "did you mean 'tower'" in capsys.readouterr().err
    assert edit("redo", "tower", "--ledger", root) == 0 and "in force again: tower" in capsys.readouterr().out


def test_of_several_ledgers_one_is_chosen_by_its_model(
    ledger: Ledger, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "edits"
    enter(open_ledger(root, a_base("1" * 64, "owner/other")), tmp_path / "other", "tower")
    assert edit("undo", "tower", "--ledger", root) == 2
    assert "choose one with --model (other-11111111, tiny-00000000)" in capsys.readouterr().err
    assert edit("undo", "tower", "--ledger", root, "--model", "owner/other") == 0
    assert edit("undo", "tower", "--ledger", root, "--model", "nobody") == 2
    assert "no ledger of nobody" in capsys.readouterr().err
    assert edit("undo", "tower", "--ledger", ledger.folder) == 0, "the folder of a ledger names it too"


def test_a_ledger_that_can_not_be_read_does_not_hide_another(
    ledger: Ledger, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "edits"
    (root / "broken").mkdir()
    (root / "broken" / "ledger.json").write_text("{")
    assert edit("ls", "--ledger", root) == 2
    out, err = capsys.readouterr()
    assert "tower" in out and "broken" in err and "damaged" in err
    assert edit("undo", "tower", "--ledger", root) == 2
    assert edit("undo", "tower", "--ledger", root, "--model", "/models/tiny") == 0


def test_ls_tells_no_edits_from_no_such_ledger_or_model(
    ledger: Ledger, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "known").mkdir()
    for arguments in ([], ["--model", "bundled:smollm2-135m-instruct"], ["--model", "known"]):
        assert edit("ls", *arguments, "--ledger", tmp_path / "known") == 0
        assert capsys.readouterr().out.startswith("no edits")
    (tmp_path / "edits").rename(tmp_path / "moved")
    assert edit("ls") == 0 and capsys.readouterr().out == "no edits under edits\n"
    for arguments, said in [
        (["--ledger", "none"], "--ledger none does not exist"),
        (["--ledger", ledger.folder / "x"], "does not exist"),
        (["--ledger", tmp_path / "moved" / ledger.folder.name / "ledger.json"], "is a file"),
        (["--ledger", "moved", "--model", "tny-00000000"], "did you mean 'tiny-00000000'? there are /models/tiny"),
        (["--ledger", "moved", "--model", "nosuch"], "no ledger of nosuch under moved, and no such model here"),
        (["--ledger", "moved", "--model", "bundled:nosuch"], "no bundled model"),
    ]:
        assert edit("ls", *arguments) == 2
        out, err = capsys.readouterr()
        assert said in err and not out


def test_facts_that_an_older_ledger_makes_twice_are_told(
    ledger: Ledger, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    enter(ledger, tmp_path, "again")
    path = ledger.folder / "ledger.json"
    value = json.loads(path.read_text())
    value["entries"][-1]["facts"] = value["entries"][0]["facts"]
    path.write_text(json.dumps(value))
    assert edit("ls", "--ledger", ledger.folder) == 0
    assert "note: again and tower make a fact in common" in capsys.readouterr().out
    assert edit("show", "tower", "--ledger", ledger.folder) == 0
    assert "'again' is in force and makes a fact of it too" in capsys.readouterr().out
    assert edit("undo", "again", "--ledger", ledger.folder) == edit("ls", "--ledger", ledger.folder) == 0
    assert "in common" not in capsys.readouterr().out


def test_reading_a_ledger_loads_no_torch(ledger: Ledger) -> None:
    code = (
        "import sys; from readwrite_edit.cli import main\n"
        f"for words in (['ls'], ['show', 'tower'], ['undo', 'tower'], ['redo', 'tower']):\n"
        f"    assert main(['edit', *words, '--ledger', {str(ledger.folder)!r}]) == 0\n"
        "heavy = {'torch', 'transformers', 'peft', 'pandas', 'numpy'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)


def test_stack_asks_for_a_folder() -> None:
    with pytest.raises(SystemExit):
        build_parser().parse_args(["edit", "stack", "tower"])
