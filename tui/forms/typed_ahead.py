"""Keys that are pressed before a form is there: they wait for it, in their order."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING

from textual import events
from textual.dom import DOMNode

from readwrite_edit.tui.actions import ACTIONS, EVERYWHERE

if TYPE_CHECKING:
    from readwrite_edit.tui.forms.screen import FormScreen

_LONGEST_S = 1.0


class TypedAhead:
    """Holds keys back until they are given to the form, or dropped.

    Args:
        screen: That of the form.
    """

    def __init__(self, screen: FormScreen) -> None:
        self._screen = screen
        self._holds, self._gives = True, False
        self._keys: list[events.Key] = []
        self._given: events.Key | None = None

    def take(self, key: events.Key) -> bool:
        """Whether a key was held back. The ways out and help never are, nor is what is typed into a line meanwhile."""
        elsewhere = self._screen.focused is not None and not self._gives
        if not self._holds or key is self._given or elsewhere or self._acts_at_once(key):
            return False
        self._keys.append(key)
        return True

    def _acts_at_once(self, key: events.Key) -> bool:
        app, back = self._screen.desk, f"{self._screen.NAME}.back"
        ways_out = (action for action in ACTIONS if action.place == EVERYWHERE or action.id == back)
        return not key.is_printable and any(key.key in app.keys_of(action) for action in ways_out)

    async def give(self) -> None:
        """Press the keys, each once the one before has done what it does; those pressed meanwhile come after them."""
        self._gives = True
        while self._keys and self._screen.is_current:
            self._given = self._keys.pop(0)
            pressed_in = self._screen.focused or self._screen
            await self._screen.app.on_event(self._given)
            # The last step is for what the application put off when the key had come up to it, such as a focus.
            for node in (*pressed_in.ancestors_with_self, self._screen.app):
                await _caught_up(node)
        self.drop()

    def drop(self) -> None:
        """Hold no longer."""
        self._holds, self._keys = False, []


async def _caught_up(node: DOMNode) -> None:
    """Wait until a widget has dealt with what it was sent so far; one that goes away has."""
    done = asyncio.Event()
    if node.call_later(done.set):
        with suppress(TimeoutError):
            await asyncio.wait_for(done.wait(), _LONGEST_S)
