"""The result of a run: what changed and why, its certificate, its answers, its tables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from textual import events, work
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
    from readwrite_edit.tui.run.report_data import ReportData, TableText


class ReportPane(Pane):
    """The result as text, and its tables one after the other."""

    NAME = "report"
    BINDINGS: ClassVar[list[BindingType]] = [*bindings_of("report")]

    @dataclass
    class Read(Message):
        """A worker has read the result."""

        data: ReportData

    @dataclass
    class TableRead(Message):
        """A worker has read a table."""

        table: TableText

    def __init__(self) -> None:
        """Begin without a run."""
        super().__init__(id="report")
        self._data: ReportData | None = None
        self._alarms: Sequence[str] = ()
        self._table = 0  # 0: the result itself; from 1 on the tables
        self._reading = False

    def compose(self) -> ComposeResult:
        """A line about what is shown, and the text."""
        yield Static("reading …", id="report-caption", markup=False)
        yield TextView(id="report-lines")

    def show(self, view: RunView, alarms: Sequence[str]) -> None:
        """Read what is there of a run's result, unless it is being read or is the same."""
        if self._reading:
            return
        if self._data is None or self._data.view != view or list(alarms) != list(self._alarms):
            self._alarms, self._reading = list(alarms), True
            self._read(view)

    @work(thread=True)
    def _read(self, view: RunView) -> None:
        from readwrite_edit.tui.run.report_data import read_report

        self.post_message(self.Read(read_report(view)))

    def on_report_pane_read(self, message: Read) -> None:
        """Show the result; an open table stays open."""
        before, self._data, self._reading = self._data, message.data, False
        same = before is not None and before.signature == message.data.signature
        if not same or not message.data.summary:
            self._table = self._table if self._table <= len(message.data.tables) else 0
            self._draw()

    def on_resize(self, event: events.Resize) -> None:
        """Fit what stands side by side to the width."""
        if self._table == 0:
            self._draw()

    def _draw(self) -> None:
        if self._data is None:
            return
        if self._table:
            self._read_table(self._data.view, self._data.tables[self._table - 1])
            return
        from readwrite_edit.tui.run.report_lines import report_lines

        view = self.query_one(TextView)
        width = max(20, view.scrollable_content_region.width)
        self.query_one("#report-caption", Static).update(self._caption("the result"))
        view.show(report_lines(self._data, self._alarms, width))

    def _caption(self, shown: str) -> str:
        count = len(self._data.tables) if self._data else 0
        return f"{shown}   {f'{count} tables beside it' if count > 1 else 'one table beside it' if count else ''}"

    @work(thread=True, exclusive=True, group="table")
    def _read_table(self, view: RunView, name: str) -> None:
        from readwrite_edit.tui.run.report_data import read_table

        self.post_message(self.TableRead(read_table(view, name)))

    def on_report_pane_table_read(self, message: TableRead) -> None:
        """Show a table, unless another was asked for meanwhile."""
        table, data = message.table, self._data
        if data is None or not self._table or data.tables[self._table - 1] != table.name:
            return
        where = f"table {self._table} of {len(data.tables)}: {table.name}, {len(table.lines)} rows"
        self.query_one("#report-caption", Static).update(printable(f"{where}   {table.left_out}".rstrip()))
        view = self.query_one(TextView)
        view.show(table.lines, wrap=False, heading=table.heading)
        view.scroll_home(animate=False)

    def why_not(self, action_id: str) -> str | None:
        """There may be no table."""
        return None if self._data and self._data.tables else "the run has no tables"

    def do_table(self) -> None:
        """Show the next table, after the last the result again."""
        self._turn(1)

    def do_table_back(self) -> None:
        """Show the table before."""
        self._turn(-1)

    def _turn(self, way: int) -> None:
        count = len(self._data.tables) if self._data else 0
        self._table = (self._table + way) % (count + 1)
        self._draw()
        self.query_one(TextView).scroll_home(animate=False)
