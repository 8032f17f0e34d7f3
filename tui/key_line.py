"""The line of keys at the foot of a screen or dialog: as many as fit, the way out always."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

from rich.cells import cell_len
from rich.text import Text
from textual import events
from textual.screen import Screen
from textual.widgets import Static

from readwrite_edit.tui.actions import EVERYWHERE, Action

if TYPE_CHECKING:
    from readwrite_edit.tui.app import RunsApp

_GAP = 2
_ALWAYS = ("everywhere.help", "everywhere.quit")


class KeyLine(Static):
    """Shows the first key of each action that works here and has room; a click on one presses it."""

    COMPONENT_CLASSES = {"key-line--key"}  # noqa: RUF012  (as Textual declares it)

    def __init__(self, *, alone: bool = False) -> None:
        """Stand in a screen, or, with ``alone``, in a dialog, where nothing works everywhere."""
        super().__init__(id="keys", markup=False)
        self._alone = alone
        self._places: list[tuple[int, int, str]] = []

    def on_mount(self) -> None:
        """Follow what has the focus."""
        self.screen.bindings_updated_signal.subscribe(self, self._follow)

    def _follow(self, screen: Screen[object]) -> None:
        self.draw()

    def on_resize(self) -> None:
        """Fit the keys into the width."""
        self.draw()

    def draw(self) -> None:
        """Write the line anew."""
        app = cast("RunsApp", self.app)
        if self.screen is not app.screen:
            return  # a dialog lies above: its keys are not those of this screen
        actions = [action for action in app.actions_here() if action.shown and app.heard(action)]
        last = [] if self._alone else [action for action in actions if action.id in _ALWAYS]
        first = [action for action in actions if action not in last]
        first.sort(key=lambda action: action.place == EVERYWHERE)
        room = self.size.width - self._width_of(last)
        while first and self._width_of(first) > room:
            first.pop()
        self.update(self._line(first, last, self.size.width))

    def _label(self, action: Action) -> tuple[str, str]:
        app = cast("RunsApp", self.app)
        key = app.heard(action)[0]
        return key, app.shown_key(key)

    def _width_of(self, actions: Sequence[Action]) -> int:
        return sum(cell_len(self._label(action)[1]) + 1 + cell_len(action.label) + _GAP for action in actions)

    def _line(self, first: Sequence[Action], last: Sequence[Action], width: int) -> Text:
        line, self._places = Text(no_wrap=True), []
        style = self.get_component_rich_style("key-line--key", partial=True)
        for action in (*first, *last):
            if last and action is last[0]:
                line.append(" " * max(0, width - line.cell_len - self._width_of(last) + _GAP - 1))
            start = line.cell_len
            key, shown = self._label(action)
            line.append(shown, style).append(f" {action.label}")
            self._places.append((start, line.cell_len, key))
            line.append(" " * _GAP)
        return line

    def on_click(self, event: events.Click) -> None:
        """Press the key under the pointer."""
        for start, end, key in self._places:
            if start <= event.x < end:
                self.app.simulate_key(key)
