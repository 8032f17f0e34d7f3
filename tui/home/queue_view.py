"""What the list of runs shows of the queue, and does to it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from readwrite_edit.errors import ReadWriteEditError
from readwrite_edit.tui.dialogs import ConfirmDialog
from readwrite_edit.tui.frame import command_text

if TYPE_CHECKING:
    from readwrite_edit.queue import Item
    from readwrite_edit.tui.home.listing import RunRow
    from readwrite_edit.tui.home.runs_screen import RunsScreen


@dataclass(frozen=True)
class QueueView:
    """A queue at one moment.

    Attributes:
        items: In the order in which they are to run.
        paused: Whether it starts nothing just now.
        served: Whether a runner lives.
        problem: Why it can not be read; empty where it can.
    """

    items: tuple[Item, ...] = ()
    paused: bool = False
    served: bool = False
    problem: str = ""

    @property
    def waiting(self) -> int:
        """How many items wait."""
        return sum(item.state == "waiting" for item in self.items)

    @property
    def shown(self) -> list[Item]:
        """Items that are no row of the list as runs: those that wait, and those that began or failed without a folder.

        It looks at the disk: for workers.
        """
        return [
            item
            for item in self.items
            if item.state == "waiting" or (item.state in ("running", "failed") and not item.run.is_dir())
        ]

    def __str__(self) -> str:
        """In words for the title; empty where there is nothing to say."""
        if self.problem:
            return f"queue: {self.problem}"
        if self.paused:
            return f"queue paused, {self.waiting} waiting"
        if not self.waiting:
            return ""
        return f"queue: {self.waiting} waiting" + ("" if self.served else ", nobody runs it")


def read_queue(root: Path) -> QueueView:
    """The queue of a folder of runs; an empty one where there is none."""
    if not (root / ".queue").is_dir():
        return QueueView()
    from readwrite_edit import queue

    try:
        return QueueView(tuple(queue.items(root)), queue.is_paused(root), queue.runner_alive(root))
    except ReadWriteEditError as error:
        return QueueView(problem=str(error))


def ask_to_cancel(screen: RunsScreen, row: RunRow) -> None:
    """Take an item out of the queue after a question."""
    from readwrite_edit import queue

    item = row.item
    assert item is not None  # rows without one are runs

    def answered(yes: bool | None) -> None:
        if not yes:
            return
        screen.show_command(argv)
        try:
            queue.forget(screen.root, item.id)
            screen.desk.tell(f"{item.name} waits no longer")
        except ReadWriteEditError as error:
            screen.desk.warn(str(error))
        screen.read_again()

    argv = ["queue", "rm", item.id, "--root", str(screen.root)]
    screen.desk.push_screen(ConfirmDialog(f"Take {row.name} out of the queue?", command_text(argv)), answered)


def switch_queue(screen: RunsScreen, view: QueueView) -> None:
    """Pause the queue; let a paused one, or one that nobody runs, go on."""
    from readwrite_edit import queue

    goes_on = view.paused or not view.served
    try:
        if goes_on:
            queue.resume(screen.root)
            queue.ensure_runner(screen.root)
        else:
            queue.pause(screen.root)
    except ReadWriteEditError as error:
        screen.desk.warn(str(error))
        return
    screen.show_command(["queue", "resume" if goes_on else "pause", "--root", str(screen.root)])
    screen.desk.tell("the queue goes on" if goes_on else "the queue is paused: what runs goes on, nothing else begins")
    screen.read_again()
