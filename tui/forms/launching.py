"""Starting a command for good and watching it, for a screen or a pane."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from textual import work
from textual.message import Message

from readwrite_edit.errors import ReadWriteEditError
from readwrite_edit.tui.forms.process import Commands, Following
from readwrite_edit.tui.frame import Performing

_LOOK_EVERY_S = 0.3


class Launching(Performing):
    """Watches the command that it launched until its run can be looked at, or it ends.

    Attributes:
        commands: How commands are started.
        following: The command that is being watched.
    """

    commands: Commands
    following: Following | None = None

    @dataclass
    class Began(Message, bubble=False):
        """A command was launched, or why not; a pane's is none of its screen's, that launches commands too."""

        following: Following | None
        problem: str = ""

    def started(self) -> None:
        """The command runs."""

    def refused(self, problem: str) -> None:
        """The command could not be started."""
        self.desk.warn(problem)

    def appeared(self, run: Path) -> None:
        """The run that was started can be looked at."""

    def ended(self, code: int, lines: list[str]) -> None:
        """The command has ended, before there was a run where it makes one; its last lines, safe to show."""

    @work(thread=True, group="launch")
    def launch(self, argv: Sequence[str], name: str, run: Path | None = None) -> None:
        """Start a command of this program for good.

        Args:
            argv: Its arguments.
            name: Of what it makes, for its log.
            run: Folder of the run that it makes, if any.
        """
        try:
            launched = self.commands.launch(argv, root=self.desk.root, name=name)
            self.post_message(self.Began(Following(launched, run)))
        except ReadWriteEditError as error:
            self.post_message(self.Began(None, str(error)))

    def on_launching_began(self, message: Began) -> None:
        """Begin to watch."""
        if message.following is None:
            self.refused(message.problem)
            return
        self.following = message.following
        self.started()
        self.set_timer(_LOOK_EVERY_S, partial(self._look, message.following))

    def _look(self, watched: Following) -> None:
        outcome = watched.outcome()
        if outcome is None and not watched.appeared:
            self.set_timer(_LOOK_EVERY_S, partial(self._look, watched))
            return
        self.following = None
        if watched.run is not None and watched.appeared:
            self.appeared(watched.run)
        elif outcome is not None:
            self.ended(*outcome)
