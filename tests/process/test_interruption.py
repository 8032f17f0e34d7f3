"""Signals before a run exists, in processes of their own: one line, the signal's exit code, no traceback."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ENDS = {"SIGINT": (130, "interrupted"), "SIGTERM": (143, "terminated"), "SIGHUP": (129, "hung up")}
# A process that sends itself a signal as soon as it imports a module, and tells if it goes on to load models.
WHILE_IMPORTING = """
import os, signal, sys
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # who runs the tests may have had it ignored
class Finder:
    asked = False
    def find_spec(self, name, path=None, target=None):
        if self.asked and name == "transformers":
            print("goes on")
        if name == sys.argv[1] and not self.asked:
            self.asked = True
            os.kill(os.getpid(), signal.Signals[sys.argv[2]])
sys.meta_path.insert(0, Finder())
from readwrite_edit.cli import main
sys.exit(main(sys.argv[3:]))
"""
EDIT = ["edit", "associate", "m", "--prompt", "a", "--subject", "a", "--target", "b", "--dry-run"]
LATER = "import os, signal\nfrom readwrite_edit.cli import main, recipes\n{}\nraise SystemExit(main(['recipes', 'ls']))"
KILL = "os.kill(os.getpid(), signal.SIGINT)"
SWALLOWED = f"""
def listed(args):
    try:
        {KILL}
    except KeyboardInterrupt:
        raise ImportError("a part of a library could not be imported") from None
recipes._list = listed
"""
FORGOTTEN = f"recipes._list = lambda args: exec({KILL!r})"
IGNORED = (
    f"signal.signal(signal.SIGHUP, signal.SIG_IGN)\nrecipes._list = lambda args: {KILL.replace('INT', 'HUP')} or 0"
)


def ended(script: str, *arguments: str, folder: Path) -> tuple[int, str, str]:
    (folder / "started.py").write_text(script, encoding="utf-8")
    command = [sys.executable, "-m", "started", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder)
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize("number", ENDS)
@pytest.mark.parametrize("module", ["argparse", "readwrite_edit.cli.parser", "pydantic", "torch"])
def test_a_signal_while_libraries_are_loaded_is_one_line(module: str, number: str, tmp_path: Path) -> None:
    code, word = ENDS[number]
    assert ended(WHILE_IMPORTING, module, number, *EDIT, folder=tmp_path) == (code, "", f"readwrite-edit: {word}\n")
    assert {path.name for path in tmp_path.iterdir()} <= {"started.py", "__pycache__"}


def test_a_signal_is_not_lost_where_torch_would_import_numpy(tmp_path: Path) -> None:
    """It does so in its C code, and forgets whatever is raised meanwhile."""
    found = ended(WHILE_IMPORTING, "numpy._core.multiarray", "SIGTERM", "evaluate", "m", folder=tmp_path)
    assert found == (143, "", "readwrite-edit: terminated\n")


@pytest.mark.parametrize("what", [SWALLOWED, FORGOTTEN])
def test_an_interruption_that_a_library_met_first_is_one_all_the_same(what: str, tmp_path: Path) -> None:
    """One took it for a failed import; of another, an exec() of text, Python thinks that nobody handled it."""
    assert ended(LATER.format(what), folder=tmp_path) == (130, "", "readwrite-edit: interrupted\n")


def test_a_closed_terminal_that_is_ignored_stays_ignored(tmp_path: Path) -> None:
    """As under nohup."""
    assert ended(LATER.format(IGNORED), folder=tmp_path) == (0, "", "")
