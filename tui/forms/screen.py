"""What screens with a form share: reading a recipe, checking each change, the command, starting, leaving."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, ClassVar

from rich.text import Text
from textual import work
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.message import Message
from textual.timer import Timer
from textual.widgets import Input, Static

from readwrite_edit.terminal import printable
from readwrite_edit.tui.dialogs import ConfirmDialog
from readwrite_edit.tui.forms.form import Form
from readwrite_edit.tui.forms.launching import Launching
from readwrite_edit.tui.forms.process import Commands
from readwrite_edit.tui.forms.row import Row
from readwrite_edit.tui.frame import CommandLine, WorkScreen, command_text

if TYPE_CHECKING:
    from readwrite_edit.tui.forms.draft import Draft, Snapshot, Wrong
    from readwrite_edit.tui.forms.schema import Field
    from readwrite_edit.tui.forms.source import Opened

_CHECK_AFTER_S = 0.12


class FormScreen(Launching, WorkScreen):
    """A form and what is done with it; the screen says where its recipe comes from and what command it stands for."""

    AUTO_FOCUS: ClassVar[str | None] = ""
    HORIZONTAL_BREAKPOINTS: ClassVar[list[tuple[int, str]] | None] = [(0, "-narrow"), (100, "-wide")]
    VERTICAL_BREAKPOINTS: ClassVar[list[tuple[int, str]] | None] = [(0, "-low"), (30, "-tall")]

    @dataclass
    class Loaded(Message):
        """A worker has read what the form starts from."""

        opened: Opened

    @dataclass
    class Checked(Message):
        """A worker has checked the recipe as it was at a certain edit."""

        edit: int
        problems: list[Wrong]

    def __init__(self, commands: Commands | None = None) -> None:
        """Start commands by ``commands``; those of this program by default."""
        super().__init__()
        self.commands = commands or Commands()
        self.opened: Opened | None = None
        self.problems: list[Wrong] = []
        self._edit, self._checked = 0, -1
        self._kept: list[str] = []
        self._before: list[str] = []
        self._checking: Timer | None = None
        self._finding: Timer | None = None

    # ---- what a screen says

    def read(self, source: str) -> Opened:
        """What the form starts from; called in a worker."""
        raise NotImplementedError

    def arguments(self) -> list[str]:
        """The command that the form stands for, without the program."""
        raise NotImplementedError

    def relevant(self, problems: Sequence[Wrong]) -> list[Wrong]:
        """The problems that are some for this command."""
        return list(problems)

    def took(self, opened: Opened) -> None:
        """The form starts from something else now."""

    def typed(self, line: str, text: str) -> None:
        """A line of the screen beside the form, by its id, has another text."""

    # ---- the form

    def form_part(self) -> ComposeResult:
        """Form, help of the field under the cursor, whether all is in order."""
        yield Form()
        with Vertical(id="foot"):
            yield Static(id="help", markup=False)
            yield Static(id="status", markup=False)
            yield Static(id="log", markup=False)

    @property
    def draft(self) -> Draft | None:
        """What is being filled in."""
        return self.opened.draft if self.opened else None

    @property
    def form(self) -> Form:
        """The form's widget."""
        return self.query_one(Form)

    @work(thread=True, exclusive=True, group="open")
    def open(self, source: str) -> None:
        """Read what the form starts from."""
        self.post_message(self.Loaded(self.read(source)))

    def on_form_screen_loaded(self, message: Loaded) -> None:
        """Show it; changes that were made already are kept where the new recipe has their keys."""
        opened = message.opened
        if opened.draft is None:
            self.say_problems([*opened.problems])
            return
        changed = {} if self.draft is None else self.draft.texts()
        self._kept = self._before = opened.draft.overrides()
        for field in opened.draft.fields():
            if field.key in changed:
                opened.draft.write(field, changed[field.key])
        self.opened = opened
        self.took(opened)
        shown = opened.keys | set(opened.draft.changes)
        self.form.load(opened.draft, shown, self.suggestions())
        self.refresh_command()
        self.check_now()

    def suggestions(self) -> dict[str, Sequence[str]]:
        """What completes the text of keys."""
        return {}

    def on_row_edited(self, message: Row.Edited) -> None:
        """A field has another value."""
        self._edit += 1
        self.refresh_command()
        if self._checking is not None:
            self._checking.stop()
        self._checking = self.set_timer(_CHECK_AFTER_S, self.check_now)

    def on_form_entered(self, message: Form.Entered) -> None:
        """The cursor is in another field."""
        self._help(message.field)

    def on_input_changed(self, event: Input.Changed) -> None:
        """A line beside the form: that to find keys by, or one of the screen's."""
        if event.input.id == "find":
            if self._finding is not None:
                self._finding.stop()
            self._finding = self.set_timer(_CHECK_AFTER_S, partial(self.form.find, event.value))
        else:
            self.typed(event.input.id or "", event.value)

    def _help(self, field: Field | None) -> None:
        """What the field is, and what it may be."""
        shown = self.query_one("#help", Static)
        if field is None or self.draft is None:
            shown.update("", layout=False)
            return
        default = "" if field.required else f" · default {self.draft.default_text(field) or 'none'}"
        first = printable(f"{field.key}  {field.expects}{default}".replace("\n", " | "))
        shown.update(Text.assemble((first, "bold"), f"\n{printable(field.about)}"), layout=False)

    # ---- checking

    def check_now(self) -> None:
        """Check the recipe as it is."""
        if self.draft is not None:
            self._check(self._edit, self.draft.snapshot())

    @work(thread=True, exclusive=True, group="check")
    def _check(self, edit: int, snapshot: Snapshot) -> None:
        from readwrite_edit.tui.forms.draft import wrong_with

        self.post_message(self.Checked(edit, wrong_with(snapshot)))

    def on_form_screen_checked(self, message: Checked) -> None:
        """Say what is wrong, at the fields and below; of an earlier edit it does not matter any more."""
        self._checked = message.edit
        if message.edit == self._edit:
            self._settle(message.problems)

    def _settle(self, problems: Sequence[Wrong]) -> None:
        own = self.opened.problems if self.opened else ()
        self.problems = self.relevant([*own, *problems])
        self.form.mark(self.problems)
        self.say_problems(self.problems)

    def say_problems(self, problems: Sequence[Wrong]) -> None:
        """Whether all is in order, in the line below the form."""
        status = self.query_one("#status", Static)
        status.set_class(bool(problems), "-wrong")
        if problems:
            status.update(printable(f"✗ {self._in_short(problems)}"))
        else:
            changes = len(self.draft.changes) if self.draft else 0
            status.update(f"✓ in order, {changes or 'nothing'} changed")

    def _in_short(self, problems: Sequence[Wrong]) -> str:
        """How many problems; in words those that no field shows."""
        count = f"{len(problems)} problems" if len(problems) > 1 else "1 problem"
        shown = [one for one in problems if self.draft is not None and self.draft.field(one.key)]
        others = [str(one) for one in problems if one not in shown]
        return f"{count}: {'; '.join([*others, *dict.fromkeys(one.key for one in shown)])}"

    def ready(self, action: str) -> bool:
        """Whether the recipe can be used as it is now; says why not, and goes to the first problem."""
        if self.draft is None:
            self.desk.warn(f"{action}: there is no recipe yet; choose one above")
            return False
        from readwrite_edit.tui.forms.draft import wrong_with

        self._settle(wrong_with(self.draft.snapshot()))
        if not self.problems:
            return True
        field = self.draft.field(self.problems[0].key)
        if field is not None:
            self.form.go_to(field.key)
        self.desk.warn(f"{action}: {self.problems[0]}")
        return False

    # ---- the command

    def show_command(self, arguments: Sequence[str]) -> None:
        """Say which command does the same; the whole of it, over several lines where it is long."""
        line = self.query_one(CommandLine)
        before, line.command = line.command, command_text(arguments)
        width = max(1, self.size.width - 2)
        line.update(Text(f"$ {line.command}"), layout=len(before) // width != len(line.command) // width)

    def refresh_command(self) -> None:
        """Show the command that the form stands for."""
        if self.draft is not None:
            self.show_command(self.arguments())

    def started(self) -> None:
        """What the form says was used."""
        self.keep()

    def keep(self) -> None:
        """What the form says now was used: leaving it loses nothing."""
        self._kept = self.draft.overrides() if self.draft else []

    def unkeep(self) -> None:
        """It was not used after all."""
        self._kept = self._before

    def show_log(self, title: str, lines: Sequence[str]) -> None:
        """Show lines that a command printed, below the form; none: away with them."""
        shown = self.query_one("#log", Static)
        shown.update("\n".join([printable(title), *lines]))
        shown.display = bool(lines)

    # ---- actions

    def do_copy(self) -> None:
        """Put the command on the clipboard."""
        self.desk.do_copy()

    def do_find(self) -> None:
        """Go to the line that finds keys."""
        self.query_one("#find", Input).focus()

    def do_default(self) -> None:
        """Set the field under the cursor back to what it was before."""
        row = self.form.row
        if row is None or self.draft is None:
            self.desk.warn("default: no field of the recipe is under the cursor")
        else:
            row.write(self.draft.text_before(row.field))

    def do_back(self) -> None:
        """Leave; ask first where changes would be lost."""
        self.leave(self.desk.pop_screen)

    def leave(self, away: Callable[[], object]) -> None:
        """Go, unless changes would be lost and the user keeps them."""
        lost = [] if self.draft is None else [one for one in self.draft.overrides() if one not in self._kept]
        if not lost:
            away()
            return

        def answered(yes: bool | None) -> None:
            if yes:
                away()

        count = f"{len(lost)} changes are" if len(lost) > 1 else "1 change is"
        question = f"Leave this form? {count} lost; nothing was started with them."
        self.desk.push_screen(ConfirmDialog(question, command_text(self.arguments())), answered)
