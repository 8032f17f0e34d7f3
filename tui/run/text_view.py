"""Lines of text to scroll through, wrapped to the width; only what is seen is rendered."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from rich.cells import cell_len
from rich.style import Style
from rich.text import Text
from textual import events
from textual.binding import BindingType
from textual.geometry import Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip

from readwrite_edit.tui.actions import bindings_of
from readwrite_edit.tui.frame import Performing

Line = str | Text
_LONGEST_ROW = 1 << 16
_SIDEWAYS = 8
_FOUND = Style(reverse=True)
_FOUND_HERE = Style(reverse=True, bold=True, underline=True)


def wrapped(text: str, width: int) -> list[tuple[int, int]]:
    """Where the rows of a line begin and end: at a space where there is one in the second half of the width.

    Args:
        text: Without line feeds.
        width: Cells that a row has, at least 2.
    """
    if len(text) <= width and (text.isascii() or cell_len(text) <= width):
        return [(0, len(text))]
    rows, start = [], 0
    while start < len(text):
        end = _end_of_row(text, start, width)
        space = text.rfind(" ", start + (end - start) // 2, end + 1) if end < len(text) else -1
        end, after = (space, space + 1) if space > start else (end, end)
        rows.append((start, end))
        start = after
    return rows or [(0, 0)]


def _end_of_row(text: str, start: int, width: int) -> int:
    """Where the cells of a row are used up."""
    end = min(len(text), start + width)
    while end > start + 1 and not text.isascii() and cell_len(text[start:end]) > width:
        end = start + max(1, (end - start) * width // cell_len(text[start:end]))
    return end


class TextView(Performing, ScrollView, can_focus=True, inherit_bindings=False):
    """Shows lines that are safe to show; ``find`` marks words in them."""

    NAME = "table"
    BINDINGS: ClassVar[list[BindingType]] = [*bindings_of("table")]
    DEFAULT_CSS = """
    TextView { height: 1fr; padding: 0 0 0 1; overflow-x: hidden; overflow-y: scroll; scrollbar-size: 0 1; }
    """

    @dataclass
    class Moved(Message):
        """The user went up, or to the end."""

        to_end: bool

    def __init__(self, *, id: str | None = None) -> None:
        """Begin empty."""
        super().__init__(id=id)
        self.lines: list[Line] = []
        self._rows: list[tuple[int, int, int]] = []
        self._wrapped_for = 0
        self._heading: Line | None = None
        self._wraps = True
        self._left, self._widest = 0, 0  # how far lines that are not wrapped were moved, and their greatest width
        self._pattern: re.Pattern[str] | None = None
        self._here = -1

    # ---- what is shown

    def show(self, lines: Sequence[Line], *, wrap: bool = True, heading: Line | None = None) -> None:
        """Show other lines; the place stays where it can.

        Args:
            lines: Each without line feeds, and safe to show.
            wrap: Whether long lines go on in the next row; otherwise left and right move along them.
            heading: A line that stays above the others.
        """
        self.lines, self._wraps, self._heading, self._left = list(lines), wrap, heading, 0
        self._wrap(anew=True)

    def extend(self, lines: Sequence[Line], *, drop_first: int = 0) -> None:
        """Add lines at the end, after letting go of some at the start."""
        del self.lines[:drop_first]
        self.lines.extend(lines)
        self._wrap(anew=bool(drop_first))

    def on_resize(self, _: events.Resize) -> None:
        """Wrap to the new width."""
        if self._width != self._wrapped_for:
            self._wrap(anew=True)

    @property
    def _width(self) -> int:
        return max(2, self.scrollable_content_region.width)

    def _wrap(self, *, anew: bool) -> None:
        first = 0
        if anew:
            self._rows, self._wrapped_for = [], self._width
        elif self._rows:
            first = self._rows[-1][0] + 1
        width = self._wrapped_for if self._wraps else _LONGEST_ROW
        for number in range(first, len(self.lines)):
            self._rows.extend((number, start, end) for start, end in wrapped(_plain(self.lines[number]), width))
        if not self._wraps:
            self._widest = max((cell_len(_plain(line)) for line in [*self.lines, self._heading or ""]), default=0)
        self.virtual_size = Size(self._wrapped_for, len(self._rows) + (self._heading is not None))
        self.refresh()

    def render_line(self, y: int) -> Strip:
        """One row of what is seen."""
        width, left = self.scrollable_content_region.width, self._left
        if self._heading is not None and y == 0:
            text = _text(self._heading)
        else:
            text = self._row(y + round(self.scroll_offset.y) - (self._heading is not None))
        strip = Strip(list(text.render(self.app.console))).crop(left, left + width)
        return strip.adjust_cell_length(width).apply_style(self.rich_style)

    def _row(self, row: int) -> Text:
        if row >= len(self._rows):
            return Text()
        number, start, end = self._rows[row]
        text = _text(self.lines[number])[start:end]
        if self._pattern is not None:
            self._mark(text, number, start)
        return text

    def _mark(self, text: Text, number: int, start: int) -> None:
        """Mark what was found in a row, also where it runs on from the row before."""
        assert self._pattern is not None
        for found in self._pattern.finditer(_plain(self.lines[number])):
            if found.end() > start and found.start() < start + len(text):
                style = _FOUND_HERE if number == self._here else _FOUND
                text.stylize(style, max(0, found.start() - start), found.end() - start)

    # ---- finding

    def find(self, words: str) -> list[int]:
        """Mark words wherever they stand, in capitals or not; returns the numbers of the lines that hold them."""
        self._pattern = re.compile(re.escape(words), re.IGNORECASE) if words else None
        self.refresh()
        if self._pattern is None:
            return []
        search = self._pattern.search
        return [number for number, line in enumerate(self.lines) if search(_plain(line))]

    def go_to(self, number: int) -> None:
        """Show a line in the middle, as the one that was found."""
        self._here = number
        row = bisect_left(self._rows, number, key=lambda row: row[0])
        self.scroll_to(y=max(0, row - self.size.height // 2), animate=False)
        self.refresh()

    # ---- moving

    def why_not(self, action_id: str) -> str | None:
        """Nothing lies beside wrapped lines."""
        return "lines are wrapped" if action_id in ("table.left", "table.right") and self._wraps else None

    def do_up(self) -> None:
        """Move up."""
        self.scroll_relative(y=-1, animate=False)
        self.post_message(self.Moved(to_end=False))

    def do_down(self) -> None:
        """Move down."""
        self.scroll_relative(y=1, animate=False)

    def do_left(self) -> None:
        """Move to the left."""
        self._left = max(0, self._left - _SIDEWAYS)
        self.refresh()

    def do_right(self) -> None:
        """Move to the right."""
        self._left = max(0, min(self._left + _SIDEWAYS, self._widest - self._width))
        self.refresh()

    def do_page_up(self) -> None:
        """Move up by what is seen."""
        self.scroll_page_up(animate=False)
        self.post_message(self.Moved(to_end=False))

    def do_page_down(self) -> None:
        """Move down by what is seen."""
        self.scroll_page_down(animate=False)

    def do_first(self) -> None:
        """Move to the first line."""
        self.scroll_home(animate=False, immediate=True)
        self.post_message(self.Moved(to_end=False))

    def do_last(self) -> None:
        """Move to the last line."""
        self.scroll_end(animate=False, immediate=True)
        self.post_message(self.Moved(to_end=True))

    def on_mouse_scroll_up(self) -> None:
        """The wheel turns up."""
        self.post_message(self.Moved(to_end=False))


def _plain(line: Line) -> str:
    return line if isinstance(line, str) else line.plain


def _text(line: Line) -> Text:
    """A line as text whose style is a part of it: rendering alone would leave out the style of the whole."""
    if isinstance(line, str):
        return Text(line)
    text = line.copy()
    text.stylize_before(text.style)
    return text
