"""Asking a run to stop, from any screen: first by its stop request, and where it does not heed that, by a signal.

Each step is a question of its own: the request; 60 s later SIGTERM; 10 s after
that SIGKILL, which wants the run's name typed. Nothing pops up by itself: a
dialog under the fingers of someone who is typing would be answered by mistake.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
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
from readwrite_edit.tui.frame import command_text

if TYPE_CHECKING:
    from readwrite_edit.tui.app import RunsApp
    from readwrite_edit.tui.frame import WorkScreen

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


def ask_to_stop(screen: WorkScreen, view: RunView) -> None:
    """Ask the user for the next step against a run that lives."""
    desk = screen.desk
    if reason := why_no_stop(view):
        desk.warn(reason)
        return
    now = desk.clock()
    asked_s, sent_s = _since_request(view.path, now), desk.stops.terminated_s.get(view.path)
    if asked_s is None:
        _ask(screen, view)
    elif asked_s < PATIENCE_S:
        left = f"from {PATIENCE_S:.0f} s on, this key offers SIGTERM"
        desk.warn(f"{view.name} was asked to stop {age_text(asked_s)} ago: {left}")
    elif sent_s is None:
        _offer_terminate(screen, view, asked_s)
    elif now - sent_s < GRACE_S:
        left = f"from {GRACE_S:.0f} s on, this key offers SIGKILL"
        desk.warn(f"{view.name} got SIGTERM {age_text(now - sent_s)} ago: {left}")
    else:
        _offer_kill(screen, view)


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


def _ask(screen: WorkScreen, view: RunView) -> None:
    follows, argv = _WHAT_FOLLOWS.get(view.kind, "It saves and ends at its next step."), stop_argv(view)
    dialog = ConfirmDialog(f"Stop {printable(view.name)}? {follows}", command_text(argv))
    _then(screen, dialog, view, argv, lambda: _request(screen.desk, view))


def _offer_terminate(screen: WorkScreen, view: RunView, asked_s: float) -> None:
    question = (
        f"{printable(view.name)} still lives {age_text(asked_s)} after it was asked to stop.\n\n"
        "Send SIGTERM to its process group? What it has not saved in a checkpoint is lost."
    )
    argv = stop_argv(view, "--terminate")
    _then(screen, ConfirmDialog(question, command_text(argv)), view, argv, lambda: _terminate(screen.desk, view))


def _offer_kill(screen: WorkScreen, view: RunView) -> None:
    name = printable(view.name)
    question = (
        f"{name} still lives after SIGTERM.\n\nSend SIGKILL to its process group? It ends at once and saves nothing."
    )
    argv = stop_argv(view, "--kill")
    _then(screen, TypedDialog(question, command_text(argv), name), view, argv, lambda: _kill(screen.desk, view))


def _then(
    screen: WorkScreen, dialog: ModalScreen[bool], view: RunView, argv: Sequence[str], act: Callable[[], None]
) -> None:
    """Ask; on yes look again whether the run lives, then act, and show the command that does the same."""
    desk = screen.desk

    def answered(yes: bool | None) -> None:
        if not yes:
            return
        status = read_run(view.path)
        if not status.live:
            desk.warn(f"{view.name} ended meanwhile: it is {status.status}")
            return
        screen.show_command(argv)
        try:
            act()
        except ReadWriteEditError as error:
            desk.warn(str(error))

    desk.push_screen(dialog, answered)


def _request(desk: RunsApp, view: RunView) -> None:
    request_stop(view.path)
    desk.stops.asked_s[view.path] = desk.clock()
    desk.tell(f"asked {view.name} to stop")


def _terminate(desk: RunsApp, view: RunView) -> None:
    from readwrite_edit.runs.termination import terminate

    desk.tell(f"{view.name}: {terminate(view.path)}")
    desk.stops.terminated_s[view.path] = desk.clock()


def _kill(desk: RunsApp, view: RunView) -> None:
    from readwrite_edit.runs.termination import kill

    desk.tell(f"{view.name}: {kill(view.path)}")


def stop_argv(view: RunView, *options: str) -> list[str]:
    """The command that asks a run to stop."""
    return ["runs", "stop", *options, str(view.path)]
