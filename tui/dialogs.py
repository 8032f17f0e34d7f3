"""Questions and the list of keys, over whatever screen is open."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import Static

_LEGEND = (
    "Ages count from a run's last sign. A run is silent when its host is another one and it gave no sign for long."
)


class ConfirmDialog(ModalScreen[bool]):
    """Asks one question; gives True only for ``y``."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("y", "answer(True)", "yes", id="confirm.yes"),
        Binding("n,escape,q", "answer(False)", "no", id="confirm.no"),
    ]

    def __init__(self, question: str, command: str) -> None:
        """Take texts that are safe to show: the question, and the command it stands for."""
        super().__init__()
        self._question = question
        self._command = command

    def compose(self) -> ComposeResult:
        """A box with the question, the command and the two keys."""
        with Vertical(classes="dialog"):
            yield Static(self._question, markup=False)
            yield Static(self._command, markup=False, classes="dim")
            yield Static("y  yes        n  no", markup=False)

    def action_answer(self, answer: bool) -> None:
        """Close with the answer."""
        self.dismiss(answer)


class HelpDialog(ModalScreen[None]):
    """The keys that do something on the screen below."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q,question_mark,enter", "close", "close", id="help.close"),
    ]

    def __init__(self, keys: Sequence[tuple[str, str]]) -> None:
        """Take pairs of a key and what it does."""
        super().__init__()
        self._keys = keys

    def compose(self) -> ComposeResult:
        """A box with one line per key."""
        width = max((len(key) for key, _ in self._keys), default=0)
        with Vertical(classes="dialog"):
            yield Static("\n".join(f"{key:<{width}}  {text}" for key, text in self._keys), markup=False)
            yield Static(_LEGEND, classes="dim", markup=False)

    def action_close(self) -> None:
        """Back to the screen below."""
        self.dismiss(None)
