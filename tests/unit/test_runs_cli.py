"""``runs stop`` and ``runs tail`` say what is true of the kind of run."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest

from readwrite_edit.cli import main
from readwrite_edit.cli import run_tail as command
from readwrite_edit.runs.writer import RunWriter


def started(root: Path, kind: str) -> RunWriter:
    return RunWriter.start(root / kind, recipe_text="", recipe_name=kind, kind=kind)


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("align", "it saves and ends at its next step"),
        ("probe", "it saves and ends at its next step"),
        ("edit", "an edit has nothing to save: it ends at its next check, without an adapter"),
    ],
)
def test_what_a_stop_does(tmp_path: Path, kind: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    with started(tmp_path, kind) as run:
        assert main(["runs", "stop", kind, "--root", str(tmp_path)]) == 0
        assert run.stop_requested()
        run.mark("stopped")
    assert capsys.readouterr().out == f"asked {kind} to stop: {said}\n"


def test_the_tail_of_an_edit_is_its_console_and_its_state(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with started(tmp_path, "edit") as run:
        run.folder.console.write_text("one\ntwo \x1b[31m\nthree\nunfini", encoding="utf-8")
        assert main(["runs", "tail", "edit", "-n", "2", "--root", str(tmp_path)]) == 0
        assert capsys.readouterr().out == f"two \\x1b[31m\nthree\n{run.folder.path}  ▶ running  0\n"
        assert main(["runs", "tail", "edit", "-n", "1", "--json", "--root", str(tmp_path)]) == 0
        line, state = map(json.loads, capsys.readouterr().out.splitlines())
        assert line == {"kind": "console", "text": "three"}
        assert (state["kind"], state["status"], state["step"]) == ("state", "running", 0)
        run.folder.console.unlink()
        run.mark("finished")
    assert main(["runs", "tail", "edit", "--root", str(tmp_path)]) == 0
    assert capsys.readouterr().out == f"{run.folder.path}  ✓ finished  0\n"


def test_following_an_edit_prints_what_its_console_gets_until_it_ends(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    printed, goes_on = [], threading.Event()

    def note(line: str, as_json: bool) -> None:
        printed.append(line)
        goes_on.set()

    monkeypatch.setattr(command, "_print_line", note)
    monkeypatch.setattr(command, "_FOLLOW_EVERY_S", 0.01)
    with started(tmp_path, "edit") as run:
        run.folder.console.write_text("one\n", encoding="utf-8")
        follower = threading.Thread(target=main, args=(["runs", "tail", "edit", "--follow", "--root", str(tmp_path)],))
        follower.start()
        for line in ("two", "three"):
            assert goes_on.wait(30)
            goes_on.clear()
            with run.folder.console.open("a", encoding="utf-8") as console:
                console.write(f"{line}\n")
        assert goes_on.wait(30)
        run.mark("stopped")
    follower.join(30)
    assert printed == ["one", "two", "three"]
    assert capsys.readouterr().out.endswith("■ stopped  0\n")


def test_a_run_that_has_logged_nothing_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with started(tmp_path, "probe") as run:
        run.mark("finished")
    assert main(["runs", "tail", "probe", "--root", str(tmp_path)]) == 0
    assert capsys.readouterr() == (
        "",
        "probe: This probe logged no values: its result is in its report, its matrices in its geometry.\n",
    )
