"""Going on with a run that stopped or failed, from any screen."""

from __future__ import annotations

from typing import TYPE_CHECKING

from readwrite_edit.errors import ReadWriteEditError
from readwrite_edit.runs.reader import RunView

if TYPE_CHECKING:
    from readwrite_edit.tui.frame import WorkScreen


def resume_run(screen: WorkScreen, view: RunView) -> None:
    """Start the command that goes on with a run, and show it; or say why there is none."""
    from readwrite_edit.runs.resuming import resume_argv

    try:
        argv = resume_argv(view.path)
    except ReadWriteEditError as error:
        screen.desk.warn(str(error))
        return
    screen.show_command(argv)
    screen.desk.launches.start(argv, view.name)
