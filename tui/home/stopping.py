"""Asking a run to stop, from any screen: first by its stop request, and where it does not heed that, by a signal.

Each step is a question of its own: the request; 60 s later SIGTERM; 10 s after
that SIGKILL, which wants the run's name typed. Nothing pops up by itself: a
dialog under the fingers of someone who is typing would be answered by mistake.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from textual.screen import ModalScreen

from readwrite_edit.errors import ReadWriteEditError
from readwrite_edit.runs.folder import RunFolder
from readwrite_edit.runs.reader import RunView, read_run
from readwrite_edit.runs.requests import request_stop
from readwrite_edit.runs.wording import age_text
from readwrite_edit.terminal import printable
from readwrite_edit.tui.dialogs import ConfirmDialog, TypedDialog

if TYPE_CHECKING:
    from readwrite_edit.tui.app import RunsApp

PATIENCE_S = 60.0
GRACE_S = 10.0
_WHAT_FOLLOWS = {"edit": "An edit has nothing to save: it ends at its next check, without an adapter."}


class Stops:
    """What this session has asked of runs: when a signal was sent, and which delays were pointed out."""

    def __init__(self) -> None:
        """Nothing yet."""
        self.terminated_s: dict[Path, float] = {}
        self.asked_s: dict[Path, float] = {}


def why_no_stop(view: RunView) -> str | None:
    """Why a run can not be stopped; None where it can."""
    return None if view.live else f"{view.name} is {view.status}: there is nothing to stop"


def ask_to_stop(desk: RunsApp, view: RunView) -> None:
    """Ask the user for the next step against a run that lives."""
    if reason := why_no_stop(view):
        desk.warn(reason)
        return
    now = desk.clock()
    asked_s, sent_s = _since_request(view.path, now), desk.stops.terminated_s.get(view.path)
    if asked_s is None:
        _ask(desk, view)
    elif asked_s < PATIENCE_S:
        left = f"from {PATIENCE_S:.0f} s on, this key offers SIGTERM"
        desk.warn(f"{view.name} was asked to stop {age_text(asked_s)} ago: {left}")
    elif sent_s is None:
        _offer_terminate(desk, view, asked_s)
    elif now - sent_s < GRACE_S:
        left = f"from {GRACE_S:.0f} s on, this key offers SIGKILL"
        desk.warn(f"{view.name} got SIGTERM {age_text(now - sent_s)} ago: {left}")
    else:
        _offer_kill(desk, view)


def point_out_delays(desk: RunsApp, views: Iterable[RunView]) -> None:
    """Say once of each run that was asked to stop here, and still lives a minute later, what can be done."""
    for view in views:
        asked_s = desk.stops.asked_s.get(view.path)
        if asked_s is not None and desk.clock() - asked_s >= PATIENCE_S:
            del desk.stops.asked_s[view.path]
            if view.live:
                remedy = "stop it again for SIGTERM"
                desk.warn(f"{view.name} still lives {PATIENCE_S:.0f} s after the stop request: {remedy}")


def _since_request(path: Path, now: float) -> float | None:
    try:
        return max(0.0, now - os.stat(RunFolder(path).stop_request).st_mtime)
    except OSError:
        return None


def _ask(desk: RunsApp, view: RunView) -> None:
    follows = _WHAT_FOLLOWS.get(view.kind, "It saves and ends at its next step.")
    dialog = ConfirmDialog(f"Stop {printable(view.name)}? {follows}", _command(view))
    _then(desk, dialog, view, lambda: _request(desk, view))


def _offer_terminate(desk: RunsApp, view: RunView, asked_s: float) -> None:
    question = (
        f"{printable(view.name)} still lives {age_text(asked_s)} after it was asked to stop.\n\n"
        "Send SIGTERM to its process group? What it has not saved in a checkpoint is lost."
    )
    _then(desk, ConfirmDialog(question, ""), view, lambda: _signal(desk, view, "SIGTERM"))


def _offer_kill(desk: RunsApp, view: RunView) -> None:
    name = printable(view.name)
    question = (
        f"{name} still lives after SIGTERM.\n\nSend SIGKILL to its process group? It ends at once and saves nothing."
    )
    _then(desk, TypedDialog(question, "", name), view, lambda: _signal(desk, view, "SIGKILL"))


def _then(desk: RunsApp, dialog: ModalScreen[bool], view: RunView, act: Callable[[], None]) -> None:
    """Ask; on yes look again whether the run lives, then act."""

    def answered(yes: bool | None) -> None:
        if not yes:
            return
        status = read_run(view.path)
        if not status.live:
            desk.warn(f"{view.name} ended meanwhile: it is {status.status}")
            return
        try:
            act()
        except ReadWriteEditError as error:
            desk.warn(str(error))

    desk.push_screen(dialog, answered)


def _request(desk: RunsApp, view: RunView) -> None:
    request_stop(view.path)
    desk.stops.asked_s[view.path] = desk.clock()
    desk.tell(f"asked {view.name} to stop")


def _signal(desk: RunsApp, view: RunView, signal: str) -> None:
    from readwrite_edit.runs.termination import kill, terminate

    if signal == "SIGTERM":
        desk.tell(f"{view.name}: {terminate(view.path)}")
        desk.stops.terminated_s[view.path] = desk.clock()
    else:
        desk.tell(f"{view.name}: {kill(view.path)}")


def _command(view: RunView) -> str:
    return printable(shlex.join(["readwrite-edit", "runs", "stop", str(view.path)]))
