"""Starting commands of this program from the TUI: each is a process of its own that goes on without it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from readwrite_edit.errors import ReadWriteEditError

if TYPE_CHECKING:
    from readwrite_edit.runs.launching import Launched
    from readwrite_edit.tui.app import RunsApp

_LOOK_EVERY_S = 1.0


class Launches:
    """Starts commands, and says so when one ends badly while the TUI is open."""

    def __init__(self, desk: RunsApp) -> None:
        """Nothing started yet."""
        self._desk = desk
        self._going: list[tuple[str, Launched]] = []
        self._looking = False

    def start(self, argv: Sequence[str], name: str) -> Launched | None:
        """Start a command; None where it could not be, which the user was told.

        Args:
            argv: Arguments without the program.
            name: Of the run or what else it makes, for messages and its log.
        """
        from readwrite_edit.runs.launching import launch

        try:
            launched = launch(argv, root=self._desk.root, name=name)
        except ReadWriteEditError as error:
            self._desk.warn(str(error))
            return None
        self._desk.tell(f"{name}: started as pid {launched.pid}; it goes on without this program")
        self._going.append((name, launched))
        if not self._looking:
            self._looking = True
            self._desk.set_interval(_LOOK_EVERY_S, self.look)
        return launched

    def look(self) -> None:
        """Say how those ended that did not end well."""
        from readwrite_edit.runs.launching import launch_outcome

        for name, launched in [*self._going]:
            outcome = launch_outcome(launched)
            if outcome is None:
                continue
            self._going.remove((name, launched))
            code, lines = outcome
            if code:
                said = lines[-1] if lines else "it said nothing"
                self._desk.warn(f"{name} ended with exit code {code}: {said} (all in {launched.log})")
