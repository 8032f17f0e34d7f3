"""The list of runs as a widget: it draws only the lines that are seen, however many rows there are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from rich.segment import Segment
from rich.style import Style
from textual import events, work
from textual.binding import BindingType
from textual.geometry import Region, Size
from textual.message import Message
from textual.reactive import reactive
from textual.scroll_view import ScrollView
from textual.strip import Strip

from readwrite_edit.tui.actions import bindings_of
from readwrite_edit.tui.frame import Performing
from readwrite_edit.tui.home.listing import RunRow, status_text
from readwrite_edit.tui.home.run_columns import GAP, cells, fitted, widths
from readwrite_edit.tui.home.sparkline import Trace
from readwrite_edit.tui.home.traces import Traces

GUTTER = 2
MARK = "●"
_AT_ONCE = 8


class RunList(Performing, ScrollView, can_focus=True):
    """Rows of runs with a cursor and marks."""

    NAME = "table"
    ALLOW_SELECT = False
    BINDINGS: ClassVar[list[BindingType]] = [
        binding for binding in bindings_of("table") if binding.id not in ("table.left", "table.right")
    ]
    COMPONENT_CLASSES = {  # noqa: RUF012  (as Textual declares it)
        "list--cursor", "list--mark", "list--trend", "list--quiet", "list--live", "list--ending", "list--waiting",
        "list--ended", "list--failed", "list--silent", "list--broken",
    }  # fmt: skip
    STATUS_PARTS: ClassVar[Mapping[str, str]] = {
        "running": "live", "stopping": "ending", "stopped": "ending", "queued": "waiting", "finished": "ended",
        "failed": "failed", "silent": "silent", "broken": "broken",
    }  # fmt: skip
    cursor: reactive[int] = reactive(0, repaint=False)

    class Moved(Message):
        """Another row has the cursor."""

    @dataclass
    class Traced(Message):
        """A worker has looked into the metrics of some rows; the list has taken it in before others hear of it."""

        traces: dict[str, Trace]
        last: bool

    class Opened(Message):
        """A row was clicked twice."""

    def __init__(self) -> None:
        super().__init__(id="runs")
        self.rows: Sequence[RunRow] = ()
        self.wide: Mapping[str, int] = {}
        self.traces: dict[str, Trace] = {}
        self._reader = Traces()
        self._marks: frozenset[str] = frozenset()
        self._all_traced = self._tracing = self._again = False

    def show(self, rows: Sequence[RunRow], marks: frozenset[str], *, all_traced: bool) -> None:
        """Show rows; the cursor stays on its row, or at its place where that is gone.

        Args:
            rows: In the order in which they are to stand.
            marks: Keys of the marked ones.
            all_traced: Look into the metrics of all rows, and not only of those in view.
        """
        chosen = self.chosen
        self.rows, self._marks, self._all_traced = rows, marks, all_traced
        self._lay_out()
        keys = [row.key for row in rows]
        place = keys.index(chosen.key) if chosen is not None and chosen.key in keys else self.cursor
        self.cursor = self.validate_cursor(place)
        self.refresh()
        self.look_into()

    def look_into(self) -> None:
        """Let a worker read the metrics of the rows that are to have a trend."""
        if self._tracing:
            self._again = True
            return
        rows = [row for row in (self.rows if self._all_traced else self.seen) if row.item is None]
        if rows:
            self._tracing, self._again = True, False
            self._trace(rows)

    @work(thread=True)
    def _trace(self, rows: Sequence[RunRow]) -> None:
        for start in range(0, len(rows), _AT_ONCE):
            part = rows[start : start + _AT_ONCE]
            self.post_message(self.Traced(self._reader.read(part), start + _AT_ONCE >= len(rows)))

    def on_run_list_traced(self, message: Traced) -> None:
        """Draw the trends that are new."""
        if message.traces:
            self.traces.update(message.traces)
            self.refresh()
        if message.last:
            self._tracing = False
            if self._again:
                self.look_into()

    @property
    def chosen(self) -> RunRow | None:
        """The row under the cursor."""
        return self.rows[self.cursor] if self.cursor < len(self.rows) else None

    @property
    def seen(self) -> list[RunRow]:
        """The rows that are in view."""
        top = self.scroll_offset.y
        return list(self.rows[top : top + max(1, self.size.height)])

    def _lay_out(self) -> None:
        self.virtual_size = Size(0, len(self.rows))
        room = self.scrollable_content_region.width - GUTTER
        self.wide = widths(self.rows, self.traces, room)

    def on_resize(self) -> None:
        """Fit the columns into the width."""
        self._lay_out()
        self._keep_in_view()
        self.look_into()

    def validate_cursor(self, place: int) -> int:
        """Keep the cursor on a row."""
        return max(0, min(place, len(self.rows) - 1))

    def watch_cursor(self, before: int, now: int) -> None:
        """Draw the two lines that changed."""
        for place in (before, now):
            self.refresh_lines(place, 1)
        self._keep_in_view()
        self.post_message(self.Moved())

    def watch_scroll_y(self, before: float, now: float) -> None:
        """Other rows are seen."""
        super().watch_scroll_y(before, now)
        self.look_into()

    def _keep_in_view(self) -> None:
        self.scroll_to_region(Region(0, self.cursor, 1, 1), animate=False, force=True)

    def render_line(self, y: int) -> Strip:
        """One line of the list."""
        place, width = y + self.scroll_offset.y, self.scrollable_content_region.width
        if place >= len(self.rows):
            return Strip.blank(width, self.rich_style)
        row = self.rows[place]
        chosen = place == self.cursor and self.has_focus
        ground = self.get_component_rich_style("list--cursor", partial=True) if chosen else Style()
        mark = Segment(f"{MARK if row.key in self._marks else ' '} ", self._part("mark"))
        strip = Strip([mark, *self._segments(row, width - GUTTER)])
        return strip.adjust_cell_length(width).apply_style(self.rich_style + ground)

    def _segments(self, row: RunRow, room: int) -> list[Segment]:
        status = self._part(self.STATUS_PARTS[row.view.status])
        if row.view.status == "broken" or row.item is not None:
            kind = "" if row.item is None else fitted(row.kind, self.wide.get("kind", 5)) + " " * GAP
            text = f"{kind}{row.name}  {row.reason}"
            head = fitted(status_text(row.view), self.wide.get("status", 10)) + " " * GAP
            return [Segment(head, status), Segment(fitted(text, max(1, room - len(head))), self._part("quiet"))]
        quiet = self._part("quiet")
        styles = {"status": status, "trend": self._part("trend"), "age": quiet, "run": quiet}
        shown = cells(row, self.traces.get(row.key, Trace()), self.wide)
        return [Segment(text, styles.get(name, Style())) for name, text in shown]

    def _part(self, name: str) -> Style:
        """The ink of a part, mixed with the ground under it; the ground itself is that of the line."""
        whole = self.get_component_rich_style(f"list--{name}")
        return Style(color=whole.color, bold=whole.bold, italic=whole.italic)

    def on_focus(self) -> None:
        """Show the cursor."""
        self.refresh()

    def on_blur(self) -> None:
        """Hide the cursor."""
        self.refresh()

    def on_click(self, event: events.Click) -> None:
        """Choose a row; the second click opens it."""
        place = event.y + self.scroll_offset.y
        if place < len(self.rows):
            opens = place == self.cursor and event.chain > 1
            self.cursor = place
            if opens:
                self.post_message(self.Opened())

    def do_up(self) -> None:
        """Move the cursor up."""
        self.cursor -= 1

    def do_down(self) -> None:
        """Move the cursor down."""
        self.cursor += 1

    def do_page_up(self) -> None:
        """Move the cursor up by what is seen."""
        self.cursor -= max(1, self.size.height - 1)

    def do_page_down(self) -> None:
        """Move the cursor down by what is seen."""
        self.cursor += max(1, self.size.height - 1)

    def do_first(self) -> None:
        """Move the cursor to the first row."""
        self.cursor = 0

    def do_last(self) -> None:
        """Move the cursor to the last row."""
        self.cursor = len(self.rows) - 1
