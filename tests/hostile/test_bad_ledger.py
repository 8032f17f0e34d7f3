"""Ledgers as anyone may have left them: refused in words, and what is whole stays usable."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from readwrite_edit.cli import main
from readwrite_edit.edit.ledger import Ledger, open_ledger, read_ledger
from readwrite_edit.errors import EditError
from tests.small_edits import a_base, contents, fake_run


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
    ("change", "said"),
    [
        (lambda value: value.update(schema=2), "schema 2, this version reads up to 1"),
        (lambda value: value["base"].pop("dtype"), "lacks base.dtype"),
        (lambda value: value["entries"][1].pop("adapter_sha256"), "lacks entries.1.adapter_sha256"),
        (lambda value: value["entries"][0].update(active="yes"), "wrong entries.0.active"),
        (lambda value: value["entries"][0].update(name="../../outside"), "wrong entries.0.name"),
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
        with pytest.raises(EditError, match="can not be written"):
            ledger.undo("one")
    finally:
        ledger.folder.chmod(0o755)


def test_a_root_that_is_a_file_is_said_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "edits").write_text("mine")
    found = open_ledger(tmp_path / "edits", a_base())
    with pytest.raises(EditError, match="can not be written"):
        found.add(kind="steer", title="", run=fake_run(tmp_path / "run"))
    assert (tmp_path / "edits").read_text() == "mine"
