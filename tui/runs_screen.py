"""The home screen: every run of a folder, kept up to date."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from rich.text import Text
from textual import work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.coordinate import Coordinate
from textual.message import Message
from textual.screen import Screen
from textual.widgets import DataTable, Footer, Static

from readwrite_edit.errors import ReadWriteEditError
from readwrite_edit.terminal import printable
from readwrite_edit.tui.listing import COLUMNS, Listing, RunRow
from readwrite_edit.tui.run_screen import RunScreen
from readwrite_edit.tui.stopping import ask_to_stop

REFRESH_EVERY_S = 2.0
STATUS_STYLES = {
    "running": "bold green",
    "stopping": "yellow",
    "finished": "cyan",
    "failed": "bold red",
    "silent": "magenta",
    "broken": "red",
}


class RunsScreen(Screen[None]):
    """Table of runs; a worker reads the folders, messages bring the rows."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "open", "open", id="runs.open", priority=True),  # or the table would take it, unnamed
        Binding("s", "stop", "stop", id="runs.stop"),
        Binding("r", "refresh", "read again", id="runs.refresh"),
    ]

    @dataclass
    class Read(Message):
        """A worker has read the root folder."""

        rows: list[RunRow]
        problem: str = ""

    def __init__(self, root: Path) -> None:
        """Show the runs under ``root``."""
        super().__init__()
        self._listing = Listing(root)
        self._rows: list[RunRow] = []
        self._reading = False

    def compose(self) -> ComposeResult:
        """A title line, the table, the keys."""
        yield Static(id="title", markup=False)
        yield DataTable(id="runs", cursor_type="row", zebra_stripes=True)
        yield Static(id="empty", markup=False)
        yield Footer()

    def on_mount(self) -> None:
        """Start reading, and again every few seconds."""
        table = self.query_one("#runs", DataTable)
        for column in COLUMNS:
            table.add_column(column, key=column)
        self.action_refresh()
        self.set_interval(REFRESH_EVERY_S, self.action_refresh)

    def action_refresh(self) -> None:
        """Read the folders again, unless a reading is under way."""
        if not self._reading:
            self._reading = True
            self._read()

    @work(thread=True)
    def _read(self) -> None:
        try:
            self.post_message(self.Read(self._listing.read()))
        except ReadWriteEditError as error:
            self.post_message(self.Read([], printable(str(error))))

    def on_runs_screen_read(self, message: Read) -> None:
        """Put the rows into the table; the cursor stays on its run."""
        self._reading = False
        root = printable(str(self._listing.root))
        self.query_one("#title", Static).update(f"readwrite-edit  {_census(message.rows)}  in {root}")
        empty = self.query_one("#empty", Static)
        empty.update(
            message.problem or f"No runs in {root} yet. Start one: readwrite-edit align --recipe dpo_readonly.yaml"
        )
        empty.display = not message.rows
        self._fill(message.rows)

    def _fill(self, rows: list[RunRow]) -> None:
        table = self.query_one("#runs", DataTable)
        table.display = bool(rows)
        if [row.view.path for row in rows] == [row.view.path for row in self._rows]:
            self._update(table, rows)
        else:
            chosen = self.chosen
            table.clear()
            for row in rows:
                table.add_row(*_styled(row), key=str(row.view.path))
            paths = [row.view.path for row in rows]
            table.move_cursor(row=paths.index(chosen.view.path) if chosen and chosen.view.path in paths else 0)
        self._rows = rows

    def _update(self, table: DataTable[Text], rows: list[RunRow]) -> None:
        """Write only the cells that changed, so that nothing jumps."""
        for number, (old, new) in enumerate(zip(self._rows, rows, strict=True)):
            for column, (before, after) in enumerate(zip(old.cells, new.cells, strict=True)):
                if before != after:
                    table.update_cell_at(Coordinate(number, column), _styled(new)[column], update_width=True)

    @property
    def chosen(self) -> RunRow | None:
        """The run under the cursor."""
        row = self.query_one("#runs", DataTable).cursor_row
        return self._rows[row] if 0 <= row < len(self._rows) else None

    def on_data_table_row_selected(self) -> None:
        """Enter, or a click, on a row."""
        self.action_open()

    def action_open(self) -> None:
        """Open the run under the cursor."""
        if self.chosen:
            self.app.push_screen(RunScreen(self.chosen.view.path))

    def action_stop(self) -> None:
        """Ask the run under the cursor to stop."""
        if self.chosen:
            ask_to_stop(self.app, self.chosen.view)
        else:
            self.app.notify("no run to stop", severity="warning")


def _styled(row: RunRow) -> list[Text]:
    """Cells as Text objects: a plain string would be parsed for markup."""
    style = STATUS_STYLES.get(row.view.status, "")
    return [Text(cell, style=style if number == 0 else "") for number, cell in enumerate(row.cells)]


def _census(rows: list[RunRow]) -> str:
    counts = Counter(row.view.status for row in rows)
    return ", ".join(f"{count} {status}" for status, count in counts.most_common()) or "no runs"
