"""A form that a run comes of: where its recipe is from, where the run goes, start and queue."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from rich.text import Text
from textual import work
from textual.app import ComposeResult
from textual.containers import Horizontal
from textual.message import Message
from textual.widgets import Input, Select, Static

from readwrite_edit.errors import ReadWriteEditError
from readwrite_edit.runs.folder import new_run_path
from readwrite_edit.terminal import printable
from readwrite_edit.tui.forms.process import Commands
from readwrite_edit.tui.forms.row import Choice, Line
from readwrite_edit.tui.forms.screen import FormScreen
from readwrite_edit.tui.frame import command_text

if TYPE_CHECKING:
    from readwrite_edit.tui.forms.source import Opened


class RunForm(FormScreen):
    """A form whose command makes a run.

    Args:
        source: What to start from: a name of the list, a file, or a run's folder.
        commands: How commands are started.
    """

    TITLE_OF: ClassVar[str]

    @dataclass
    class Listed(Message):
        """A worker has listed what a form can start from, and the models that are known."""

        names: list[str]
        models: list[str]

    @dataclass
    class Queued(Message):
        """A command was put into the queue, or why not."""

        folder: Path
        problem: str = ""

    def __init__(self, source: str, *, commands: Commands | None = None) -> None:
        super().__init__(commands)
        self.source = source
        self.models: list[str] = []
        self._suggested = ""
        self._used: set[Path] = set()

    # ---- what a screen says

    def sources(self) -> list[str]:
        """Names of what a form can start from; called in a worker."""
        raise NotImplementedError

    def run_name(self) -> str:
        """What the run is called after."""
        raise NotImplementedError

    def run_arguments(self) -> list[str]:
        """The command without the run's folder."""
        raise NotImplementedError

    # ---- what stands above the form

    def choices(self) -> ComposeResult:
        """What to start from, the run's folder, words of keys."""
        with Horizontal(classes="choices"):
            yield Static("from", classes="word")
            yield Choice([], prompt="…", id="source", compact=True)
            yield Static("or file", classes="word")
            yield Line(placeholder="file or run's folder, enter", id="file", compact=True)
        with Horizontal(classes="choices"):
            yield Static("run", classes="word")
            yield Line(id="folder", compact=True)
            yield Static("find", classes="word")
            yield Line(placeholder="words of a key (F3)", id="find", compact=True)

    def on_mount(self) -> None:
        """Read what the form starts from, and the list of that."""
        self.set_title(self.TITLE_OF)
        self._list(self.desk.root)
        self.open(self.source)

    @work(thread=True, group="list")
    def _list(self, root: Path) -> None:
        from readwrite_edit.tui.forms.source import known_models

        self.post_message(self.Listed(self.sources(), known_models(root)))

    def on_run_form_listed(self, message: Listed) -> None:
        """Offer them."""
        self.models = message.models
        choice = self.query_one("#source", Choice)
        choice.set_options([(Text(name), name) for name in message.names])
        if self.source in message.names:
            choice.value = self.source

    def choose_another(self) -> None:
        """Go to the line for a file."""
        self.query_one("#file", Line).focus()

    def suggestions(self) -> dict[str, Sequence[str]]:
        """Models of other runs."""
        return {"model.path": self.models}

    def took(self, opened: Opened) -> None:
        """Show the recipe under its name, with a folder for its run."""
        self.source = opened.source
        self.set_title(f"{self.TITLE_OF} · {self.source}")
        self.suggest_folder()

    def on_select_changed(self, event: Select.Changed) -> None:
        """Something else to start from was chosen."""
        if event.select.id == "source" and event.value not in (Select.NULL, self.source):
            self.open(str(event.value))

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """A file was named."""
        if event.input.id == "file" and event.value.strip():
            self.open(event.value.strip())

    def typed(self, line: str, text: str) -> None:
        """Another folder for the run."""
        if line == "folder":
            self.refresh_command()

    # ---- the run's folder

    @property
    def folder(self) -> Path:
        """Where the run goes."""
        return Path(self.query_one("#folder", Line).value.strip() or self._suggested)

    def suggest_folder(self) -> None:
        """A folder that no run has yet and none in the queue will have, unless the user named one."""
        line = self.query_one("#folder", Line)
        if line.value not in ("", self._suggested):
            return
        now = datetime.fromtimestamp(self.desk.clock())
        self._suggested = str(new_run_path(self.desk.root, self.run_name(), now, taken=self._used))
        line.value = self._suggested

    def arguments(self) -> list[str]:
        """The command, its run's folder fixed."""
        return [*self.run_arguments(), "--run-dir", str(self.folder)]

    # ---- start and queue

    def do_start(self) -> None:
        """Start the run, and show it as soon as there is something to see."""
        if self.following is not None:
            self.desk.warn("start: a run is being started; it is shown when its folder is there")
        elif self.ready("start"):
            self.suggest_folder()
            self.refresh_command()
            self.show_log("", [])
            self.query_one("#status", Static).update("▶ starting; the run is shown when its folder is there")
            self.launch(self.arguments(), self.run_name(), self.folder)

    def ended(self, code: int, lines: list[str]) -> None:
        """It ended without a run: say what it said; the form is as it was."""
        self.unkeep()
        status = self.query_one("#status", Static)
        status.add_class("-wrong")
        status.update(f"✗ it ended with exit code {code} before there was a run")
        self.show_log(f"$ {command_text(self.arguments())}", [line for line in lines if not line.startswith("$ ")])
        self.desk.warn("start: the run did not begin; what it said stands below the form")

    def show_log(self, title: str, lines: Sequence[str]) -> None:
        """Show lines that a command printed, below the form; none: away with them."""
        shown = self.query_one("#log", Static)
        shown.update("\n".join([printable(title), *lines]))
        shown.display = bool(lines)

    def do_queue(self) -> None:
        """Put the run into the queue; the form stays, for a variation of it."""
        if self.ready("queue"):
            self.suggest_folder()
            self.refresh_command()
            self._queue(self.arguments(), self.run_name(), self.folder)

    @work(thread=True, group="launch")
    def _queue(self, argv: Sequence[str], name: str, folder: Path) -> None:
        try:
            self.commands.queue(argv, root=self.desk.root, name=name)
        except ReadWriteEditError as error:
            self.post_message(self.Queued(folder, str(error)))
        else:
            self.post_message(self.Queued(folder))

    def on_run_form_queued(self, message: Queued) -> None:
        """Say so; the next run gets a folder of its own."""
        if message.problem:
            self.desk.warn(f"queue: {message.problem}")
            return
        self.desk.tell(f"queued; its folder will be {message.folder}")
        self._used.add(message.folder.absolute())  # nothing lies there before its turn has come
        self.keep()
        self.suggest_folder()
