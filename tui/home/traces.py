"""How the loss of each run in view went, read again only where its file has changed."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from readwrite_edit.runs.folder import RunFolder
from readwrite_edit.tui.home.listing import RunRow
from readwrite_edit.tui.home.sparkline import Trace, read_trace

_Signature = tuple[int, int, int]
_ABSENT: _Signature = (0, 0, 0)


class Traces:
    """Reads traces for one worker at a time; what it gives is kept by its caller."""

    def __init__(self) -> None:
        """Nothing read yet."""
        self._signatures: dict[str, _Signature | str] = {}

    def read(self, rows: Iterable[RunRow]) -> dict[str, Trace]:
        """The traces, by the key of their row, of those rows whose metrics changed since they were last read."""
        found = {}
        for row in rows:
            signature = _signature(RunFolder(row.view.path).metrics, row.view.segment)
            if self._signatures.get(row.key, _ABSENT) != signature:
                self._signatures[row.key] = signature
                found[row.key] = read_trace(row.view.path, resumed=row.view.segment > 0)
        return found


def _signature(file: Path, segment: int) -> _Signature | str:
    """What changes with a file; of one that can not be looked at, why."""
    try:
        status = os.stat(file)
    except FileNotFoundError:
        return _ABSENT
    except OSError as error:
        return str(error)
    return status.st_ctime_ns, status.st_size, segment  # it also changes with the rights
