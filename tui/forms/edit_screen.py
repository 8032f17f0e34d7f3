"""Editing a model in closed form: the form, the price, the effect, the ledger."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Vertical
from textual.widgets import ContentSwitcher

from readwrite_edit.runs.folder import recipe_title
from readwrite_edit.tui.actions import bindings_of
from readwrite_edit.tui.forms.edit_command import edit_arguments
from readwrite_edit.tui.forms.edit_panes import EffectPane, PricePane
from readwrite_edit.tui.forms.ledger_pane import LedgerPane
from readwrite_edit.tui.forms.process import Commands
from readwrite_edit.tui.forms.running import RunForm

if TYPE_CHECKING:
    from readwrite_edit.tui.forms.draft import Wrong
    from readwrite_edit.tui.forms.source import Opened

DEFAULT = "associate"
_ADAPTER = "project_adapter"
_MODEL = "model.path"


class EditScreen(RunForm):
    """An intervention as a form, what it costs and what it did.

    Args:
        source: An intervention, a shipped recipe of an edit, a file, or a run's folder: of an edit's run its recipe
            is taken and its effect shown; of any other its base is the model to edit.
        commands: How commands are started.
    """

    NAME: ClassVar[str] = "edit"
    TITLE_OF: ClassVar[str] = "edit"
    BINDINGS: ClassVar[list[BindingType]] = [*bindings_of("edit")]

    def __init__(self, source: str | Path = DEFAULT, *, commands: Commands | None = None) -> None:
        super().__init__(str(source), commands=commands)

    def body(self) -> ComposeResult:
        """One pane at a time."""
        with ContentSwitcher(initial="fill", id="panes"):
            with Vertical(id="fill"):
                yield from self.choices()
                yield from self.form_part()
            yield PricePane(self.commands)
            yield EffectPane()
            yield LedgerPane(self.commands)

    # ---- where the recipe comes from

    def read(self, source: str) -> Opened:
        """The edit; of a run that is none, its base; in a worker."""
        from readwrite_edit.runs.reader import read_run
        from readwrite_edit.tui.forms.source import base_of_run, kinds, open_edit

        is_folder = source not in kinds() and os.path.isdir(source)
        if is_folder and read_run(Path(source)).kind not in ("edit", ""):
            return open_edit(DEFAULT, model=base_of_run(Path(source)))
        return open_edit(source)

    def sources(self) -> list[str]:
        """The interventions, and the recipes of edits that ship."""
        from readwrite_edit.tui.forms.source import kinds, recipes_of

        return [*kinds(), *recipes_of(edits=True)]

    def took(self, opened: Opened) -> None:
        """Show the form; of an edit's run also what it did."""
        super().took(opened)
        if opened.run is not None:
            self.query_one(EffectPane).follow(opened.run)

    def run_name(self) -> str:
        """As the command line would call it."""
        if self.opened is not None and not self.opened.by_recipe:
            return f"edit-{self.opened.kind.replace('_', '-')}"
        return recipe_title(self.source)

    def run_arguments(self) -> list[str]:
        """``edit`` by options, or by the recipe with what differs from it."""
        opened = self.opened
        if opened is None or opened.draft is None:
            return ["edit"]
        recipe = opened.source if opened.by_recipe else None
        return edit_arguments(opened.draft, kind=opened.kind, recipe=recipe)

    def relevant(self, problems: Sequence[Wrong]) -> list[Wrong]:
        """An adapter knows its base."""
        knows = self.opened is not None and self.opened.kind == _ADAPTER and not self.opened.by_recipe
        return [one for one in problems if not (knows and one.key == _MODEL and not self._text(_MODEL))]

    def _text(self, key: str) -> str:
        field = self.draft.field(key) if self.draft is not None else None
        return self.draft.text(field) if self.draft is not None and field is not None else ""

    # ---- panes

    @property
    def pane(self) -> str:
        """The pane that is seen."""
        return str(self.query_one("#panes", ContentSwitcher).current)

    def show_pane(self, name: str) -> None:
        """See a pane."""
        self.query_one("#panes", ContentSwitcher).current = name
        words = "" if name == "fill" else f" · {name}"
        self.set_title(f"{self.TITLE_OF} · {self.source}{words}")
        if name == "fill":
            self.form.enter()
            self.refresh_command()
        elif name != "ledger":
            self.query_one(f"#{name}").focus()

    def why_not(self, action_id: str) -> str | None:
        """What belongs to the form needs the form."""
        if action_id in ("edit.find", "edit.default") and self.pane != "fill":
            return "escape goes back to the form first"
        if action_id == "edit.effect" and self.query_one(EffectPane).run is None:
            return "no edit was made here yet; F5 makes it"
        return None

    def do_price(self) -> None:
        """Compute the edit and its price; nothing is written."""
        if self.ready("price"):
            argv = [*self.run_arguments(), "--dry-run", "--json"]
            self.show_pane("price")
            self.show_command(argv)
            self.query_one(PricePane).ask(argv)

    def do_effect(self) -> None:
        """See the last edit's effect."""
        self.show_pane("effect")

    def do_ledger(self) -> None:
        """See the edits of the model."""
        self.show_pane("ledger")
        self.query_one(LedgerPane).show(self._text(_MODEL).strip(), self._text("ledger.folder").strip())

    def do_start(self) -> None:
        """Make the edit; the form says so until its run is there."""
        self.show_pane("fill")
        super().do_start()

    def do_queue(self) -> None:
        """Put the edit into the queue."""
        self.show_pane("fill")
        super().do_queue()

    def appeared(self, run: Path) -> None:
        """Follow the edit, then show its effect."""
        self.check_now()
        self.query_one(EffectPane).follow(run)
        self.show_pane("effect")

    def do_back(self) -> None:
        """To the form; from there away."""
        if self.pane == "fill":
            super().do_back()
        else:
            self.show_pane("fill")
