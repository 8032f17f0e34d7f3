"""One run: what it says of itself, its last figures, its geometry by layer."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from rich.text import Text
from textual import work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.message import Message
from textual.screen import Screen
from textual.widgets import DataTable, Footer, Static, TabbedContent, TabPane

from readwrite_edit.runs.reader import RunView
from readwrite_edit.runs.wording import age_text, number_text, step_text
from readwrite_edit.terminal import printable
from readwrite_edit.tui.feed import RunFeed, RunReading
from readwrite_edit.tui.geometry_table import GeometryTable
from readwrite_edit.tui.listing import status_text
from readwrite_edit.tui.stopping import ask_to_stop

REFRESH_EVERY_S = 1.0
METRIC_COLUMNS = ("kind", "name", "step", "last", "before")


class RunScreen(Screen[None]):
    """Two panes, metrics and geometry; a worker reads the folder, messages bring its readings."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,backspace", "back", "back", id="run.back"),
        Binding("m", "pane('metrics')", "metrics", id="run.metrics"),
        Binding("g", "pane('geometry')", "geometry", id="run.geometry"),
        Binding("v", "measure", "other figure", id="run.measure"),
        Binding("s", "stop", "stop", id="run.stop"),
    ]

    @dataclass
    class Read(Message):
        """A worker has read the run folder."""

        reading: RunReading

    def __init__(self, path: Path) -> None:
        """Show the run in the folder ``path``."""
        super().__init__()
        self._feed = RunFeed(path)
        self._view: RunView | None = None
        self._values: list[tuple[str, str, int, object, object]] = []
        self._reading = False

    def compose(self) -> ComposeResult:
        """State lines, two panes, the keys."""
        yield Static(id="title", markup=False)
        yield Static(id="state", markup=False)
        with TabbedContent(initial="metrics"):
            with TabPane("Metrics", id="metrics"):
                yield DataTable(id="values", cursor_type="row", zebra_stripes=True)
            with TabPane("Geometry", id="geometry"):
                yield GeometryTable()
        yield Footer()

    def on_mount(self) -> None:
        """Start reading, and again every second."""
        self.query_one("#title", Static).update(f"readwrite-edit  {printable(str(self._feed.path))}")
        self.query_one("#values", DataTable).add_columns(*METRIC_COLUMNS)
        self.action_pane("metrics")
        self._refresh()
        self.set_interval(REFRESH_EVERY_S, self._refresh)

    def _refresh(self) -> None:
        if not self._reading:
            self._reading = True
            self._read()

    @work(thread=True)
    def _read(self) -> None:
        self.post_message(self.Read(self._feed.read()))

    def on_run_screen_read(self, message: Read) -> None:
        """Show a reading."""
        self._reading = False
        self._view = message.reading.view
        self.query_one("#state", Static).update(_state_text(message.reading))
        self._fill_values(message.reading)
        is_probe = message.reading.view.kind == "probe"
        self.query_one(GeometryTable).show(message.reading.snapshot, against_null=is_probe)

    def _fill_values(self, reading: RunReading) -> None:
        if reading.values == self._values:
            return
        self._values = reading.values
        table = self.query_one("#values", DataTable)
        row = table.cursor_row
        table.clear()
        for kind, name, step, last, before in reading.values:
            cells = printable(kind), printable(name), str(step), number_text(last), number_text(before)
            table.add_row(*(Text(cell) for cell in cells))
        table.move_cursor(row=row)

    def action_back(self) -> None:
        """Return to the list of runs."""
        self.app.pop_screen()

    def action_pane(self, pane: str) -> None:
        """Open a pane and give its table the keys."""
        self.query_one(TabbedContent).active = pane
        self.query_one(f"#{pane} DataTable", DataTable).focus()

    def action_measure(self) -> None:
        """Show the next figure in the cells of the geometry."""
        self.query_one(GeometryTable).next_measure()

    def action_stop(self) -> None:
        """Ask this run to stop."""
        if self._view:
            ask_to_stop(self.app, self._view)


def _state_text(reading: RunReading) -> str:
    view = reading.view
    lines = [status_text(view) + (f": {printable(view.reason)}" if view.reason else "")]
    if view.status != "broken":
        segment = f"  segment {view.segment}" if view.segment else ""
        step = step_text(view.step, view.max_steps)
        lines.append(
            f"{printable(view.kind)}  {printable(view.recipe)}  step {step}{segment}"
            f"  heartbeat {age_text(view.age_s)} ago, pid {view.pid} on {printable(view.hostname)}"
        )
    if reading.alarms:
        lines.append(f"alarms: {len(reading.alarms)}, the last: {printable(reading.alarms[-1])}")
    if reading.garbage:
        lines.append(f"{reading.garbage} lines of its records can not be read and are left out")
    return "\n".join(lines)
