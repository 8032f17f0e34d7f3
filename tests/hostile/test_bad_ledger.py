"""Ledgers as anyone may have left them: refused in words, and what is whole stays usable."""

from __future__ import annotations

import errno
import json
import os
import re
from pathlib import Path
from typing import Any

import pytest

from readwrite_edit.cli import main
from readwrite_edit.edit.ledger import Ledger, enter_run, open_ledger, read_ledger
from readwrite_edit.edit.ledger.entries import adapter_hash
from readwrite_edit.errors import EditError
from readwrite_edit.runs.folder import RunFolder
from tests.small_edits import a_base, contents, fake_run, with_papers


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    """Two edits."""
    found = open_ledger(tmp_path / "edits", a_base())
    for name in ("one", "two"):
        found.add(kind="steer", title=name, name=name, run=fake_run(tmp_path / name, text=name))
    return found


def rewrite(ledger: Ledger, change: Any) -> None:
    path = ledger.folder / "ledger.json"
    value = json.loads(path.read_text())
    change(value)
    path.write_text(json.dumps(value))


@pytest.mark.parametrize(
    "data",
    [b"", b"{", b"null", b"[]", b"{}", b"\xff\xfe\x00", b'{"schema": true}', b'{"schema": 1}', b"[" * 100_000, b"7"],
)
def test_garbage_is_refused_and_left_alone(ledger: Ledger, tmp_path: Path, data: bytes) -> None:
    path = ledger.folder / "ledger.json"
    path.write_bytes(data)
    for act in (
        lambda: read_ledger(ledger.folder),
        lambda: open_ledger(tmp_path / "edits", a_base()),
        lambda: ledger.undo("one"),
        lambda: ledger.add(kind="steer", title="", run=fake_run(tmp_path / "more")),
    ):
        with pytest.raises(EditError, match=r"ledger\.json .*damaged"):
            act()
    assert path.read_bytes() == data and sorted(os.listdir(ledger.folder / "entries")) == ["one", "two"]


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b'{"a":\n 1,}', "is not JSON from line 2, column 4 on: the ledger is damaged.*put a copy.*or move .*tiny-0"),
        (b"", "is not JSON from line 1"),
        (b"\xff", "is not text in UTF-8"),
        (b"[" * 100_000, "is nested too deeply"),
    ],
)
def test_damage_is_said_in_our_words(
    ledger: Ledger, capsys: pytest.CaptureFixture[str], data: bytes, said: str
) -> None:
    (ledger.folder / "ledger.json").write_bytes(data)
    assert main(["edit", "ls", "--ledger", str(ledger.folder)]) == 2
    assert re.search(said, capsys.readouterr().err)


def test_a_folder_in_the_place_of_the_file_is_damage(
    ledger: Ledger, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = ledger.folder / "ledger.json"
    path.unlink()
    path.mkdir()
    for place in (tmp_path / "edits", ledger.folder):
        assert main(["edit", "ls", "--ledger", str(place)]) == 2
        assert "ledger.json can not be read (Is a directory): the ledger is damaged" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda value: value.update(schema=2), "schema 2, this version reads up to 1"),
        (lambda value: value["base"].pop("dtype"), "lacks base.dtype"),
        (lambda value: value["entries"][1].pop("adapter_sha256"), "lacks entries.1.adapter_sha256"),
        (lambda value: value["entries"][0].update(active="yes"), r"wrong entries.0.active \('yes'; expected true or f"),
        (lambda value: value["entries"][0].update(name="../../outside"), "outside'; expected up to 60 letters"),
        (lambda value: value["entries"][0].update(name="one\n"), "wrong entries.0.name"),
        (lambda value: value["entries"][0].update(name=".."), "wrong entries.0.name"),
        (lambda value: value["entries"][0].update(name="TWO"), "names 'two' twice"),
        (lambda value: value["entries"][0].update(predicted_damage="much"), "wrong entries.0.predicted_damage"),
        (lambda value: value["entries"][0].update(created="2025-01-01T00:00:00"), "wrong entries.0.created"),
        (lambda value: value["entries"][0].update(facts=[{"prompt": "p"}]), "lacks entries.0.facts.0.subject"),
    ],
)
def test_a_wrong_field_is_named(ledger: Ledger, change: Any, said: str) -> None:
    rewrite(ledger, change)
    with pytest.raises(EditError, match=said):
        read_ledger(ledger.folder)


def test_keys_that_are_not_known_are_ignored(ledger: Ledger) -> None:
    rewrite(ledger, lambda value: (value.update(more=1), value["entries"][0].update(note="mine")))
    assert read_ledger(ledger.folder).entries == ledger.entries


def test_a_ledger_of_another_base_is_refused_and_unharmed(ledger: Ledger, tmp_path: Path) -> None:
    rewrite(ledger, lambda value: value["base"].update(weights_hash="0" * 8 + "f" * 56))
    before = contents(ledger.folder)
    with pytest.raises(EditError, match="of another base: /models/tiny") as refused:
        open_ledger(tmp_path / "edits", a_base())
    assert refused.value.exit_code == 2
    with pytest.raises(EditError, match="of another base"):
        ledger.undo("one")
    assert contents(ledger.folder) == before


@pytest.mark.parametrize("how", ["changed", "cut", "added", "gone", "a file"])
def test_a_damaged_entry_is_refused_by_name_and_others_are_not(ledger: Ledger, how: str) -> None:
    one, two = ledger.entries
    adapter = ledger.path_of(one) / "adapter"
    weights = adapter / "adapter_model.safetensors"
    if how == "changed":
        weights.write_bytes(weights.read_bytes().replace(b"one", b"eno"))
    elif how == "cut":
        weights.write_bytes(weights.read_bytes()[:-1])
    elif how == "added":
        (adapter / "more.bin").write_bytes(b"")
    else:
        for path in adapter.iterdir():
            path.unlink()
        adapter.rmdir()
        if how == "a file":
            adapter.write_text("no folder")
    with pytest.raises(EditError, match="edit 'one' is damaged"):
        ledger.adapter_of(one)
    assert ledger.adapter_of(two).is_dir()
    assert ledger.undo("one").active is False, "what is damaged can be taken out of force"
    with pytest.raises(EditError, match="edit 'one' is damaged"):
        ledger.redo("one")
    assert [entry.active for entry in read_ledger(ledger.folder).entries] == [False, True]


def test_show_and_ls_go_on_with_a_damaged_entry(
    ledger: Ledger, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (ledger.path_of(ledger.entries[0]) / "adapter" / "adapter_config.json").unlink()
    assert main(["edit", "ls", "--ledger", str(tmp_path / "edits")]) == 0
    assert main(["edit", "show", "one", "--ledger", str(tmp_path / "edits")]) == 0
    assert "edit 'one' is damaged" in capsys.readouterr().out


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes everywhere")
def test_a_folder_that_can_not_be_written_is_said_in_one_line(ledger: Ledger) -> None:
    ledger.folder.chmod(0o555)
    try:
        for act in (ledger.check_writable, lambda: ledger.undo("one")):
            with pytest.raises(EditError, match="can not be written"):
                act()
    finally:
        ledger.folder.chmod(0o755)


def test_a_root_that_is_a_file_is_said_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "edits").write_text("mine")
    found = open_ledger(tmp_path / "edits", a_base())
    for act in (found.check_writable, lambda: found.add(kind="steer", title="", run=fake_run(tmp_path / "run"))):
        with pytest.raises(EditError, match=r"can not be written.*or name another folder"):
            act()
    assert (tmp_path / "edits").read_text() == "mine"


def test_trying_leaves_nothing_behind(ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = sorted(tmp_path.rglob("*"))
    ledger.check_writable()
    open_ledger(tmp_path / "new" / "edits", a_base()).check_writable()
    monkeypatch.setattr("os.fsync", full_disk)
    for place in (ledger, open_ledger(tmp_path / "new" / "edits", a_base())):
        with pytest.raises(EditError, match=r"can not be written \(No space left on device\): free space"):
            place.check_writable()
    assert sorted(tmp_path.rglob("*")) == before


def full_disk(_handle: int) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def offered(ledger: Ledger, place: Path, **entry: Any) -> RunFolder:
    """A finished run that offers its edit to the ledger."""
    run = fake_run(place)
    offer = {"name": "late", "kind": "steer", "title": "late", "statistics_sha256": None, "predicted_damage": 0.5}
    offer |= {"base": ledger.base.as_dict(), "adapter_sha256": adapter_hash(run.adapter), "facts": []} | entry
    return with_papers(run, entry=offer, certificate={"passed": True}, figures={"kl": 0.25})


def enter(ledger: Ledger, run: RunFolder, *more: str) -> int:
    return main(["edit", "enter", str(run.path), "--ledger", str(ledger.folder.parent), *more])


def test_a_finished_run_is_entered_later(ledger: Ledger, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = offered(ledger, tmp_path / "run")
    assert enter(ledger, run) == 0 and enter(ledger, run, "--name", "other") == 0
    assert "entered: late (late) in" in capsys.readouterr().out
    late, other = read_ledger(ledger.folder).entries[2:]
    assert (late.name, other.name, late.predicted_damage, late.measured) == ("late", "other", 0.5, {"kl": 0.25})
    assert contents(ledger.adapter_of(late)) == contents(run.adapter) and late.run == str(run.path)
    assert enter(ledger, run) == 2
    assert "an edit 'late' is in the ledger" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda run: run.summary.unlink(), "is no finished edit: summary.json can not be read"),
        (lambda run: run.summary.write_text("{"), "it is damaged"),
        (lambda run: with_papers(run, figures={}, certificate=None, entry=None), "passed no certificate"),
        (lambda run: with_papers(run, figures={}, certificate={"passed": False}), "passed no certificate"),
        (lambda run: with_papers(run, figures={}, certificate={"passed": True}), "says nothing for a ledger"),
        (lambda run: (run.adapter / "adapter_config.json").write_text("x"), "is not the adapter that was certified"),
        (lambda run: (run.adapter / "more").mkdir() or (run.adapter / "x").write_text(""), "is not the adapter that"),
    ],
)
def test_what_is_no_certified_edit_is_not_entered(
    ledger: Ledger, tmp_path: Path, capsys: pytest.CaptureFixture[str], damage: Any, said: str
) -> None:
    run, before = offered(ledger, tmp_path / "run"), contents(ledger.folder)
    damage(run)
    assert enter(ledger, run) == 2
    assert said in capsys.readouterr().err and contents(ledger.folder) == before


def test_a_run_of_another_base_gets_a_ledger_of_its_own(ledger: Ledger, tmp_path: Path) -> None:
    before = contents(ledger.folder)
    run = offered(ledger, tmp_path / "run", base=a_base("1" * 64).as_dict())
    with pytest.raises(EditError, match="of another base"):
        enter_run(ledger, run)
    assert enter(ledger, run) == 0
    assert contents(ledger.folder) == before and (tmp_path / "edits" / "tiny-11111111" / "ledger.json").is_file()
