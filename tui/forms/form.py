"""A recipe as a form: section by section, the keys that matter first, the others when they are asked for.

Rows are made when they are first to be seen: each is several widgets, and a
recipe has over a hundred keys.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.text import Text
from textual import events, work
from textual.message import Message
from textual.widget import Widget
from textual.widgets import Button, Static

from readwrite_edit.terminal import printable
from readwrite_edit.tui.forms.fields import Fields
from readwrite_edit.tui.forms.row import Row
from readwrite_edit.tui.forms.schema import Field, Part

if TYPE_CHECKING:
    from readwrite_edit.tui.forms.draft import Draft, Wrong

_MORE = 12  # keys that a section unfolds at a time
_MOST_FOUND = 24


class More(Button):
    """Unfolds further keys of a section."""

    def __init__(self, part: Part) -> None:
        """Stand at the end of a section."""
        super().__init__("", compact=True, classes="more")
        self.part = part

    def count(self, left: int) -> None:
        """Say how many keys are folded; of a section that is folded as a whole this is the only line."""
        more = "more keys of" if left < len(self.part.fields) else "keys of"
        self.label = Text(f"▸ {left} {more} {self.part.name}")
        self.display = left > 0


class Form(Fields):
    """The keys of a draft."""

    @dataclass
    class Entered(Message):
        """The cursor is in a field; None where it left the fields."""

        field: Field | None

    def __init__(self) -> None:
        """Start empty."""
        super().__init__(id="form")
        self._draft: Draft | None = None
        self._rows: dict[str, Row] = {}
        self._errors: dict[str, Static] = {}
        self._headings: dict[str, Static] = {}
        self._mores: dict[str, More] = {}
        self._suggestions: Mapping[str, Sequence[str]] = {}
        self._order: dict[str, int] = {}
        self._unfolded: set[str] = set()
        self._words = self._last = ""
        self._changing = asyncio.Lock()

    async def load(
        self, draft: Draft, keys: Collection[str], suggestions: Mapping[str, Sequence[str]] | None = None
    ) -> None:
        """Show a draft.

        Args:
            draft: What to fill in.
            keys: Those to show at once; the others are folded.
            suggestions: What completes the text of a key.
        """
        async with self._changing:
            await self.remove_children()
            self._draft, self._suggestions = draft, suggestions or {}
            self._rows, self._errors, self._headings, self._mores = {}, {}, {}, {}
            self._order = {field.key: place for place, field in enumerate(draft.fields())}
            self._unfolded = set(keys)
            for part in draft.parts:
                heading = Static(Text.assemble((part.name, "bold"), f"  {part.about}"), classes="heading")
                self._headings[part.name], self._mores[part.name] = heading, More(part)
                await self.mount(heading, self._mores[part.name])
            await self._arrange()

    def enter(self) -> None:
        """Go to the field that the cursor was in last, or to the first; at once, so that the next key goes there."""
        shown = [row for row in self._rows.values() if row.display]
        last = next((row for row in shown if row.field.key == self._last), None)
        if shown:
            self.screen.set_focus((last or min(shown, key=lambda row: self._order[row.field.key])).editor)

    @work(group="rows")
    async def find(self, words: str) -> None:
        """Show only keys whose name or description holds these words; none of them: as it was."""
        async with self._changing:
            if self._draft is not None:
                self._words = words.strip().lower()
                await self._arrange()

    @work(group="rows")
    async def mark(self, problems: Iterable[Wrong]) -> None:
        """Write what is wrong below its fields, unfolding them where needed; fields not named are in order."""
        async with self._changing:
            if self._draft is None:
                return
            told: dict[str, list[str]] = {}
            for problem in problems:
                field = self._draft.field(problem.key)
                if field is not None:
                    inner = "" if problem.key == field.key else f"{problem.key}: "
                    told.setdefault(field.key, []).append(inner + problem.message)
            if not told.keys() <= self._unfolded:
                self._unfolded |= told.keys()
                await self._arrange()
            await self._write_errors(told)

    def go_to(self, key: str) -> None:
        """Put the cursor into a field that is shown."""
        if key in self._rows:
            self._rows[key].editor.focus()

    @property
    def row(self) -> Row | None:
        """The row that the cursor is in."""
        focused = self.screen.focused
        found = [] if focused is None else [node for node in focused.ancestors_with_self if isinstance(node, Row)]
        return found[0] if found and found[0].field.key in self._rows else None

    def on_descendant_focus(self, event: events.DescendantFocus) -> None:
        """Say where the cursor is."""
        row = self.row
        self._last = row.field.key if row else self._last
        self.post_message(self.Entered(row.field if row else None))

    def on_button_pressed(self, event: Button.Pressed) -> None:
        """Unfold some further keys of a section, and go to the first of them."""
        event.stop()
        if isinstance(event.button, More):
            self._unfold(event.button.part)

    @work(group="rows")
    async def _unfold(self, part: Part) -> None:
        async with self._changing:
            new = [field.key for field in part.fields if field.key not in self._unfolded][:_MORE]
            self._unfolded.update(new)
            await self._arrange()
        if new:
            self.go_to(new[0])

    async def _arrange(self) -> None:
        """Make the rows that are to be seen, hide the others."""
        assert self._draft is not None
        wanted = [field for field in self._draft.fields() if self._is_wanted(field)]
        shown = {field.key for field in (wanted[:_MOST_FOUND] if self._words else wanted)}
        missing = [field for field in wanted if field.key in shown and field.key not in self._rows]
        with self.app.batch_update():  # or each row would lay the whole screen out anew
            for field in missing:
                await self._make(field)
            for key, row in self._rows.items():
                row.display = key in shown
                if key in self._errors:
                    self._errors[key].display = row.display
            for part in self._draft.parts:
                self._count(part, shown)

    def _is_wanted(self, field: Field) -> bool:
        if not self._words:
            return field.key in self._unfolded
        text = f"{field.key} {field.about}".lower()
        return all(word in text for word in self._words.split())

    async def _make(self, field: Field) -> None:
        """A row at its place in the order of the recipe."""
        assert self._draft is not None
        row = Row(field, self._draft, self._suggestions.get(field.key, ()))
        later = [other for key, other in self._rows.items() if self._order[key] > self._order[field.key]]
        within = [other for other in later if other.field.path[0] == field.path[0]]
        after: Widget = self._mores[field.path[0]]
        if within:
            after = min(within, key=lambda other: self._order[other.field.key])
        self._rows[field.key] = row
        await self.mount(row, before=after)

    def _count(self, part: Part, shown: Collection[str]) -> None:
        """Heading and foot of a section."""
        seen = [field for field in part.fields if field.key in shown]
        folded = [field for field in part.fields if field.key not in self._unfolded]
        self._headings[part.name].display = bool(seen)
        self._mores[part.name].count(0 if self._words else len(folded))

    async def _write_errors(self, told: Mapping[str, Sequence[str]]) -> None:
        for key in [known for known in self._errors if known not in told]:
            await self._errors.pop(key).remove()
        for key, messages in told.items():
            text = printable("✗ " + "; ".join(messages))
            if key in self._errors:
                self._errors[key].update(text)
            elif key in self._rows:
                self._errors[key] = Static(text, markup=False, classes="error")
                self._errors[key].display = self._rows[key].display
                await self.mount(self._errors[key], after=self._rows[key])
