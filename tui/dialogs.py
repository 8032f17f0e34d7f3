"""Questions and the list of keys, over whatever screen is open."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, ClassVar

from textual.app import App, ComposeResult
from textual.binding import BindingType
from textual.containers import Vertical, VerticalScroll
from textual.screen import ModalScreen, Screen
from textual.widgets import Input, Static

from readwrite_edit.tui.actions import bindings_of
from readwrite_edit.tui.frame import Performing, WorkScreen
from readwrite_edit.tui.key_line import KeyLine


def fit_text(dialog: ModalScreen[Any], other_lines: int) -> None:
    """Let the text of a dialog scroll where the terminal has no room for all of it.

    Args:
        dialog: An open one.
        other_lines: How many lines its box has beside the text, its frame included.
    """
    dialog.query_one(".dialog-text").styles.max_height = max(3, dialog.size.height - other_lines)


class ConfirmDialog(Performing, ModalScreen[bool]):
    """Asks one question; gives True only for ``y``."""

    NAME = "confirm"
    BINDINGS: ClassVar[list[BindingType]] = [*bindings_of("confirm")]

    def __init__(self, question: str, command: str) -> None:
        """Take texts that are safe to show: the question, and the command it stands for."""
        super().__init__()
        self._question = question
        self._command = command

    def compose(self) -> ComposeResult:
        """A box with the question, the command and the two keys."""
        with Vertical(classes="dialog"):
            with VerticalScroll(classes="dialog-text"):
                yield Static(self._question, markup=False)
                yield Static(f"$ {self._command}" if self._command else "", markup=False, classes="dim")
            yield KeyLine(alone=True)

    def on_resize(self) -> None:
        """Fit the text into the height."""
        fit_text(self, 6)

    def do_yes(self) -> None:
        """Close with yes."""
        self.dismiss(True)

    def do_no(self) -> None:
        """Close with no."""
        self.dismiss(False)


def ask_to_lose(app: App[Any], question: str, screens: Iterable[Screen[Any]], away: Callable[[], object]) -> None:
    """Go away, after a question where changes would be lost with screens.

    Args:
        app: The application.
        question: Whether to go.
        screens: Those that would be left.
        away: Called to go.
    """
    losing = [screen for screen in screens if isinstance(screen, WorkScreen) and screen.loses]
    if not losing:
        away()
        return

    def answered(yes: bool | None) -> None:
        if yes:
            away()

    count = sum(screen.loses for screen in losing)
    lost = f"{count} changes are lost" if count > 1 else "1 change is lost"
    dialog = ConfirmDialog(f"{question} {lost}; nothing was started with them.", losing[-1].lost_command)
    app.push_screen(dialog, answered)


class TypedDialog(Performing, ModalScreen[bool]):
    """Asks one question that a slip of the hand must not answer; gives True only where the given words were typed."""

    NAME = "typed"
    BINDINGS: ClassVar[list[BindingType]] = [*bindings_of("typed")]

    def __init__(self, question: str, command: str, words: str) -> None:
        """Take texts that are safe to show: question, command, and the words to type."""
        super().__init__()
        self._question, self._command, self._words = question, command, words

    def compose(self) -> ComposeResult:
        """A box with the question, the command and a line to type in."""
        with Vertical(classes="dialog"):
            with VerticalScroll(classes="dialog-text", can_focus=False):
                yield Static(self._question, markup=False)
                yield Static(f"$ {self._command}" if self._command else "", markup=False, classes="dim")
            yield Static(f"To go on, type: {self._words}", markup=False)
            yield Input(compact=True)
            yield KeyLine(alone=True)

    def on_resize(self) -> None:
        """Fit the text into the height."""
        fit_text(self, 9)

    def on_input_submitted(self) -> None:
        """Enter in the line."""
        self.action_perform("typed.yes")

    def why_not(self, action_id: str) -> str | None:
        """Anything but the words does nothing."""
        typed = self.query_one(Input).value.strip()
        return None if action_id == "typed.no" or typed == self._words else f"type {self._words}, or escape to leave it"

    def do_yes(self) -> None:
        """Close with yes."""
        self.dismiss(True)

    def do_no(self) -> None:
        """Close with no."""
        self.dismiss(False)


class HelpDialog(Performing, ModalScreen[None]):
    """The keys that do something on the screen below; scrolls where there are more than fit."""

    NAME = "help"
    BINDINGS: ClassVar[list[BindingType]] = [*bindings_of("help")]

    def __init__(self, sections: Sequence[tuple[str, Sequence[tuple[str, str]]]], legend: str) -> None:
        """Take titles with pairs of a key and what it does, and a text to stand below them."""
        super().__init__()
        self._sections, self._legend = sections, legend

    def compose(self) -> ComposeResult:
        """A box with one line per key."""
        width = max((len(key) for _, keys in self._sections for key, _ in keys), default=0)
        with Vertical(classes="dialog"):
            with VerticalScroll(classes="dialog-text"):
                for title, keys in self._sections:
                    yield Static(title, classes="section", markup=False)
                    yield Static("\n".join(f"{key:>{width}}  {text}" for key, text in keys), markup=False)
                yield Static(self._legend, classes="dim", markup=False)
            yield KeyLine(alone=True)

    def on_resize(self) -> None:
        """Fit the text into the height."""
        fit_text(self, 6)

    def do_close(self) -> None:
        """Back to the screen below."""
        self.dismiss(None)
