"""The command line as a subprocess of a form: asked for an answer, or started for good."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from readwrite_edit.terminal import printable

if TYPE_CHECKING:
    from readwrite_edit.runs.launching import Launched

_COMPLAINT = "readwrite-edit: "
_MOST_LINES = 8


@dataclass(frozen=True)
class Answer:
    """What a command said.

    Attributes:
        code: Its exit code.
        out: What it printed.
        complaints: What it printed as errors, a line each, safe to show.
    """

    code: int
    out: str
    complaints: tuple[str, ...]

    @property
    def why(self) -> str:
        """Why it failed, in one line."""
        return "; ".join(self.complaints) or f"it ended with exit code {self.code} and said nothing"


class Commands:
    """Starts commands of this program, given by their arguments."""

    def program(self, argv: Sequence[str]) -> list[str]:
        """The whole command."""
        from readwrite_edit.runs.launching import program

        return program(argv)

    async def ask(self, argv: Sequence[str]) -> Answer:
        """Run a command that only answers; where nobody waits for the answer any more it is ended.

        One that can not be started, or read from, answers with the reason.
        """
        try:
            return await self._answer(argv)
        except OSError as error:
            return Answer(1, "", (printable(str(error)),))

    async def _answer(self, argv: Sequence[str]) -> Answer:
        process = await asyncio.create_subprocess_exec(
            *self.program(argv),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,
        )
        try:
            out, errors = await process.communicate()
        except BaseException:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)
            raise
        return Answer(process.returncode or 0, out.decode("utf-8", "replace"), _complaints(errors))

    def launch(self, argv: Sequence[str], *, root: Path, name: str) -> Launched:
        """Start a command that outlives the TUI.

        Raises:
            FolderError: It can not be started.
        """
        from readwrite_edit.runs.launching import launch

        return launch(argv, root=root, name=name)

    def queue(self, argv: Sequence[str], *, root: Path, name: str) -> None:
        """Add a command to the queue, and see to it that the queue has a runner.

        Raises:
            FolderError: The queue can not be written.
        """
        from readwrite_edit.queue import add, ensure_runner

        add(root, list(argv), name)
        ensure_runner(root)


@dataclass(frozen=True)
class Following:
    """A launched command that is watched until it ends.

    Attributes:
        launched: The command.
        run: Folder of the run that it makes; None where it makes none.
    """

    launched: Launched
    run: Path | None = None

    @property
    def appeared(self) -> bool:
        """Whether its run can be looked at."""
        return self.run is not None and (self.run / "state.json").exists()

    def outcome(self) -> tuple[int, list[str]] | None:
        """Its exit code and the last lines that it printed, safe to show; None while it runs."""
        from readwrite_edit.runs.launching import launch_outcome

        found = launch_outcome(self.launched)
        return None if found is None else (found[0], [printable(line) for line in found[1]])


def _complaints(errors: bytes) -> tuple[str, ...]:
    """The program's own sentences; where there is none, the last lines of whatever there is."""
    lines = [line.strip() for line in errors.decode("utf-8", "replace").replace("\r", "\n").splitlines()]
    own = [line.removeprefix(_COMPLAINT) for line in lines if line.startswith(_COMPLAINT)]
    return tuple(printable(line) for line in own or [line for line in lines if line][-_MOST_LINES:])
