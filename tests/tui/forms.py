"""What the tests of forms share: waiting, typing, and a stand-in for the command line."""

import os
import sys
import time

from readwrite_edit.runs.launching import Launched, start_detached
from readwrite_edit.tui.forms.process import Answer, Commands
from readwrite_edit.tui.frame import CommandLine
from tests.tui.screens import notes, says

SAYS_NO = "import sys; print('readwrite-edit: no such model \\x1b[31mred'); sys.exit(2)"
MAKES_A_RUN = """
import json, pathlib, sys, time
folder = pathlib.Path(sys.argv[sys.argv.index("--run-dir") + 1])
folder.mkdir(parents=True)
state = {"schema": 1, "status": "finished", "kind": "KIND", "recipe": "x", "step": 1, "max_steps": 1, "segment": 0,
         "segment_starts": [0], "started_s": 1.0, "heartbeat_s": 1.0, "pid": 1, "hostname": "elsewhere", "error": None}
(folder / "recipe.yaml").write_text("")
(folder / "state.json").write_text(json.dumps(state))
"""


class FakeCommands(Commands):
    """Real processes, of a small program instead of the command line; questions are answered from a list."""

    def __init__(self, script=SAYS_NO, answers=()):
        self.script, self.answers = script, list(answers)
        self.asked, self.launched, self.queued = [], [], []

    async def ask(self, argv):
        self.asked.append(list(argv))
        return self.answers.pop(0) if self.answers else Answer(0, "[]", ())

    def launch(self, argv, *, root, name):
        self.launched.append(list(argv))
        root.mkdir(parents=True, exist_ok=True)
        log = root / f"{name}.log"
        command = [sys.executable, "-S", "-c", self.script, *argv]
        handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        try:
            process = start_detached(command, output=handle)
        finally:
            os.close(handle)
        return Launched(pid=process.pid, log=log, command=command, process=process)

    def queue(self, argv, *, root, name):
        self.queued.append((list(argv), name))


async def until(app, pilot, holds, seconds=10.0):
    """Wait until a condition holds; fails with what stands on the screen."""
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, f"not within {seconds} s; notes {notes(app)}"
        await pilot.pause(0.01)


async def checked(app, pilot):
    """Wait until what was typed last has been checked, and written at its field."""
    screen = app.screen
    await until(app, pilot, lambda: screen._checked == screen._edit and screen.opened is not None)
    await app.workers.wait_for_complete()
    await pilot.pause()


async def write(app, pilot, key, text):
    """Type a text into a field, in place of what is there."""
    screen = app.screen
    if key not in screen.form._rows:
        screen.form.find(key)
        await app.workers.wait_for_complete()
    row = screen.form._rows[key]
    row.editor.focus()
    await pilot.pause()
    row.write("")
    await pilot.press(*(_name(char) for char in text))
    await checked(app, pilot)


def _name(char):
    return {"\n": "enter", " ": "space"}.get(char, char)


def command(app):
    return app.screen.query_one(CommandLine).command


__all__ = ["MAKES_A_RUN", "SAYS_NO", "FakeCommands", "checked", "command", "notes", "says", "until", "write"]
