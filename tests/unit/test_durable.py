"""Outputs appear whole or not at all, and nothing is left beside them."""

from __future__ import annotations

import errno
import math
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from readwrite_edit import durable
from readwrite_edit.durable import try_writing, whole_file, whole_folder, write_json, write_text


@pytest.fixture(params=[0o022, 0o077, 0o002], ids=oct)
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


@pytest.fixture
def full_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_handle: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(durable.os, "fsync", refuse)


def names(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def old_folder(folder: Path) -> Path:
    (folder / "target").mkdir()
    (folder / "target" / "old.txt").write_text("old")
    return folder / "target"


def test_a_file_appears_when_the_block_ends(tmp_path: Path) -> None:
    target = tmp_path / "deeper" / "still" / "file.txt"
    with whole_file(target) as temporary:
        temporary.write_text("new")
        assert not target.exists() and temporary.parent == target.parent, "renaming works within one file system only"
    assert target.read_text() == "new" and names(target.parent) == ["file.txt"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_a_broken_off_file_leaves_the_old_one(tmp_path: Path, error: type[BaseException]) -> None:
    target = tmp_path / "file.txt"
    target.write_text("old")
    with pytest.raises(error), whole_file(target) as temporary:
        temporary.write_text("half")
        raise error
    assert target.read_text() == "old" and names(tmp_path) == ["file.txt"]


def test_a_file_that_was_never_written_whole_never_appears(tmp_path: Path) -> None:
    with pytest.raises(ValueError), whole_file(tmp_path / "file.txt") as temporary:
        temporary.write_text("half")
        raise ValueError
    assert names(tmp_path) == []


def test_readers_see_the_old_file_until_the_new_one_is_whole(tmp_path: Path) -> None:
    """A handle opened before keeps the old content: the file is replaced, not written over."""
    target = tmp_path / "file.txt"
    write_text(target, "old content")
    with target.open() as reader, whole_file(target) as temporary:
        temporary.write_text("new")
        assert target.read_text() == "old content"
        reader_inode = os.fstat(reader.fileno()).st_ino
    assert target.stat().st_ino != reader_inode and target.read_text() == "new"


@pytest.mark.usefixtures("full_disk")
@pytest.mark.parametrize("existing", [True, False])
def test_a_full_disk_leaves_what_was_there(tmp_path: Path, existing: bool) -> None:
    target = tmp_path / "file.txt"
    if existing:
        target.write_text("old")
    with pytest.raises(OSError, match="No space left"):
        write_text(target, "new")
    assert names(tmp_path) == (["file.txt"] if existing else [])
    assert not existing or target.read_text() == "old"


def test_everything_is_on_the_disk_before_the_name_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The content is flushed before the rename, the folder that holds the name after it."""
    events: list[str] = []
    flush, replace = durable._flush, Path.replace
    monkeypatch.setattr(durable, "_flush", lambda path: events.append(path.name) or flush(path))
    monkeypatch.setattr(Path, "replace", lambda self, target: events.append("rename") or replace(self, target))
    write_text(tmp_path / "file.txt", "new")
    assert [event if event in ("rename", tmp_path.name) else "content" for event in events] == [
        "content",
        "rename",
        tmp_path.name,
    ]


def test_files_and_folders_have_the_permissions_that_the_umask_leaves(tmp_path: Path, umask: int) -> None:
    write_text(tmp_path / "file.txt", "x")
    with whole_folder(tmp_path / "folder") as temporary:
        (temporary / "inner").mkdir()
    assert mode(tmp_path / "file.txt") == 0o666 & ~umask
    assert mode(tmp_path / "folder") == mode(tmp_path / "folder" / "inner") == 0o777 & ~umask
    assert os.umask(umask) == umask, "the process's own umask is untouched"


def test_a_folder_replaces_the_old_one_whole(tmp_path: Path) -> None:
    target = old_folder(tmp_path)
    with whole_folder(target) as temporary:
        (temporary / "sub").mkdir()
        (temporary / "sub" / "new.txt").write_text("new")
        assert names(target) == ["old.txt"]
    assert names(tmp_path) == ["target", "target/sub", "target/sub/new.txt"]


@pytest.mark.parametrize("existing", [True, False])
@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_a_broken_off_folder_leaves_the_old_one(tmp_path: Path, error: type[BaseException], existing: bool) -> None:
    if existing:
        old_folder(tmp_path)
    before = names(tmp_path)
    with pytest.raises(error), whole_folder(tmp_path / "target") as temporary:
        (temporary / "new.txt").write_text("half")
        raise error
    assert names(tmp_path) == before


@pytest.mark.usefixtures("full_disk")
def test_a_full_disk_leaves_the_old_folder(tmp_path: Path) -> None:
    target = old_folder(tmp_path)
    with pytest.raises(OSError, match="No space left"), whole_folder(target) as temporary:
        (temporary / "new.txt").write_text("new")
    assert names(tmp_path) == ["target", "target/old.txt"]


class RustError(Exception):
    """As safetensors reports a disk: a kind of its own, the system's number in the text."""


@pytest.mark.parametrize("whole", [whole_file, whole_folder])
def test_what_a_disk_refuses_names_the_target_whichever_library_wrote(tmp_path: Path, whole: Any) -> None:
    refusals = (
        lambda temporary: RustError("Error while serializing: I/O error: (os error 28)"),
        lambda temporary: OSError(errno.ENOSPC, "No space left on device", str(temporary / "weights")),
    )
    for refusal in refusals:
        with pytest.raises(OSError, match="No space left on device") as refused, whole(tmp_path / "target") as place:
            raise refusal(place)
        assert refused.value.errno == errno.ENOSPC and refused.value.filename == str(tmp_path / "target")
    with pytest.raises(RustError, match="bad header"), whole(tmp_path / "target"):
        raise RustError("bad header")
    with pytest.raises(FileNotFoundError) as refused, whole(tmp_path / "target"):
        (tmp_path / "other").read_text()
    assert refused.value.filename == str(tmp_path / "other"), "what another file lacks is said of that file"
    assert names(tmp_path) == []


def test_trying_a_folder_makes_it_writes_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flushed: list[int] = []
    monkeypatch.setattr("os.fsync", lambda handle: flushed.append(os.fstat(handle).st_size))
    try_writing(tmp_path / "new" / "folder")
    try_writing(tmp_path)
    assert len(flushed) == 2 and min(flushed) > 0 and names(tmp_path) == []
    (tmp_path / "file").write_text("mine")
    for place in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises((FileExistsError, NotADirectoryError)):
            try_writing(place)
    assert names(tmp_path) == ["file"]


@pytest.mark.usefixtures("full_disk")
def test_trying_a_folder_on_a_full_disk_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No space left"):
        try_writing(tmp_path / "new" / "folder")
    assert names(tmp_path) == []


def test_a_folder_that_can_not_be_renamed_leaves_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The rename of the new folder fails when the old one is out of the way already."""
    target = old_folder(tmp_path)
    rename = Path.rename

    def failing(self: Path, to: Path) -> Path:
        if (self / "new.txt").exists():
            raise OSError(errno.EIO, "Input/output error")
        return rename(self, to)

    monkeypatch.setattr(Path, "rename", failing)
    with pytest.raises(OSError, match="Input/output"), whole_folder(target) as temporary:
        (temporary / "new.txt").write_text("new")
    assert names(tmp_path) == ["target", "target/old.txt"]


def test_every_file_of_a_folder_is_flushed_before_it_appears(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flushed: list[tuple[str, bool]] = []
    target, flush = tmp_path / "target", durable._flush
    monkeypatch.setattr(durable, "_flush", lambda path: flushed.append((path.name, target.exists())) or flush(path))
    with whole_folder(target) as temporary:
        (temporary / "sub").mkdir()
        (temporary / "sub" / "file.txt").write_text("x")
    assert {("sub", False), ("file.txt", False)} <= set(flushed) and flushed[-1] == (tmp_path.name, True)


def test_the_same_value_gives_the_same_bytes(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"b": 1, "a": ["ü", {"z": None, "y": 0.1}]})
    write_json(tmp_path / "b.json", {"a": ["ü", {"y": 0.1, "z": None}], "b": 1})
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()
    assert "ü" in (tmp_path / "a.json").read_text(encoding="utf-8")


@pytest.mark.parametrize("value", [math.nan, math.inf, object(), {1, 2}])
def test_what_json_can_not_hold_is_refused_and_writes_nothing(tmp_path: Path, value: object) -> None:
    write_json(tmp_path / "file.json", {"old": 1})
    before = (tmp_path / "file.json").read_bytes()
    with pytest.raises((ValueError, TypeError)):
        write_json(tmp_path / "file.json", {"value": value})
    assert (tmp_path / "file.json").read_bytes() == before and names(tmp_path) == ["file.json"]
