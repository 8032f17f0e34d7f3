"""The application: its first screen, the keys that work everywhere, its style sheet."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from textual.app import App
from textual.binding import Binding, BindingType

from readwrite_edit.tui.dialogs import HelpDialog
from readwrite_edit.tui.runs_screen import RunsScreen


class RunsApp(App[None]):
    """Shows the runs under a root folder."""

    CSS_PATH = "app.tcss"
    TITLE = "readwrite-edit"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("question_mark", "help", "help", key_display="?", id="app.help"),
        Binding("q", "quit", "quit", id="app.quit"),
    ]

    def __init__(self, root: Path) -> None:
        """Show the runs under ``root``, which need not exist yet."""
        super().__init__()
        self._root = root

    def on_mount(self) -> None:
        """Open the list of runs."""
        self.push_screen(RunsScreen(self._root))

    def action_help(self) -> None:
        """List the keys of the open screen; they come from its bindings, so the list can not go stale."""
        if isinstance(self.screen, HelpDialog):
            return
        bindings = [*self.screen.BINDINGS, *self.BINDINGS]
        keys = [
            (self.get_key_display(binding), binding.description)
            for entry in bindings
            if isinstance(entry, Binding)
            for binding in [next(iter(Binding.make_bindings([entry])))]
        ]
        self.push_screen(HelpDialog(keys))
