"""The line in which the words of a filter are typed; it is there only while it is needed."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Horizontal
from textual.message import Message
from textual.widgets import Input, Static

from readwrite_edit.tui.actions import bindings_of
from readwrite_edit.tui.frame import Performing


class FilterLine(Performing, Horizontal):
    """Asks for words; every word must be found."""

    NAME = "filter"
    BINDINGS: ClassVar[list[BindingType]] = [*bindings_of("filter")]

    class Changed(Message):
        """Other words stand in the line."""

    class Closed(Message):
        """Typing is over."""

    def compose(self) -> ComposeResult:
        """A slash and what is typed."""
        yield Static("/ ", markup=False)
        yield Input(placeholder="words in name, recipe, kind, status, tags, note", compact=True, select_on_focus=False)

    @property
    def words(self) -> list[str]:
        """The words, in lower case; none where nothing is filtered."""
        return self.query_one(Input).value.lower().split()

    def open(self) -> None:
        """Take the keys."""
        self.add_class("-open")
        self.query_one(Input).focus()

    def on_input_changed(self, message: Input.Changed) -> None:
        """Each letter counts at once."""
        message.stop()
        self.post_message(self.Changed())

    def on_input_submitted(self, message: Input.Submitted) -> None:
        """Enter in the line."""
        message.stop()
        self.do_keep()

    def do_keep(self) -> None:
        """Leave the line; its words stay in force, and in sight."""
        self.set_class(bool(self.words), "-open")
        self.post_message(self.Closed())

    def do_clear(self) -> None:
        """Leave the line without words."""
        self.query_one(Input).value = ""
        self.do_keep()
