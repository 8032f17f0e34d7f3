"""The edits of a model: which are in force, undo, redo, stack. Everything is done by the command line."""

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

from readwrite_edit.terminal import printable
from readwrite_edit.tui.actions import BY_ID, bindings_of
from readwrite_edit.tui.forms.launching import Launching
from readwrite_edit.tui.forms.ledger_data import (
    COLUMNS,
    LedgerRow,
    entry_arguments,
    ledger_rows,
    ls_arguments,
    stack_arguments,
)
from readwrite_edit.tui.forms.ledger_dialog import FolderDialog
from readwrite_edit.tui.forms.process import Answer, Commands
from readwrite_edit.tui.frame import CommandLine, Pane, Table


class LedgerPane(Launching, Pane):
    """A table of edits; a subprocess reads it, and another one changes it."""

    NAME: ClassVar[str] = "ledger"
    BINDINGS: ClassVar[list[BindingType]] = [*bindings_of("ledger")]

    @dataclass
    class Answered(Message):
        """A command has answered."""

        argv: list[str]
        answer: Answer

    def __init__(self, commands: Commands) -> None:
        """Ask by ``commands``."""
        super().__init__(id="ledger")
        self.commands = commands
        self.rows: list[LedgerRow] = []
        self.marked: set[tuple[str, str]] = set()
        self._model = self._folder = ""

    def compose(self) -> ComposeResult:
        """Table, what is under its cursor, what the last command said."""
        table = Table(id="entries", cursor_type="row")
        table.add_columns(*(Text(column) for column in COLUMNS))
        yield table
        yield Static(id="entry", markup=False)
        yield Static(id="ledger-status", markup=False)

    def show(self, model: str, folder: str) -> None:
        """List the edits of a model in a folder of ledgers; of all models where none is named."""
        self._model, self._folder = model, folder
        self.query_one(Table).focus()
        self._command(ls_arguments(self._model, self._folder))
        self._read()

    def _read(self) -> None:
        self._say("… reading the ledger")
        self._ask(ls_arguments(self._model, self._folder))

    @work(group="ledger", exclusive=True)
    async def _ask(self, argv: list[str]) -> None:
        self.post_message(self.Answered(argv, await self.commands.ask(argv)))

    def on_ledger_pane_answered(self, message: Answered) -> None:
        """Show the list, or what a change did and then the list anew."""
        answer = message.answer
        if message.argv[1] == "ls":
            self._fill(ledger_rows(answer.out) or [])
            self._say("; ".join(answer.complaints) if answer.code else self._count(), wrong=bool(answer.code))
        elif answer.code:
            self._say(answer.why, wrong=True)
            self.desk.warn(answer.why)
        else:
            self.desk.tell(" ".join(answer.out.split()))
            self._read()

    def _count(self) -> str:
        active = sum(row.active for row in self.rows)
        where = f" of {self._model}" if self._model else ""
        count = f"{len(self.rows)} edits" if len(self.rows) > 1 else "1 edit"
        return f"{count}{where}, {active} in force" if self.rows else f"no edits{where} yet"

    def _fill(self, rows: list[LedgerRow]) -> None:
        table = self.query_one(Table)
        place = table.cursor_row
        self.rows = rows
        self.marked &= {(row.folder, row.name) for row in rows}
        table.clear()
        for row in rows:
            table.add_row(*self._cells(row))
        if rows:
            table.move_cursor(row=min(max(place, 0), len(rows) - 1))
        self._describe()

    def _cells(self, row: LedgerRow) -> list[Text]:
        style = "" if row.active else "dim"
        return [Text(cell, style) for cell in row.cells((row.folder, row.name) in self.marked)]

    @property
    def chosen(self) -> LedgerRow | None:
        """The edit under the cursor."""
        place = self.query_one(Table).cursor_row
        return self.rows[place] if 0 <= place < len(self.rows) else None

    def on_data_table_row_highlighted(self) -> None:
        """The cursor moved."""
        self._describe()

    def on_data_table_row_selected(self) -> None:
        """A click on a row."""
        self.action_perform("ledger.show")

    def _describe(self) -> None:
        row = self.chosen
        text = "" if row is None else f"{row.model} in {row.folder}\nrun {row.run or 'unknown'}"
        self.query_one("#entry", Static).update(printable(text, keep_newlines=True))

    def _say(self, text: str, *, wrong: bool = False) -> None:
        status = self.query_one("#ledger-status", Static)
        status.set_class(wrong, "-wrong")
        status.update(printable(f"✗ {text}" if wrong else text, keep_newlines=True))

    def _command(self, argv: Sequence[str]) -> None:
        self.screen.query_one(CommandLine).show(argv)

    # ---- actions

    def why_not(self, action_id: str) -> str | None:
        """An action needs an edit that it applies to."""
        row, name = self.chosen, BY_ID[action_id].id.partition(".")[2]
        if row is None:
            return "there is no edit in the list"
        if name == "undo" and not row.active:
            return f"'{row.name}' is undone already; r puts it back"
        if name == "redo" and row.active:
            return f"'{row.name}' is in force already; u takes it out"
        if name == "stack":
            return self._why_not_stack()
        if name == "show" and not Path(row.run or "\0").is_dir():
            return f"its run folder is gone: {row.run or 'unknown'}"
        return None

    def _why_not_stack(self) -> str | None:
        if self.following is not None:
            return "a stack is being written"
        if not self.marked:
            return "mark the edits first, with space"
        if len({folder for folder, _ in self.marked}) > 1:
            return "the marked edits are of several models"
        return None

    def do_undo(self) -> None:
        """Take the edit out of force."""
        self._change("undo")

    def do_redo(self) -> None:
        """Put it back."""
        self._change("redo")

    def _change(self, action: str) -> None:
        assert self.chosen is not None
        argv = entry_arguments(action, self.chosen)
        self._command(argv)
        self._say(f"… {action} {self.chosen.name}")
        self._ask(argv)

    def do_mark(self) -> None:
        """Mark the edit, or take its mark away; the cursor goes on."""
        assert self.chosen is not None
        table = self.query_one(Table)
        self.marked ^= {(self.chosen.folder, self.chosen.name)}
        for column, cell in enumerate(self._cells(self.chosen)):
            table.update_cell_at((table.cursor_row, column), cell)  # type: ignore[arg-type]
        table.move_cursor(row=table.cursor_row + 1)

    def do_show(self) -> None:
        """Open the edit's run."""
        from readwrite_edit.tui.run.run_screen import RunScreen

        assert self.chosen is not None
        self.app.push_screen(RunScreen(Path(self.chosen.run)))

    def do_stack(self) -> None:
        """Ask for a folder, then write the marked edits there."""
        rows = [row for row in self.rows if (row.folder, row.name) in self.marked]

        def answered(to: Path | None) -> None:
            if to is not None:
                argv = stack_arguments(rows, to)
                self._command(argv)
                self.launch(argv, "stack")

        what = "1 edit as an adapter" if len(rows) == 1 else f"{len(rows)} edits as one adapter"
        self.app.push_screen(FolderDialog(f"Write {what}. Into which new folder?"), answered)

    def started(self) -> None:
        """The stack is being written."""
        self._say("▶ stacking; it goes on without this program")

    def refused(self, problem: str) -> None:
        """It could not be started."""
        self._say(problem, wrong=True)

    def ended(self, code: int, lines: list[str]) -> None:
        """Say what it said."""
        said = [line for line in lines if not line.startswith("$ ")] or ["it said nothing"]
        self._say("\n".join(said) if not code else said[-1], wrong=bool(code))
