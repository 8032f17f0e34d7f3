"""What all screens and panes have: actions of the table, a title, the command that an action stands for, a least size.

A screen or pane declares ``NAME``, takes its bindings with ``bindings_of(NAME)`` and
has one method ``do_…`` for each of its actions; ``why_not`` says why one does not
apply just now. Nothing here reads a run.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

from rich.text import Text
from textual import events
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Vertical
from textual.screen import Screen
from textual.widgets import DataTable, Static

from readwrite_edit.terminal import printable
from readwrite_edit.tui.actions import BY_ID, bindings_of
from readwrite_edit.tui.key_line import KeyLine

if TYPE_CHECKING:
    from textual.dom import DOMNode as _Node

    from readwrite_edit.tui.app import RunsApp
else:
    _Node = object  # Textual takes the style of the first base that is a node; this must not come before the widget's

LEAST_WIDTH, LEAST_HEIGHT = 60, 16
PROGRAM = "readwrite-edit"


def command_text(arguments: Sequence[str]) -> str:
    """A command as a user would type it; safe to show and to paste."""
    return printable(shlex.join([PROGRAM, *arguments]))


class Performing(_Node):
    """Carries out actions of the table by its methods ``do_…``; stands before the widget among the bases of a class."""

    NAME: ClassVar[str]

    def why_not(self, action_id: str) -> str | None:
        """Why an action does not apply just now, as a clause for the user; None where it does."""
        return None

    def action_perform(self, action_id: str) -> None:
        """Carry out an action, or say why not."""
        action, app = BY_ID[action_id], self.desk
        reason = app.refusal(action) or self.why_not(action_id)
        if reason is None:
            getattr(self, action.method)()
        else:
            app.refuse(f"{action.label}: {reason}")

    @property
    def desk(self) -> RunsApp:
        """The application, by its own type."""
        from readwrite_edit.tui.app import RunsApp

        app = self.app
        assert isinstance(app, RunsApp)  # for the type checker: there is no other
        return app


class CommandLine(Static):
    """The command that the last action stands for; ``y`` copies it."""

    def __init__(self) -> None:
        """Start without one."""
        super().__init__(id="command", markup=False)
        self.command = ""

    def show(self, arguments: Sequence[str]) -> None:
        """Show a command of this program by its arguments."""
        self.command = command_text(arguments)
        self.update(Text(f"$ {self.command}", no_wrap=True, overflow="ellipsis"))


class WorkScreen(Performing, Screen[None]):
    """A screen in the frame: title, body, command, keys; or, where the terminal is too small, what it needs."""

    def compose(self) -> ComposeResult:
        """The frame around the body."""
        yield Static(id="title", markup=False)
        with Vertical(id="body"):
            yield from self.body()
        yield CommandLine()
        yield KeyLine()
        yield Static(id="too-small", markup=False)

    def body(self) -> ComposeResult:
        """The widgets between title and command."""
        raise NotImplementedError

    def set_title(self, text: str) -> None:
        """Write the title line; the text is data and made safe here."""
        title = Text(f"{PROGRAM}  {printable(text)}", no_wrap=True, overflow="ellipsis")
        self.query_one("#title", Static).update(title)

    def holds(self, key: events.Key) -> bool:
        """Whether the screen keeps a key back for now."""
        return False

    @property
    def loses(self) -> int:
        """How many changes are lost with the screen."""
        return 0

    @property
    def lost_command(self) -> str:
        """The command that they make."""
        return ""

    def show_command(self, arguments: Sequence[str]) -> None:
        """Say which command does the same."""
        self.query_one(CommandLine).show(arguments)

    def on_resize(self, event: events.Resize) -> None:
        """Give way to a sentence where the terminal is too small; what lies under it keeps its focus."""
        self.set_class(is_too_small(event.size.width, event.size.height), "-too-small")
        needs = f"{event.size.width}×{event.size.height} is too small:\n{LEAST_WIDTH}×{LEAST_HEIGHT} are needed"
        self.query_one("#too-small", Static).update(needs)


def is_too_small(width: int, height: int) -> bool:
    """Whether a terminal has no room for the screens."""
    return width < LEAST_WIDTH or height < LEAST_HEIGHT


class Pane(Performing, Vertical):
    """A part of a screen with actions of its own; they work while it holds the focus."""


class Table(Performing, DataTable[Text], inherit_bindings=False):
    """A table that takes only the keys that move its cursor, so that enter and space stay actions of the table above.

    Cells are ``Text``: a plain string would be read for markup.
    """

    NAME = "table"
    BINDINGS: ClassVar[list[BindingType]] = [*bindings_of("table")]

    def do_up(self) -> None:
        """Move the cursor up."""
        self.action_cursor_up()

    def do_down(self) -> None:
        """Move the cursor down."""
        self.action_cursor_down()

    def do_left(self) -> None:
        """Move the cursor, or a table of rows, to the left."""
        self.action_cursor_left()

    def do_right(self) -> None:
        """Move the cursor, or a table of rows, to the right."""
        self.action_cursor_right()

    def do_page_up(self) -> None:
        """Move up by what is seen."""
        self.action_page_up()

    def do_page_down(self) -> None:
        """Move down by what is seen."""
        self.action_page_down()

    def do_first(self) -> None:
        """Move to the first row."""
        self.action_scroll_top()

    def do_last(self) -> None:
        """Move to the last row."""
        self.action_scroll_bottom()
