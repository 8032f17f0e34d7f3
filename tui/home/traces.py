"""How the loss of each run in view went, read again only where its file has grown."""

from __future__ import annotations

import os
from collections.abc import Iterable

from readwrite_edit.runs.folder import RunFolder
from readwrite_edit.tui.home.listing import RunRow
from readwrite_edit.tui.home.sparkline import Trace, read_trace


class Traces:
    """Reads traces for one worker at a time; what it gives is kept by its caller."""

    def __init__(self) -> None:
        """Nothing read yet."""
        self._signatures: dict[str, tuple[int, int, int]] = {}

    def read(self, rows: Iterable[RunRow]) -> dict[str, Trace]:
        """The traces, by the key of their row, of those rows whose metrics changed since they were last read."""
        found = {}
        for row in rows:
            try:
                status = os.stat(RunFolder(row.view.path).metrics)
            except OSError:
                continue
            signature = status.st_mtime_ns, status.st_size, row.view.segment
            if self._signatures.get(row.key) != signature:
                self._signatures[row.key] = signature
                found[row.key] = read_trace(row.view.path, resumed=row.view.segment > 0)
        return found
