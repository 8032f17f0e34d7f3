"""The home screen: every run of a folder and what waits in its queue, kept up to date."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from rich.text import Text
from textual import work
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.message import Message
from textual.widgets import Static

from readwrite_edit.errors import ReadWriteEditError
from readwrite_edit.terminal import printable
from readwrite_edit.tui.actions import bindings_of
from readwrite_edit.tui.frame import WorkScreen
from readwrite_edit.tui.home import opening, row_actions
from readwrite_edit.tui.home.filter_line import FilterLine
from readwrite_edit.tui.home.listing import Listing, Reading, RunRow
from readwrite_edit.tui.home.queue_view import QueueView, ask_to_cancel, switch_queue
from readwrite_edit.tui.home.resuming import resume_run
from readwrite_edit.tui.home.run_columns import SORTABLE, header, in_order
from readwrite_edit.tui.home.run_list import GUTTER, RunList
from readwrite_edit.tui.home.runs_text import account, census, nothing_yet
from readwrite_edit.tui.home.sparkline import Trace
from readwrite_edit.tui.home.stopping import ask_to_stop, point_out_delays

REFRESH_EVERY_S = 2.0


class RunsScreen(WorkScreen):
    """List of runs; workers read the folders, messages bring what they read."""

    NAME = "runs"
    BINDINGS: ClassVar[list[BindingType]] = [*bindings_of("runs")]

    @dataclass
    class Read(Message):
        """A worker has read the root folder."""

        reading: Reading
        problem: str = ""

    @dataclass
    class Removed(Message):
        """A worker has deleted rows."""

        asked: int
        problems: Sequence[str]

    def __init__(self, root: Path) -> None:
        """Show the runs under ``root``."""
        super().__init__()
        self.root = root
        self.marks: frozenset[str] = frozenset()
        self.queue = QueueView()
        self._listing: Listing | None = None
        self._rows: Sequence[RunRow] = ()
        self._sorted_by: str | None = None
        self._reverse = False
        self._reading = False
        self._at = ""  # key of the row that the cursor was on when the command was last looked at

    def body(self) -> ComposeResult:
        """Titles of the columns, the list, what there is to say of the chosen run."""
        yield Static(id="columns", markup=False)
        yield RunList()
        yield Static(id="empty", markup=False)
        yield Static(id="chosen", markup=False)
        yield FilterLine()

    def on_mount(self) -> None:
        """Start reading, and again every few seconds."""
        self._listing = Listing(self.root, self.desk.clock)
        self.runs.focus()
        self._show_own_command()
        self.read_again()
        self.set_interval(REFRESH_EVERY_S, self.read_again)

    def on_screen_resume(self) -> None:
        """A dialog or another screen was closed: what it changed, and what ended meanwhile, is seen at once."""
        if self._listing is not None:
            self.read_again()

    @property
    def runs(self) -> RunList:
        """The list itself."""
        return self.query_one(RunList)

    @property
    def chosen(self) -> RunRow | None:
        """The row under the cursor."""
        return self.runs.chosen

    def read_again(self) -> None:
        """Read the folders, unless a reading is under way."""
        if not self._reading:
            self._reading = True
            self._read()

    @work(thread=True)
    def _read(self) -> None:
        assert self._listing is not None  # on_mount made it
        try:
            self.post_message(self.Read(self._listing.read()))
        except ReadWriteEditError as error:
            self.post_message(self.Read(Reading([], QueueView()), str(error)))

    def on_runs_screen_read(self, message: Read) -> None:
        """Show what was read."""
        self._reading = False
        self._rows, self.queue = message.reading.rows, message.reading.queue
        self.marks &= {row.key for row in self._rows}
        empty = self.query_one("#empty", Static)
        empty.update(printable(message.problem) or nothing_yet(self.root, self.desk))
        empty.display = not self._rows
        self.show_rows()
        if self._at not in {row.key for row in self._rows}:  # it was deleted: its command stays until the cursor moves
            self._at = self._chosen_key()
        point_out_delays(self.desk, (row.view for row in self._rows))

    def on_run_list_moved(self) -> None:
        """Another row is chosen: what was done to the one before is over."""
        if self._chosen_key() != self._at:
            self._show_own_command()
        self._describe()

    def _chosen_key(self) -> str:
        return "" if self.chosen is None else self.chosen.key

    def _show_own_command(self) -> None:
        """Show what the list itself stands for, until something is done to a row."""
        self._at = self._chosen_key()
        self.show_command(["runs", "ls", "--root", str(self.root)])

    def _show_anew(self) -> None:
        """Show the rows after something was done to the list itself."""
        self.show_rows()
        self._show_own_command()

    def on_run_list_traced(self) -> None:
        """Sort again where that rests on what was read just now."""
        if self._sorted_by == "loss":
            self._fill()
        self._describe()

    def remove(self, rows: Sequence[RunRow]) -> None:
        """Let a worker delete rows."""
        self.marks -= {row.key for row in rows}
        self._remove(rows)

    @work(thread=True)
    def _remove(self, rows: Sequence[RunRow]) -> None:
        self.post_message(self.Removed(len(rows), row_actions.remove_rows(self.root, rows)))

    def on_runs_screen_removed(self, message: Removed) -> None:
        """Say what was deleted and what was not."""
        row_actions.tell_removal(self.desk, message.asked, message.problems)
        self.read_again()

    def show_rows(self) -> None:
        """Write title, list and what is said of the chosen run anew."""
        shown, words = self._fill(), self.query_one(FilterLine).words
        parts = [census(self._rows), f"{len(shown)} with {' '.join(words)!r}" if words else ""]
        parts += [f"{len(self.marks)} marked" if self.marks else "", str(self.queue)]
        parts += ["read-only" if self.desk.readonly else "", f"in {self.root}"]
        self.set_title("   ".join(filter(None, parts)))
        self._describe()

    def _fill(self) -> Sequence[RunRow]:
        words = self.query_one(FilterLine).words
        fitting = [row for row in self._rows if all(word in row.words for word in words)]
        rows = in_order(fitting, self.runs.traces, self._sorted_by, self._reverse)
        self.runs.display = bool(self._rows)
        self.runs.show(rows, self.marks, all_traced=self._sorted_by == "loss")
        titles = header(self.runs.wide, self._sorted_by, self._reverse) if self._rows else ""
        self.query_one("#columns", Static).update(Text(" " * GUTTER + titles, no_wrap=True))
        return rows

    def _describe(self) -> None:
        row = self.chosen
        text = "" if row is None else account(row, self.runs.traces.get(row.key, Trace()))
        self.query_one("#chosen", Static).update(text)

    def why_not(self, action_id: str) -> str | None:
        """What an action lacks."""
        name, row = action_id.split(".")[1], self.chosen
        if name == "compare":
            return row_actions.why_no_comparison([row.view.path for row in self._marked_runs()])
        if name == "pause":
            return None if self.queue.waiting or self.queue.paused else "nothing waits in the queue"
        if row is None and name in row_actions.ON_A_ROW:
            return "there is no run here" if self._rows else "there are no runs yet"
        return None if row is None else row_actions.why_not_row(name, row)

    def on_run_list_opened(self) -> None:
        """A click on the chosen row."""
        self.action_perform("runs.open")

    def do_mark(self) -> None:
        """Mark the run under the cursor, or take its mark away; go on to the next."""
        self.marks ^= {self._row().key}
        self.runs.do_down()
        self._show_anew()

    def do_unmark(self) -> None:
        """Take all marks away; where there is none, mark all that are shown."""
        self.marks = frozenset() if self.marks else frozenset(row.key for row in self.runs.rows)
        self._show_anew()

    def do_sort(self) -> None:
        """Sort by the next column."""
        self._sorted_by = SORTABLE[(SORTABLE.index(self._sorted_by) + 1) % len(SORTABLE)]
        self._show_anew()
        self.desk.tell(f"sorted by {self._sorted_by or 'start'}{', reversed' if self._reverse else ''}")

    def do_reverse(self) -> None:
        """Sort the other way round."""
        self._reverse = not self._reverse
        self._show_anew()

    def do_filter(self) -> None:
        """Ask for the words that rows must hold."""
        self.query_one(FilterLine).open()

    def on_filter_line_changed(self) -> None:
        """Show the rows that hold the words."""
        self._show_anew()

    def on_filter_line_closed(self) -> None:
        """Give the keys back to the list."""
        self.runs.focus()

    def do_refresh(self) -> None:
        """Read the folders now."""
        self._show_own_command()
        self.read_again()

    def do_open(self) -> None:
        """Open the run under the cursor."""
        self._open(opening.run_screen(self._row()))

    def do_new(self) -> None:
        """Open the form of a recipe."""
        self._open(opening.new_screen())

    def do_edit(self) -> None:
        """Open the form of an edit: of the chosen run's model, or as the chosen edit was made."""
        self._open(opening.edit_screen(self.chosen))

    def do_compare(self) -> None:
        """Open the marked runs beside each other."""
        self._open(opening.compare_screen(self._marked_runs()))

    def do_export(self) -> None:
        """Open the checklist of an export."""
        self._open(opening.export_screen(self._row()))

    def _open(self, screen: WorkScreen) -> None:
        """Open another screen, which shows a command of its own."""
        self._show_own_command()
        self.desk.push_screen(screen)

    def do_stop(self) -> None:
        """Ask the run under the cursor to stop, or take it out of the queue."""
        row = self._row()
        if row.item is None:
            ask_to_stop(self, row.view)
        else:
            ask_to_cancel(self, row)

    def do_resume(self) -> None:
        """Go on with the run under the cursor."""
        resume_run(self, self._row().view)

    def do_note(self) -> None:
        """Write on the run under the cursor."""
        row_actions.ask_for_note(self, self._row())

    def do_delete(self) -> None:
        """Delete the marked runs, or the one under the cursor."""
        row_actions.ask_to_delete(self, [row for row in self._rows if row.key in self.marks] or [self._row()])

    def do_pause(self) -> None:
        """Pause the queue, or let it go on."""
        switch_queue(self, self.queue)

    def _row(self) -> RunRow:
        row = self.chosen
        assert row is not None  # why_not has looked
        return row

    def _marked_runs(self) -> list[RunRow]:
        return [row for row in self._rows if row.key in self.marks and row.item is None]
