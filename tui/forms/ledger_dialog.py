"""A question whose answer is a folder."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import Static

from readwrite_edit.tui.actions import bindings_of
from readwrite_edit.tui.forms.row import Line
from readwrite_edit.tui.frame import Performing
from readwrite_edit.tui.key_line import KeyLine


class FolderDialog(Performing, ModalScreen[Path | None]):
    """Asks for a folder that is missing or empty; gives None where the user leaves it."""

    NAME: ClassVar[str] = "folder"
    BINDINGS: ClassVar[list[BindingType]] = [*bindings_of("folder")]

    def __init__(self, question: str) -> None:
        """Take a text that is safe to show."""
        super().__init__()
        self._question = question

    def compose(self) -> ComposeResult:
        """A box with the question and a line to type in."""
        with Vertical(classes="dialog"):
            yield Static(self._question, markup=False)
            yield Line(placeholder="a folder that is missing or empty", compact=True)
            yield KeyLine(alone=True)

    def on_input_submitted(self) -> None:
        """Enter in the line."""
        self.action_perform("folder.yes")

    def why_not(self, action_id: str) -> str | None:
        """A folder must be named, and have nothing in it."""
        if action_id == "folder.no":
            return None
        named = self.query_one(Line).value.strip()
        try:
            if not named:
                return "type a folder, or escape to leave it"
            path = Path(named).expanduser()
            taken = path.exists() and (not path.is_dir() or any(path.iterdir()))
        except (OSError, ValueError, RuntimeError) as error:
            return str(error)
        return f"{named} is a file, or not empty; name another" if taken else None

    def do_yes(self) -> None:
        """Close with the folder."""
        self.dismiss(Path(self.query_one(Line).value.strip()).expanduser())

    def do_no(self) -> None:
        """Close without one."""
        self.dismiss(None)
