"""What lists of fields share: arrows and tab go from field to field, letters are for typing."""

from __future__ import annotations

from typing import ClassVar

from textual.actions import SkipAction
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.widgets import Button, Input, Switch

from readwrite_edit.tui.forms.row import Choice


class Fields(VerticalScroll, can_focus=False):
    """Printable keys typed within it reach no action of screen or application."""

    # With priority the focus moves before the next key is handed out: what is typed ahead lands in the next field.
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("down", "step(1)", show=False, priority=True),
        Binding("up", "step(-1)", show=False, priority=True),
        Binding("tab", "app.focus_next", show=False, priority=True),
        Binding("shift+tab", "app.focus_previous", show=False, priority=True),
    ]

    def check_consume_key(self, key: str, character: str | None) -> bool:
        """Letters are for typing, wherever among the fields the focus is."""
        return character is not None and character.isprintable()

    def action_step(self, way: int) -> None:
        """Go to the next field, or the one before; several lines of text and an open list keep their arrows."""
        if not isinstance(self.screen.focused, Input | Choice | Switch | Button):
            raise SkipAction
        if way > 0:
            self.screen.focus_next()
        else:
            self.screen.focus_previous()
