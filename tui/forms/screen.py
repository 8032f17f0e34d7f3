"""What screens with a form share: reading a recipe, checking each change, the command, starting, leaving."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, ClassVar

from rich.text import Text
from textual import events, work
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.message import Message
from textual.timer import Timer
from textual.widgets import Input, Static

from readwrite_edit.terminal import printable
from readwrite_edit.tui.dialogs import ask_to_lose
from readwrite_edit.tui.forms.form import Form
from readwrite_edit.tui.forms.launching import Launching
from readwrite_edit.tui.forms.process import Commands
from readwrite_edit.tui.forms.row import Row
from readwrite_edit.tui.forms.typed_ahead import TypedAhead
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
        hub_id: str

    def __init__(self, commands: Commands | None = None) -> None:
        """Start commands by ``commands``; those of this program by default."""
        super().__init__()
        self.commands = commands or Commands()
        self.opened: Opened | None = None
        self.problems: list[Wrong] = []
        self._hub_id = ""
        self._edit, self._checked = 0, -1
        self._kept: list[str] = []
        self._before: list[str] = []
        self._checking: Timer | None = None
        self._finding: Timer | None = None
        self._ahead = TypedAhead(self)

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

    def choose_another(self) -> None:
        """There is nothing to fill in: go to where something else can be named."""

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
            self._ahead.drop()
            if self.focused is None:
                self.choose_another()
            return
        changed = {} if self.draft is None else self.draft.texts()
        self._kept = self._before = opened.draft.overrides()
        for field in opened.draft.fields():
            if field.key in changed:
                opened.draft.write(field, changed[field.key])
        self.opened = opened
        self.took(opened)
        self._fill(opened.draft, opened.keys | set(opened.draft.changes))
        self.refresh_command()
        self.check_now()

    @work(group="rows")
    async def _fill(self, draft: Draft, shown: Collection[str]) -> None:
        await self.form.load(draft, shown, self.suggestions())
        self.call_after_refresh(self._enter)  # which field is the next one, the layout tells

    @work(group="rows")
    async def _enter(self) -> None:
        if self.focused is None or self.form in self.focused.ancestors:  # else the user is elsewhere already
            self.form.enter()
        await self._ahead.give()

    def holds(self, key: events.Key) -> bool:
        """What is typed ahead of the form waits for it."""
        return self._ahead.take(key)

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
        from readwrite_edit.tui.forms.draft import hub_id, wrong_with

        self.post_message(self.Checked(edit, wrong_with(snapshot), hub_id(snapshot)))

    def on_form_screen_checked(self, message: Checked) -> None:
        """Say what is wrong, at the fields and below; of an earlier edit it does not matter any more."""
        self._checked, self._hub_id = message.edit, message.hub_id
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
            from readwrite_edit.tui.forms.draft import in_short

            status.update(printable(f"✗ {in_short(problems, self.draft)}"))
        else:
            changes = len(self.draft.changes) if self.draft else 0
            model = f"; {self._hub_id} is taken for a Hub id, looked up when the run begins" if self._hub_id else ""
            status.update(printable(f"✓ in order, {changes or 'nothing'} changed{model}"))

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

    @property
    def loses(self) -> int:
        """How many changes nothing was started with."""
        return 0 if self.draft is None else sum(one not in self._kept for one in self.draft.overrides())

    @property
    def lost_command(self) -> str:
        """What the form stands for."""
        return command_text(self.arguments())

    def do_back(self) -> None:
        """Leave; ask first where changes would be lost."""
        ask_to_lose(self.desk, "Leave this form?", [self], self.desk.pop_screen)
