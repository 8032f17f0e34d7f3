"""What goes on with a run: the command for its kind."""

from __future__ import annotations

from pathlib import Path

from readwrite_edit.runs.folder import FolderError
from readwrite_edit.runs.reader import read_run

_BY_KIND = {"align": ["align", "--resume"], "probe": ["probe", "resume"]}


def resume_argv(path: Path) -> list[str]:
    """Arguments, without the program, of the command that goes on with a run.

    Args:
        path: The run folder.

    Raises:
        FolderError: It is no run, may be living, is finished, or is of a kind that is not resumed.
    """
    view = read_run(path)
    if view.status == "broken":
        raise FolderError(f"{path}: {view.reason}: it can not be resumed")
    if view.live:
        raise FolderError(f"{path} is {view.status}: there is nothing to resume")
    if view.status == "finished":
        raise FolderError(f"{path} is finished: start a new run")
    if view.kind not in _BY_KIND:
        raise FolderError(f"{path} is of kind {view.kind}, which is not resumed: make it anew")
    return [*_BY_KIND[view.kind], str(path)]
