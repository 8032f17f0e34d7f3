"""The ledger of a model's edits: entered, undone, put back, found again, and shown on the command line."""

from __future__ import annotations

import errno
import json
from pathlib import Path

import pytest

from readwrite_edit import durable
from readwrite_edit.edit.ledger import Ledger, find_ledgers, open_ledger, read_ledger
from readwrite_edit.edit.ledger.entries import adapter_hash
from readwrite_edit.errors import EditError
from tests.small_edits import TOWER, a_base, contents, enter, ledger_of_three


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return ledger_of_three(tmp_path)


def names(ledger: Ledger) -> list[str]:
    return [entry.name for entry in ledger.entries]


def test_nothing_is_written_before_the_first_edit(tmp_path: Path) -> None:
    found = open_ledger(tmp_path / "edits", a_base())
    assert not (tmp_path / "edits").exists() and found.entries == () and found.active == ()
    assert find_ledgers(tmp_path / "edits") == ()


def test_what_is_entered_is_found_again_whole(ledger: Ledger, tmp_path: Path) -> None:
    again = open_ledger(tmp_path / "edits", a_base())
    assert again.folder.name == "tiny-00000000" and names(again) == ["tower", "project-2", "project-adapter-3"]
    assert again.entries == ledger.entries and again.active == again.entries
    tower, project, adapter = again.entries
    assert tower.facts[0].model_dump() == TOWER and tower.statistics_sha256 == "ab" * 32
    assert (project.predicted_damage, adapter.measured) == (0.25, {"kl": 0.5, "odd": None})
    assert tower.created.utcoffset() is not None and tower.run == str(tmp_path / "run-0")
    run = tmp_path / "run-0"
    assert contents(again.path_of(tower)) == contents(run)
    assert tower.adapter_sha256 == adapter_hash(run / "adapter") and again.adapter_of(tower).is_dir()


def test_the_file_has_the_schema_that_is_documented(ledger: Ledger) -> None:
    written = json.loads((ledger.folder / "ledger.json").read_text())
    assert written["schema"] == 1 and written.keys() == {"schema", "base", "entries"}
    assert written["base"].keys() == {"source", "revision", "weights_hash", "dtype", "quantization"}
    assert written["entries"][0].keys() == {
        *("name", "kind", "title", "created", "active", "adapter_sha256", "run", "statistics_sha256"),
        *("predicted_damage", "measured", "facts"),
    }
    assert written["entries"][0]["created"].endswith("Z")


def test_undo_and_redo_change_what_is_in_force_and_nothing_else(ledger: Ledger) -> None:
    before = contents(ledger.folder)
    assert ledger.undo("project-2").active is False
    assert [entry.name for entry in read_ledger(ledger.folder).active] == ["tower", "project-adapter-3"]
    assert {path: data for path, data in contents(ledger.folder).items() if path.startswith("entries")} == {
        path: data for path, data in before.items() if path.startswith("entries")
    }
    ledger.redo("project-2")
    assert contents(ledger.folder)["ledger.json"] == before["ledger.json"]


def test_undo_and_redo_of_what_can_not_be_say_why(ledger: Ledger, tmp_path: Path) -> None:
    enter(ledger, tmp_path, "BRIDGE")
    ledger.undo("tower")
    for act, name, said in [
        (ledger.undo, "tower", "'tower' is undone already.*edit redo tower.*in force: project-2, project-"),
        (ledger.redo, "project-2", "'project-2' is in force already"),
        (ledger.undo, "towre", "did you mean 'tower'"),
        (ledger.undo, "TOWER", "did you mean 'tower'"),
        (ledger.undo, "bridge", "did you mean 'BRIDGE'"),
        (ledger.redo, "zzz", "it has tower, project-2, project-adapter-3, BRIDGE"),
    ]:
        with pytest.raises(EditError, match=said):
            act(name)


def test_names_are_given_once(ledger: Ledger, tmp_path: Path) -> None:
    for name in ("tower", "TOWER"):
        with pytest.raises(EditError, match="is in the ledger"):
            ledger.check_free(name)
        with pytest.raises(EditError, match="is in the ledger"):
            enter(ledger, tmp_path, name)
    enter(ledger, tmp_path, "steer-5")
    assert enter(ledger, tmp_path, None).name == "steer-6", "an automatic name goes round those that are taken"
    ledger.check_free("tower-2")


def test_another_answer_to_the_same_question_contradicts(ledger: Ledger, tmp_path: Path) -> None:
    filled = {"prompt": "The  Eiffel Tower is in", "subject": "Eiffel Tower", "target": " Paris"}
    others = [{**TOWER, "subject": "Big Ben", "target": " Paris"}, {**TOWER, "prompt": "{} lies in", "target": "Bonn"}]
    ledger.check_facts(others)
    with pytest.raises(EditError, match=r"contradicts 'tower'.*edit undo tower, or else"):
        ledger.check_facts([*others, filled], ", or else")
    before = contents(ledger.folder)
    with pytest.raises(EditError, match=r"contradicts 'tower'.*edit undo tower"):
        enter(ledger, tmp_path, "paris", facts=[filled])
    assert contents(ledger.folder) == before
    ledger.undo("tower")
    ledger.check_facts([filled])
    enter(ledger, tmp_path, "paris", facts=[filled])
    with pytest.raises(EditError, match="contradicts 'paris'"):
        ledger.redo("tower")


def test_a_fact_is_in_force_once(ledger: Ledger, tmp_path: Path) -> None:
    same = {"prompt": "The Eiffel  Tower is in", "subject": "Eiffel Tower", "target": "Rome "}
    before = contents(ledger.folder)
    with pytest.raises(EditError, match=r"'tower' makes the fact 'The Eiffel Tower is in → Rome'.*edit undo tower"):
        enter(ledger, tmp_path, "again", facts=[{**TOWER, "subject": "Big Ben"}, same])
    assert contents(ledger.folder) == before
    ledger.undo("tower")
    enter(ledger, tmp_path, "again", facts=[same])
    with pytest.raises(EditError, match="'again' makes the fact"):
        ledger.redo("tower")


@pytest.mark.parametrize("name", ["", "a b", "-a", "ä", "a" * 61, "a\n", "../a"])
def test_a_wrong_name_is_told_the_form(ledger: Ledger, tmp_path: Path, name: str) -> None:
    for act in (lambda: ledger.check_free(name), lambda: enter(ledger, tmp_path, name)):
        with pytest.raises(EditError, match=r"expected up to 60 letters, digits, '_', '\.' and '-', the first"):
            act()
    ledger.check_free("a" * 60)


def test_a_model_that_moved_keeps_its_ledger_and_another_gets_its_own(ledger: Ledger, tmp_path: Path) -> None:
    root = tmp_path / "edits"
    assert open_ledger(root, a_base(source="/elsewhere/model.gguf")).folder == ledger.folder
    other = open_ledger(root, a_base("1" * 64, source="bundled:smollm2-135m-instruct"))
    assert other.folder.name == "smollm2-135m-instruct-11111111" and other.entries == ()


def test_the_rest_of_a_killed_writer_is_ignored_and_cleared(ledger: Ledger, tmp_path: Path) -> None:
    orphan = ledger.folder / "entries" / "orphan"
    for left in (orphan, ledger.folder / "entries" / ".half.abc"):
        (left / "adapter").mkdir(parents=True)
        (left / "adapter" / "half").write_text("half")
    (ledger.folder / ".ledger.json.xyz").write_text("half")
    assert names(read_ledger(ledger.folder)) == names(ledger)
    entry = enter(ledger, tmp_path, "orphan")
    assert "adapter/half" not in contents(ledger.path_of(entry)) and ledger.adapter_of(entry)
    assert not [path for path in ledger.folder.rglob(".*")]


@pytest.mark.parametrize("after", range(7))
def test_a_full_disk_leaves_the_ledger_as_it_was(
    ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    """The disk fills at one flush after the other: of the entry's files and folders, then of ledger.json."""
    before, flushed = contents(ledger.folder), []

    def flush(_handle: int) -> None:
        flushed.append(None)
        if len(flushed) > after:
            raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(durable.os, "fsync", flush)
        with pytest.raises(EditError, match=r"can not be written \(No space left on device\); it is as it was"):
            enter(ledger, tmp_path, "more")
    assert contents(ledger.folder) == before and names(ledger) == names(read_ledger(ledger.folder))
    enter(ledger, tmp_path, "more")
    assert names(read_ledger(ledger.folder))[-1] == "more"


def test_another_process_s_entries_are_kept(ledger: Ledger, tmp_path: Path) -> None:
    """Two snapshots of one ledger: each change starts from what is on the disk."""
    stale = read_ledger(ledger.folder)
    enter(ledger, tmp_path, "later")
    stale.undo("tower")
    assert names(stale)[-1] == "later" and "tower" in [entry.name for entry in ledger.active]
    ledger.redo("tower")
    assert names(ledger)[-1] == "later"
