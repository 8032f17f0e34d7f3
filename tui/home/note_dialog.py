"""The dialog in which a user writes a note and tags on a run."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import Input, Static

from readwrite_edit.runs.notes import Note
from readwrite_edit.terminal import printable
from readwrite_edit.tui.actions import bindings_of
from readwrite_edit.tui.frame import Performing
from readwrite_edit.tui.key_line import KeyLine


class NoteDialog(Performing, ModalScreen[Note | None]):
    """Two lines to write in; gives the note, or None where it is to stay as it was."""

    NAME = "note"
    BINDINGS: ClassVar[list[BindingType]] = [*bindings_of("note")]

    def __init__(self, name: str, note: Note) -> None:
        """Take the run's name and what stands on it now."""
        super().__init__()
        self._run_name, self._note = name, note

    def compose(self) -> ComposeResult:
        """A box with both lines."""
        with Vertical(classes="dialog"):
            yield Static(f"Note on {printable(self._run_name)}", markup=False, classes="section")
            yield Input(printable(self._note.text), id="note", placeholder="a sentence", compact=True)
            yield Static("Tags, with commas between them", markup=False, classes="section")
            tags = ", ".join(map(printable, self._note.tags))
            yield Input(tags, id="tags", placeholder="keep, baseline", compact=True)
            yield KeyLine(alone=True)

    def on_mount(self) -> None:
        """Begin with the note."""
        self.query_one("#note", Input).focus()

    def on_input_submitted(self) -> None:
        """Enter in a line."""
        self.action_perform("note.save")

    def do_save(self) -> None:
        """Close with what was written."""
        tags = tuple(tag.strip() for tag in self.query_one("#tags", Input).value.split(",") if tag.strip())
        self.dismiss(Note(self.query_one("#note", Input).value.strip(), tags))

    def do_leave(self) -> None:
        """Close without a change."""
        self.dismiss(None)
