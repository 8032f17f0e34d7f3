"""What an edit costs, and what it did: two panes beside its form."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from rich.text import Text
from textual import work
from textual.app import ComposeResult
from textual.containers import VerticalScroll
from textual.message import Message
from textual.timer import Timer
from textual.widgets import Static

from readwrite_edit.runs.folder import RunFolder
from readwrite_edit.runs.launching import last_lines
from readwrite_edit.runs.reader import RunView, read_run
from readwrite_edit.runs.wording import GLYPHS, step_text
from readwrite_edit.terminal import printable
from readwrite_edit.tui.forms.edit_effect import Effect, effect_text, read_effect
from readwrite_edit.tui.forms.edit_price import price_text
from readwrite_edit.tui.forms.process import Answer, Commands

_LOOK_EVERY_S = 0.5
_LEAST_WIDTH = 40


class PricePane(VerticalScroll, can_focus=True):
    """The price of the edit as it was filled in when it was asked for."""

    @dataclass
    class Answered(Message):
        """The dry run has ended."""

        answer: Answer

    def __init__(self, commands: Commands) -> None:
        """Ask by ``commands``."""
        super().__init__(id="price")
        self.commands = commands

    def compose(self) -> ComposeResult:
        """One text."""
        yield Static("F4 computes the edit and its price; nothing is written.", markup=False)

    def ask(self, argv: list[str]) -> None:
        """Compute the price; an answer that is still awaited is not awaited any more."""
        self.query_one(Static).update("… computing the edit and its price; this loads the model. Nothing is written.")
        self._ask(argv)

    @work(exclusive=True, group="price")
    async def _ask(self, argv: list[str]) -> None:
        self.post_message(self.Answered(await self.commands.ask(argv)))

    def on_price_pane_answered(self, message: Answered) -> None:
        """Show it, or why there is none."""
        answer = message.answer
        price = None if answer.code else price_text(answer.out)
        if price is None:
            why = answer.complaints or (answer.why if answer.code else "the answer is not what this version gives",)
            lines = [why] if isinstance(why, str) else list(why)
            self.query_one(Static).update(Text("\n".join(f"✗ {line}" for line in lines), "bold"))
        else:
            self.query_one(Static).update(price)
        self.scroll_home(animate=False)


class EffectPane(VerticalScroll, can_focus=True):
    """An edit's run while it goes on, then its effect beside that of its controls."""

    @dataclass
    class Seen(Message):
        """A worker has looked at the run; the effect where it is finished."""

        view: RunView
        lines: list[str]
        effect: Effect | None

    def __init__(self) -> None:
        """Start without a run."""
        super().__init__(id="effect")
        self.run: Path | None = None
        self._effect: Effect | None = None
        self._timer: Timer | None = None

    def compose(self) -> ComposeResult:
        """One text."""
        yield Static("F5 makes the edit; its effect is shown here beside that of its controls.", markup=False)

    def follow(self, run: Path) -> None:
        """Show a run, until it has ended."""
        self.run, self._effect = run, None
        self._look(run)

    @work(thread=True, exclusive=True, group="effect")
    def _look(self, run: Path) -> None:
        view = read_run(run)
        lines = [] if view.status == "finished" else last_lines(RunFolder(run).console)
        effect = read_effect(run) if view.status == "finished" else None
        self.post_message(self.Seen(view, [printable(line) for line in lines], effect))

    def on_effect_pane_seen(self, message: Seen) -> None:
        """Show how far it is, or what it did."""
        view = message.view
        if view.path != self.run:
            return
        self._effect = message.effect
        if message.effect is not None:
            self._draw()
            return
        reason = f" · {view.reason}" if view.reason else ""
        head = printable(f"{GLYPHS[view.status]} {view.status}  step {step_text(view.step, view.max_steps)}{reason}")
        self.query_one(Static).update(Text.assemble((head, "bold"), "\n\n", ("\n".join(message.lines), "dim")))
        if view.live:
            self._timer = self.set_timer(_LOOK_EVERY_S, lambda: self._look(view.path))

    def on_resize(self) -> None:
        """The strips take the width that there is."""
        self._draw()

    def _draw(self) -> None:
        if self._effect is not None:
            colours = self.app.theme_variables
            inks = colours["primary"], f"bold {colours['accent']}"
            self.query_one(Static).update(effect_text(self._effect, max(_LEAST_WIDTH, self.size.width - 3), inks))
