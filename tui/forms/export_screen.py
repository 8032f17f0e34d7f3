"""Exporting a run: what is there, a dry run, the export, the upload."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from rich.text import Text
from textual import events, work
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Horizontal, Vertical
from textual.message import Message
from textual.widgets import Static, Switch

from readwrite_edit.terminal import printable
from readwrite_edit.tui.actions import bindings_of
from readwrite_edit.tui.dialogs import ConfirmDialog
from readwrite_edit.tui.forms.export_checks import GLYPHS, Check, checklist, size_text
from readwrite_edit.tui.forms.fields import Fields
from readwrite_edit.tui.forms.launching import Launching
from readwrite_edit.tui.forms.process import Answer, Commands
from readwrite_edit.tui.forms.row import Line
from readwrite_edit.tui.frame import WorkScreen, command_text
from readwrite_edit.tui.run.text_view import wrapped

FOLDER = Path("exports")
_SWITCHES = (
    ("merge", "merged model", "instead of the adapter; needs the base, some minutes and its size on disk"),
    ("force", "replace", "an earlier export in that folder, and nothing else"),
    ("private", "private", "make the repository private"),
)


class ExportFields(Fields):
    """The lines and switches."""


class ExportScreen(Launching, WorkScreen):
    """A checklist, where to, and what the command says.

    Args:
        run: Folder of the run.
        commands: How commands are started.
    """

    NAME: ClassVar[str] = "export"
    BINDINGS: ClassVar[list[BindingType]] = [*bindings_of("export")]
    AUTO_FOCUS: ClassVar[str | None] = "#to"

    @dataclass
    class Listed(Message):
        """A worker has looked at the run."""

        checks: tuple[Check, ...]

    @dataclass
    class Answered(Message):
        """The dry run has ended."""

        answer: Answer

    def __init__(self, run: Path, *, commands: Commands | None = None) -> None:
        super().__init__()
        self.run, self.commands = run, commands or Commands()
        self.checks: tuple[Check, ...] = ()
        self._writing = ""
        self._written: str | None = None

    def body(self) -> ComposeResult:
        """Checklist, fields, what was said."""
        yield Static("… looking at the run", id="checks", markup=False)
        with ExportFields():
            yield from _line("folder", Line(str(FOLDER / self.run.name), id="to", compact=True, select_on_focus=False))
            yield from _switch(*_SWITCHES[0])
            yield from _switch(*_SWITCHES[1])
            yield from _line("repository", Line(placeholder="owner/name on the Hub", id="push", compact=True))
            yield from _line("branch", Line(placeholder="its default branch", id="revision", compact=True))
            yield from _switch(*_SWITCHES[2])
        with Vertical(id="said"):
            yield Static("F4 checks everything and writes nothing.", id="answer", markup=False)

    def on_mount(self) -> None:
        """Look at the run."""
        self.set_title(f"export {self.run.name}")
        self.show_command(self.arguments())
        self._list()

    @work(thread=True, group="list")
    def _list(self) -> None:
        self.post_message(self.Listed(checklist(self.run)))

    def on_export_screen_listed(self, message: Listed) -> None:
        """Show the list."""
        self.checks = message.checks
        self._show_checks()

    def on_resize(self, event: events.Resize) -> None:
        """Fit the list into the width."""
        super().on_resize(event)
        self._show_checks()

    def _show_checks(self) -> None:
        if self.checks:
            width = max(len(check.name) for check in self.checks)
            lines = [line for check in self.checks for line in _check_lines(check, width, self.size.width - 2)]
            self.query_one("#checks", Static).update(Text("\n").join(lines))

    # ---- the command

    def _text(self, name: str) -> str:
        return self.query_one(f"#{name}", Line).value.strip()

    def _on(self, name: str) -> bool:
        return self.query_one(f"#{name}", Switch).value

    def arguments(self, *, push: bool = True) -> list[str]:
        """The command that the fields stand for; without ``push`` as far as the folder."""
        argv = ["export", str(self.run), "--to", self._text("to")]
        push = push and bool(self._text("push"))
        argv += ["--merge"] if self._on("merge") else []
        again = push and self._written == self._text("to")  # an upload writes the folder anew
        argv += ["--force"] if self._on("force") or again else []
        if push:
            argv += ["--push", self._text("push")]
            argv += ["--revision", self._text("revision")] if self._text("revision") else []
            argv += ["--private"] if self._on("private") else []
        return argv

    def on_input_changed(self) -> None:
        """Another folder or repository."""
        self.show_command(self.arguments())

    def on_switch_changed(self, event: Switch.Changed) -> None:
        """Another choice; its word follows."""
        self.query_one(f"#{event.switch.id}-word", Static).update("yes" if event.value else "no")
        self.show_command(self.arguments())

    # ---- actions

    def why_not(self, action_id: str) -> str | None:
        """What can not be exported, and where nothing says where to."""
        name = action_id.partition(".")[2]
        if name == "copy":
            return None
        failed = next((check for check in self.checks if check.passed == "no"), None)
        if failed is not None and name != "dry-run":
            return f"{failed.name}: {failed.text}"
        if not self._text("to"):
            return "name a folder first"
        if self.following is not None:
            return "an export is going on"
        if name == "push" and not self._text("push"):
            return "name a repository first, owner/name"
        return None

    def do_dry_run(self) -> None:
        """Check everything; nothing is written."""
        argv = [*self.arguments(), "--dry-run", "--json"]
        self.show_command(argv)
        self.say(Text("… checking; nothing is written"))
        self._ask(argv)

    @work(exclusive=True, group="ask")
    async def _ask(self, argv: list[str]) -> None:
        self.post_message(self.Answered(await self.commands.ask(argv)))

    def on_export_screen_answered(self, message: Answered) -> None:
        """Show the files, line by line, or why it can not be."""
        answer = message.answer
        planned = None if answer.code else planned_text(answer.out)
        complaints = answer.complaints or (answer.why,)
        self.say(planned or Text("\n".join(f"✗ {line}" for line in complaints), "bold"))

    def do_start(self) -> None:
        """Write the export."""
        self._launch(self.arguments(push=False), self._text("to"))

    def do_push(self) -> None:
        """Upload it, once the user has said yes to this very repository."""
        argv, to = self.arguments(), self._text("to")
        seen = "a private repository" if self._on("private") else "visible as the repository is, public if it is new"
        question = f"Upload {self.run.name} to {self._text('push')}? {seen.capitalize()}."

        def answered(yes: bool | None) -> None:
            if yes:
                self._launch(argv, to)

        self.app.push_screen(ConfirmDialog(printable(question), command_text(argv)), answered)

    def do_copy(self) -> None:
        """Put the command on the clipboard."""
        self.desk.do_copy()

    def _launch(self, argv: list[str], to: str) -> None:
        self.show_command(argv)
        self.say(Text(f"▶ writing to {printable(to)}; it goes on without this program"))
        self._writing = to
        self.launch(argv, f"export-{self.run.name}")

    def refused(self, problem: str) -> None:
        """It could not be started."""
        self.say(Text(printable(f"✗ {problem}"), "bold"))

    def ended(self, code: int, lines: list[str]) -> None:
        """Say what it said; what it wrote may be replaced by an upload's own writing of it."""
        said = [line for line in lines if not line.startswith("$ ")]
        mark, style = ("✓ done", "") if not code else (f"✗ it ended with exit code {code}", "bold")
        self._written = self._writing if not code else self._written
        if code:  # why it failed stands last, below the files of an export that was written but not uploaded
            said = [*said[-1:], *said[:-1]]
        self.say(Text.assemble((mark, style), "\n", "\n".join(said)))

    def say(self, text: Text) -> None:
        """Show what a command said; its text is safe already."""
        self.query_one("#answer", Static).update(text)


def _check_lines(check: Check, names: int, width: int) -> list[Text]:
    """A check under its sign and name; what does not fit goes on below its text."""
    head = f"{GLYPHS[check.passed]} {check.name:<{names}}  "
    rows = [check.text[start:end] for start, end in wrapped(check.text, max(2, width - len(head)))]
    style = "bold" if check.passed == "no" else ""
    return [Text.assemble((head if not row else " " * len(head), style), text) for row, text in enumerate(rows)]


def planned_text(answer: str) -> Text | None:
    """Files and sizes of a dry run, as ``export --dry-run --json`` gives them; None where it is no such answer."""
    try:
        found: Any = json.loads(answer)
    except (ValueError, RecursionError):
        return None
    files = found.get("files") if isinstance(found, dict) else None
    if not isinstance(files, list) or not all(isinstance(file, dict) for file in files):
        return None
    sizes = [file.get("size_bytes") for file in files]
    known = [size if isinstance(size, int) else 0 for size in sizes]
    lines = [f"✓ would write to {found.get('to')}"]
    for file, size in zip(files, known, strict=True):
        estimated = "  (estimated)" if file.get("estimated") else ""
        lines.append(f"  {size_text(size):>10}  {file.get('name')}{estimated}")
    lines.append(f"  {size_text(sum(known)):>10}  in all")
    if found.get("push"):
        lines.append(f"✓ would upload to {found['push']}")
    return Text("\n".join(map(printable, lines)))


def _line(name: str, line: Line) -> ComposeResult:
    with Horizontal(classes="field"):
        yield Static(name, classes="key")
        yield line


def _switch(name: str, heading: str, about: str) -> ComposeResult:
    with Horizontal(classes="field"):
        yield Static(heading, classes="key")
        yield Switch(False, animate=False, id=name)
        yield Static("no", id=f"{name}-word", classes="word")
        yield Static(about, classes="about")
