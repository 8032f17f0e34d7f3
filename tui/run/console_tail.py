"""The end of a ``console.log`` that someone is still writing: bounded, however long the file or a line is."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

from readwrite_edit.runs.console import as_seen
from readwrite_edit.runs.regular import open_regular
from readwrite_edit.terminal import printable

TAIL_BYTES = 1 << 20
_LONGEST_LINE = 4000


@dataclass(frozen=True)
class ConsoleReading:
    """What was added since the last reading.

    Attributes:
        lines: Complete lines, safe to show.
        pending: What stands on the line that has no end yet.
        anew: Whether what was read before is void or too far back.
        left_out_bytes: Bytes of the file that were never read.
        problem: Why the file can not be read; empty where it can.
    """

    lines: list[str] = field(default_factory=list)
    pending: str = ""
    anew: bool = False
    left_out_bytes: int = 0
    problem: str = ""


class ConsoleTail:
    """Reads a log from its last MiB on."""

    def __init__(self, path: Path) -> None:
        """Start; the file need not exist yet."""
        self.path = path
        self._identity: tuple[int, int] | None = None
        self._offset = self._left_out = 0
        self._held = b""
        self._cut = 0  # bytes of the unfinished line that were let go

    def read(self) -> ConsoleReading:
        """Take in what is new; what grew by more than a MiB meanwhile is left out but for its end."""
        try:
            stream = open_regular(self.path)
        except FileNotFoundError:
            return ConsoleReading(problem="Nothing was printed yet.")
        except OSError as error:
            return ConsoleReading(problem=f"It can not be read: {error.strerror or error}.")
        with stream:
            anew = self._place(os.fstat(stream.fileno()))
            stream.seek(self._offset)
            data = stream.read(TAIL_BYTES) or b""
        if anew and self._offset:
            skipped = data.find(b"\n") + 1 or len(data)
            self._left_out, self._offset, data = self._offset + skipped, self._offset + skipped, data[skipped:]
        self._offset += len(data)
        *lines, rest = (self._held + data).split(b"\n")
        shown = [self._shown(line) for line in lines]
        self._hold(rest)
        return ConsoleReading(shown, self._peek(), anew, self._left_out)

    def _place(self, status: os.stat_result) -> bool:
        """Decide where to read on; whether that is not where the last reading ended."""
        identity = status.st_dev, status.st_ino
        same = self._identity == identity and status.st_size >= self._offset
        self._identity = identity
        if same and status.st_size - self._offset <= TAIL_BYTES:
            return False
        self._offset = self._left_out = max(0, status.st_size - TAIL_BYTES)
        self._held, self._cut = b"", 0
        return True

    def _hold(self, rest: bytes) -> None:
        kept = 4 * _LONGEST_LINE
        self._cut += max(0, len(rest) - kept)
        self._held = rest[:kept]

    def _shown(self, line: bytes) -> str:
        """A complete line: escapes and what was overwritten gone, control characters visible, cut where overlong."""
        cut, self._cut = self._cut, 0
        text = printable(as_seen(line[: 4 * _LONGEST_LINE].decode("utf-8", "replace")).expandtabs(4))
        if cut or len(line) > 4 * _LONGEST_LINE or len(text) > _LONGEST_LINE:
            return f"{text[:_LONGEST_LINE]} … (a line of {(len(line) + cut) / 1024:,.0f} KiB, cut)"
        return text

    def _peek(self) -> str:
        cut = self._cut
        text = self._shown(self._held) if self._held else ""
        self._cut = cut
        return text
