"""Filling in the recipe of an alignment, and starting or queueing its run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from textual.app import ComposeResult
from textual.binding import BindingType

from readwrite_edit.runs.folder import recipe_title
from readwrite_edit.tui.actions import bindings_of
from readwrite_edit.tui.forms.process import Commands
from readwrite_edit.tui.forms.running import RunForm

if TYPE_CHECKING:
    from readwrite_edit.tui.forms.source import Opened

DEFAULT = "dpo_readonly"


class NewScreen(RunForm):
    """A recipe of an alignment as a form.

    Args:
        source: A shipped recipe's name, a file, or a run's folder.
        commands: How commands are started.
    """

    NAME: ClassVar[str] = "new"
    TITLE_OF: ClassVar[str] = "new run"
    BINDINGS: ClassVar[list[BindingType]] = [*bindings_of("new")]

    def __init__(self, source: str | Path = DEFAULT, *, commands: Commands | None = None) -> None:
        super().__init__(str(source), commands=commands)

    def body(self) -> ComposeResult:
        """Where the recipe comes from and the run goes to; the form."""
        yield from self.choices()
        yield from self.form_part()

    def read(self, source: str) -> Opened:
        """The recipe; in a worker."""
        from readwrite_edit.tui.forms.source import open_align

        return open_align(source)

    def sources(self) -> list[str]:
        """The recipes of alignments that ship."""
        from readwrite_edit.tui.forms.source import recipes_of

        return recipes_of(edits=False)

    def run_name(self) -> str:
        """As the command line would call it."""
        return recipe_title(self.source)

    def run_arguments(self) -> list[str]:
        """``align`` with what differs from the recipe."""
        changes = self.draft.overrides() if self.draft else []
        return ["align", "--recipe", self.source, *(part for change in changes for part in ("--set", change))]

    def appeared(self, run: Path) -> None:
        """Go to the run's screen; back from there is the list of runs."""
        from readwrite_edit.tui.run.run_screen import RunScreen

        if self.app.screen is self:
            self.app.switch_screen(RunScreen(run))
