"""The frozen recipe of a run, with a sign at each key that is not its default's."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from rich.text import Text
from textual import work
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.message import Message
from textual.widgets import Static

from readwrite_edit.runs.reader import RunView
from readwrite_edit.terminal import printable
from readwrite_edit.tui.actions import bindings_of
from readwrite_edit.tui.frame import Pane
from readwrite_edit.tui.run.text_view import TextView

if TYPE_CHECKING:
    from readwrite_edit.tui.run.recipe_rows import RecipeReading, RecipeRow

_KEY_WIDTH = 28
_LONGEST_VALUE = 2000
_STYLES = {" ": "", "≠": "bold yellow", "+": "bold green", "−": "bold magenta"}


class RecipePane(Pane):
    """Key by key; only what differs on demand; versions and hashes folded."""

    NAME = "recipe"
    BINDINGS: ClassVar[list[BindingType]] = [*bindings_of("recipe")]

    @dataclass
    class Read(Message):
        """A worker has read the recipe."""

        reading: RecipeReading

    def __init__(self) -> None:
        """Begin without a run."""
        super().__init__(id="recipe")
        self._reading: RecipeReading | None = None
        self._shown_for: tuple[str, int] | None = None
        self._only_changes = self._unfolded = False

    def compose(self) -> ComposeResult:
        """A line about what it is compared with, and the keys."""
        yield Static("reading …", id="recipe-caption", markup=False)
        yield TextView(id="recipe-lines")

    def show(self, view: RunView) -> None:
        """Read the recipe of a run, once for each of its segments."""
        if self._shown_for != (view.recipe, view.segment):
            self._shown_for = view.recipe, view.segment
            self._read(view)

    @work(thread=True)
    def _read(self, view: RunView) -> None:
        from readwrite_edit.tui.run.recipe_rows import read_recipe

        self.post_message(self.Read(read_recipe(view)))

    def on_recipe_pane_read(self, message: Read) -> None:
        """Show the recipe."""
        self._reading = message.reading
        self._draw()

    def _draw(self) -> None:
        reading = self._reading
        if reading is None:
            return
        self.query_one("#recipe-caption", Static).update(self._caption(reading))
        lines = list(recipe_lines(reading, only_changes=self._only_changes, unfolded=self._unfolded))
        self.query_one(TextView).show(lines)

    def _caption(self, reading: RecipeReading) -> str:
        if reading.problem:
            return printable(reading.problem)
        if not reading.beside:
            return f"{len(reading.rows)} keys; there is no default to compare them with"
        which = "; the rest is hidden" if self._only_changes else ""
        beside = printable(reading.beside)
        return f"beside {beside}: {reading.differing} of {len(reading.rows)} keys differ{which}"

    def why_not(self, action_id: str) -> str | None:
        """Changes need a default, and something to fold must be there."""
        reading = self._reading
        if action_id == "recipe.changes" and (reading is None or not reading.beside):
            return "there is no default to compare with"
        if action_id == "recipe.provenance" and (reading is None or not reading.provenance):
            return "the recipe names no versions"
        return None

    def do_changes(self) -> None:
        """Show only what differs, or all."""
        self._only_changes = not self._only_changes
        self._draw()

    def do_provenance(self) -> None:
        """Show versions and hashes, or fold them."""
        self._unfolded = not self._unfolded
        self._draw()
        if self._unfolded:
            self.call_after_refresh(self.query_one(TextView).do_last)


def recipe_lines(reading: RecipeReading, *, only_changes: bool, unfolded: bool) -> Iterator[Text]:
    """A recipe as lines that are safe to show, section by section."""
    section = None
    for row in reading.rows:
        if only_changes and row.sign == " ":
            continue
        head, _, rest = row.key.partition(".")
        if head != section and rest:
            section = head
            yield Text(printable(head), style="bold")
        yield _key_line(row, rest or head)
    if only_changes and reading.beside and not reading.differing:
        yield Text("Every key is the default's.")
    if reading.beside and reading.differing:
        yield Text("≠ another value   + not in the default   − only in the default", style="dim")
    if reading.provenance:
        sign = "▾" if unfolded else "▸"
        yield Text(f"{sign} provenance: {len(reading.provenance)} entries", style="bold")
        for name, value in reading.provenance if unfolded else ():
            yield Text(f"    {printable(name):<{_KEY_WIDTH}} {printable(value)}")


def _key_line(row: RecipeRow, key: str) -> Text:
    style = _STYLES[row.sign]
    line = Text().append(f"  {row.sign} {printable(key):<{_KEY_WIDTH}} ", style=style)
    line.append("not given" if row.sign == "−" else value_text(row.value), style=style)
    if row.sign in ("≠", "−"):
        line.append(f"   default {value_text(row.default)}", style="dim")
    return line


def value_text(value: Any) -> str:
    """A value of a recipe as YAML would have it, on one line and safe to show."""
    if isinstance(value, str):
        text = value
    elif isinstance(value, list):
        text = f"[{', '.join(value_text(item) for item in value)}]"
    else:
        text = json.dumps(value, default=str, ensure_ascii=False)
    shown = printable(text)
    return shown if len(shown) <= _LONGEST_VALUE else shown[:_LONGEST_VALUE] + " …"
