"""Asking a run to stop, from any screen: check, confirm, write the request."""

from __future__ import annotations

import shlex

from textual.app import App

from readwrite_edit.errors import ReadWriteEditError
from readwrite_edit.runs.reader import RunView, read_run
from readwrite_edit.runs.requests import request_stop
from readwrite_edit.terminal import printable
from readwrite_edit.tui.dialogs import ConfirmDialog


def ask_to_stop(app: App[None], view: RunView) -> None:
    """Ask the user, then the run; says why where there is nothing to stop."""
    name = printable(view.name)
    if not view.live:
        app.notify(f"{name} is {view.status}: there is nothing to stop", severity="warning", markup=False)
        return

    def answered(yes: bool | None) -> None:
        if yes:
            _stop(app, view)

    command = f"readwrite-edit runs stop {printable(shlex.quote(str(view.path)))}"
    app.push_screen(ConfirmDialog(f"Stop {name}? It saves and ends at its next step.", command), answered)


def _stop(app: App[None], view: RunView) -> None:
    name, status = printable(view.name), read_run(view.path).status
    try:
        if status in ("running", "stopping", "silent"):
            request_stop(view.path)
            app.notify(f"asked {name} to stop", markup=False)
        else:
            app.notify(f"{name} ended meanwhile: it is {status}", severity="warning", markup=False)
    except ReadWriteEditError as error:
        app.notify(printable(str(error)), severity="error", markup=False)
