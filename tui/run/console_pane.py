"""What a run printed: follows its end, and finds words in it."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from rich.text import Text
from textual import work
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Horizontal
from textual.message import Message
from textual.widgets import Input, Static

from readwrite_edit.runs.folder import RunFolder
from readwrite_edit.terminal import printable
from readwrite_edit.tui.actions import bindings_of
from readwrite_edit.tui.frame import Pane, Performing
from readwrite_edit.tui.run.console_tail import ConsoleReading, ConsoleTail
from readwrite_edit.tui.run.text_view import TextView

_MOST_LINES = 20_000
_LET_GO = 5_000  # at once, so that lines are not wrapped anew with each one that comes
_REFRESH_EVERY_S = 0.5


class SearchLine(Performing, Horizontal):
    """Where the words to find are typed; it is there only while they are."""

    NAME = "search"
    BINDINGS: ClassVar[list[BindingType]] = [*bindings_of("search")]

    @dataclass
    class Closed(Message):
        """Typing is over; there may be no words."""

        words: str

    def compose(self) -> ComposeResult:
        """A slash and what is typed."""
        yield Static("/ ", markup=False)
        yield Input(placeholder="words to find", compact=True)

    def open(self, words: str) -> None:
        """Take the keys."""
        self.display = True
        self.query_one(Input).value = words
        self.query_one(Input).focus()

    def on_mount(self) -> None:
        """Stay out of sight."""
        self.display = False

    def on_input_submitted(self, message: Input.Submitted) -> None:
        """Enter in the line."""
        message.stop()
        self.do_find()

    def do_find(self) -> None:
        """Find the words, and go back to the lines."""
        self._close(self.query_one(Input).value)

    def do_leave(self) -> None:
        """Go back to the lines without a search."""
        self._close("")

    def _close(self, words: str) -> None:
        self.display = False
        self.post_message(self.Closed(words))


class ConsolePane(Pane):
    """``console.log``, from its last MiB on."""

    NAME = "console"
    BINDINGS: ClassVar[list[BindingType]] = [*bindings_of("console")]

    @dataclass
    class Read(Message):
        """A worker has read the log."""

        reading: ConsoleReading

    def __init__(self, path: Path) -> None:
        """Show the log of the run in the folder ``path``."""
        super().__init__(id="console")
        self._path = RunFolder(path).console
        self._tail = ConsoleTail(self._path)
        self._following, self._reading = True, False
        self._pending = False  # whether the last line shown has no end yet
        self._words, self._found, self._at = "", list[int](), -1
        self._note = ""

    def compose(self) -> ComposeResult:
        """A line about what is shown, the lines, the words to find."""
        yield Static(id="console-caption", markup=False)
        yield TextView(id="console-lines")
        yield SearchLine(id="console-search")

    def on_mount(self) -> None:
        """Read, and go on reading."""
        self.refresh_log()
        self.set_interval(_REFRESH_EVERY_S, self.refresh_log)

    def refresh_log(self) -> None:
        """Read what is new, unless a reading is under way or nobody looks."""
        looked_at = all(node.display for node in self.ancestors_with_self)
        if looked_at and not self._reading:
            self._reading = True
            self._read()

    @work(thread=True)
    def _read(self) -> None:
        self.post_message(self.Read(self._tail.read()))

    def on_console_pane_read(self, message: Read) -> None:
        """Show what is new."""
        self._reading, reading = False, message.reading
        self._note = reading.problem
        if reading.left_out_bytes:
            self._note = f"the first {reading.left_out_bytes / 1e6:,.1f} MB are left out"
        if reading.lines or reading.pending or reading.anew or self._pending:
            self._take(reading)
        self._say()

    def _take(self, reading: ConsoleReading) -> None:
        view = self.query_one(TextView)
        if self._pending:
            view.lines.pop()
        new = [*reading.lines, *([reading.pending] if reading.pending else [])]
        if reading.anew or self._pending:
            view.show(new if reading.anew else [*view.lines, *new])
        else:
            view.extend(new, drop_first=_LET_GO if len(view.lines) + len(new) > _MOST_LINES else 0)
        self._pending = bool(reading.pending)
        if self._words:
            self._found = view.find(self._words)
        if self._following:
            self.call_after_refresh(view.scroll_end, animate=False, immediate=True)

    def _say(self) -> None:
        parts = ["following" if self._following else "not following", self._note]
        if self._words:
            place = bisect_left(self._found, self._at) + 1 if self._at in self._found else 0
            count = f"{place} of {len(self._found)}" if self._found else "nowhere"
            parts.append(f"“{printable(self._words)}” {count}")
        parts.append(printable(str(self._path)))
        text = Text("   ".join(part for part in parts if part), no_wrap=True, overflow="ellipsis")
        self.query_one("#console-caption", Static).update(text)

    def on_text_view_moved(self, message: TextView.Moved) -> None:
        """Going up stays there, going to the end follows it."""
        self._following = message.to_end
        self._say()

    # ---- actions

    def why_not(self, action_id: str) -> str | None:
        """There is no next place without words that are found."""
        if action_id in ("console.next", "console.previous") and not self._found:
            return "nothing holds the words" if self._words else "no words are searched for"
        return None

    def do_search(self) -> None:
        """Ask for words."""
        self.query_one(SearchLine).open(self._words)

    def on_search_line_closed(self, message: SearchLine.Closed) -> None:
        """Find words, the last place of them first; no words end the search."""
        view = self.query_one(TextView)
        self._words, self._found = message.words, view.find(message.words)
        view.focus()
        if self._found:
            self._go(self._found[-1])
        elif self._words:
            self.desk.warn(f"search: nothing holds “{self._words}”")
        self._say()

    def do_next(self) -> None:
        """Go to the next place, after the last to the first."""
        self._go(self._found[bisect_right(self._found, self._at) % len(self._found)])

    def do_previous(self) -> None:
        """Go to the place before, before the first to the last."""
        self._go(self._found[bisect_left(self._found, self._at) - 1])

    def _go(self, number: int) -> None:
        self._at, self._following = number, False
        self.query_one(TextView).go_to(number)
        self._say()

    def do_follow(self) -> None:
        """Follow the end, or stay."""
        self._following = not self._following
        if self._following:
            self.query_one(TextView).do_last()
        self._say()
