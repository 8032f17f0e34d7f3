"""What is done to rows of the list: notes and deleting."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from readwrite_edit.errors import ReadWriteEditError
from readwrite_edit.runs.notes import Note, read_note, write_note
from readwrite_edit.tui.dialogs import ConfirmDialog, TypedDialog
from readwrite_edit.tui.frame import command_text
from readwrite_edit.tui.home.listing import RunRow
from readwrite_edit.tui.home.note_dialog import NoteDialog
from readwrite_edit.tui.home.stopping import why_no_stop

if TYPE_CHECKING:
    from readwrite_edit.tui.app import RunsApp
    from readwrite_edit.tui.home.runs_screen import RunsScreen

PLAIN_YES = 5
_NAMED = 12
_AT_ONCE = 8
ON_A_ROW = ("open", "stop", "resume", "export", "note", "delete", "mark", "unmark")
_WITHOUT_FOLDER = ("open", "resume", "export", "note")


def why_not_row(name: str, row: RunRow) -> str | None:
    """Why an action on one row does not apply; None where it does.

    Args:
        name: The action's, without its place.
        row: The row under the cursor.
    """
    if row.item is not None and name in _WITHOUT_FOLDER:
        return f"{row.name} has not begun: it has no run folder yet"
    if row.item is not None and name == "stop":
        return None if row.item.state == "waiting" else f"{row.name} no longer waits"
    if name == "stop":
        return why_no_stop(row.view)
    if name == "export" and (row.view.status != "finished" or row.view.kind not in ("align", "edit")):
        return f"{row.name} is no finished alignment or edit: it has no adapter"
    return None


def why_no_comparison(paths: Sequence[Path]) -> str | None:
    """Why the marked runs can not be compared; None where they can."""
    from readwrite_edit.runs.comparison import FEWEST, MOST, same_run

    if not FEWEST <= len(paths) <= MOST:
        return f"mark two to four runs first; {len(paths)} are marked"
    twice = same_run(paths)
    return f"{twice[0].name} and {twice[1].name} are the same run: take one mark away" if twice else None


def ask_for_note(screen: RunsScreen, row: RunRow) -> None:
    """Let the user write on a run."""
    name = row.view.name
    try:
        before = read_note(screen.root, name)
    except ReadWriteEditError as error:
        screen.desk.warn(str(error))
        return

    def answered(note: Note | None) -> None:
        if note is None:
            return
        if not row.view.path.is_dir():  # it would be kept for a later run of that name
            screen.desk.warn(f"{row.name} was deleted meanwhile: the note is not kept")
            return
        screen.show_command(_note_argv(screen.root, name, before, note))
        try:
            write_note(screen.root, name, note)
        except ReadWriteEditError as error:
            screen.desk.warn(str(error))
        screen.read_again()

    screen.desk.push_screen(NoteDialog(name, before), answered)


def _note_argv(root: Path, name: str, before: Note, note: Note) -> list[str]:
    """The command that writes a note over another one."""
    tags = [f"--tag={tag}" for tag in note.tags if tag not in before.tags]
    gone = [f"--untag={tag}" for tag in before.tags if tag not in note.tags]
    return ["runs", "note", *tags, *gone, "--root", str(root), "--", name, note.text]


def ask_to_delete(screen: RunsScreen, rows: Sequence[RunRow]) -> None:
    """Delete rows after a question that names them; more than a few want their number typed."""
    living = [row for row in rows if row.item is None and row.view.live]
    if living:
        screen.desk.warn(f"delete: {living[0].name} is {living[0].view.status}: stop it first")
        return
    runs = [row.view.name for row in rows if row.item is None]
    items = [row.item.id for row in rows if row.item is not None]
    root = ["--root", str(screen.root)]
    dashed = any(name.startswith("-") for name in runs)  # it would be taken for an option
    named = [*root, "--", *runs] if dashed else [*(runs or items), *root]
    argv = [*(["runs", "rm"] if runs else ["queue", "rm"]), *named]

    def answered(yes: bool | None) -> None:
        if yes:
            screen.show_command(argv)
            screen.remove(rows)

    screen.desk.push_screen(_question(rows, command_text(argv)), answered)


def _question(rows: Sequence[RunRow], command: str) -> ConfirmDialog | TypedDialog:
    names = [row.name for row in rows]
    listed = "\n".join(f"  {name}" for name in names[:_NAMED])
    more = f"\n  and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    what = "this run" if len(names) == 1 else f"these {len(names)} runs"
    question = f"Delete {what} for good, with adapters and reports?\n\n{listed}{more}"
    if len(names) > PLAIN_YES:
        return TypedDialog(question, "", str(len(names)))
    return ConfirmDialog(question, command)


def remove_rows(root: Path, rows: Sequence[RunRow]) -> list[str]:
    """Delete runs and forget items of the queue, for a worker; gives what could not be done, in words."""
    from readwrite_edit.runs.removal import remove

    problems = []
    for row in rows:
        try:
            if row.item is None:
                remove(row.view.path)
            else:
                from readwrite_edit.queue import forget

                forget(root, row.item.id)
        except ReadWriteEditError as error:
            problems.append(str(error))
    return problems


def tell_removal(desk: RunsApp, asked: int, problems: Sequence[str]) -> None:
    """Say what was deleted and what was not."""
    done = asked - len(problems)
    if done:
        desk.tell(f"deleted {done} run{'s' if done > 1 else ''}")
    for problem in problems[:_AT_ONCE]:
        desk.warn(problem)
