"""What others may ask of a run: one file under ``requests/``, which the run looks for at each step."""

from __future__ import annotations

import time
from pathlib import Path

from readwrite_edit.durable import write_text
from readwrite_edit.runs.folder import FolderError, RunFolder


def request_stop(path: Path) -> None:
    """Ask a run to save and end at its next step; asking twice does no harm.

    Raises:
        FolderError: The request can not be written.
    """
    target = RunFolder(path).stop_request
    try:
        write_text(target, f"{time.time():.0f}\n")
    except OSError as error:
        raise FolderError(f"{target}: {error.strerror}: the run can not be asked to stop") from error
