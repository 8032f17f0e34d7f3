"""One run: what it says of itself, and tabs for its curves, geometry, log, recipe and result."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from rich.text import Text
from textual import work
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.message import Message
from textual.widget import Widget
from textual.widgets import Static, TabbedContent, TabPane, Tabs

from readwrite_edit.runs.folder import RunFolder
from readwrite_edit.runs.reader import RunView
from readwrite_edit.runs.wording import GLYPHS, age_text, sign_text, step_text
from readwrite_edit.terminal import counted, printable
from readwrite_edit.tui.actions import bindings_of
from readwrite_edit.tui.frame import Pane, WorkScreen
from readwrite_edit.tui.home.stopping import ask_to_stop, point_out_delays, why_no_stop
from readwrite_edit.tui.run.curves_pane import CurvesPane
from readwrite_edit.tui.run.feed import RunFeed, RunReading

REFRESH_EVERY_S = 1.0
TABS = {"curves": "Curves", "geometry": "Geometry", "console": "Log", "recipe": "Recipe", "report": "Report"}


class RunScreen(WorkScreen):
    """A worker reads the folder, messages bring its readings; a tab is made when it is first opened."""

    NAME = "run"
    BINDINGS: ClassVar[list[BindingType]] = [*bindings_of("run")]

    @dataclass
    class Read(Message):
        """A worker has read the run folder."""

        reading: RunReading

    def __init__(self, path: Path) -> None:
        """Show the run in the folder ``path``."""
        super().__init__()
        self.path = path
        self._feed: RunFeed | None = None
        self._last: RunReading | None = None
        self._reading = False
        self._geometry_shown: tuple[int, str, int | None] | None = None

    def body(self) -> ComposeResult:
        """State lines and tabs."""
        yield Static("reading …", id="state", markup=False)
        with TabbedContent(initial="tab-curves"):
            for name, title in TABS.items():
                with TabPane(title, id=f"tab-{name}"):
                    if name == "curves":
                        yield CurvesPane()

    def on_mount(self) -> None:
        """Start reading, and again every second."""
        self._feed = RunFeed(self.path, clock=self.desk.clock)
        self.set_title(f"{self.path.name}   in {self.path.parent}")
        self._show_own_command()
        self.query_one(Tabs).can_focus = False
        self.query_one(CurvesPane).focus()
        self._refresh()
        self.set_interval(REFRESH_EVERY_S, self._refresh)

    # ---- reading

    def _refresh(self) -> None:
        if not self._reading and self._feed is not None:
            self._reading = True
            self._read(self._feed)

    @work(thread=True)
    def _read(self, feed: RunFeed) -> None:
        self.post_message(self.Read(feed.read()))

    def on_run_screen_read(self, message: Read) -> None:
        """Show a reading, and go on at once where there is more."""
        self._reading, self._last = False, message.reading
        if message.reading.more:
            self._refresh()
        self.query_one("#state", Static).update(state_text(message.reading))
        point_out_delays(self.desk, [message.reading.view])
        for pane in self.query_one(TabbedContent).active_pane.query(Pane):
            self._show(pane, message.reading)

    def _show(self, pane: Pane, reading: RunReading) -> None:
        if pane.NAME == "curves":
            self.query_one(CurvesPane).show(reading)
        elif pane.NAME == "geometry":
            self._show_geometry(reading)
        elif pane.NAME in ("recipe", "report"):
            from readwrite_edit.tui.run.recipe_pane import RecipePane
            from readwrite_edit.tui.run.report_pane import ReportPane

            if isinstance(pane, RecipePane):
                pane.show(reading.view)
            elif isinstance(pane, ReportPane):
                pane.show(reading.view, reading.alarms)

    def _show_geometry(self, reading: RunReading) -> None:
        from readwrite_edit.tui.geometry.pane import GeometryPane

        view = reading.view
        shown = reading.version, reading.no_geometry, view.max_steps
        if shown != self._geometry_shown:
            self._geometry_shown = shown
            self.query_one(GeometryPane).show(reading.snapshots, view.kind, reading.no_geometry, view.max_steps)

    # ---- tabs

    async def on_tabbed_content_tab_activated(self, message: TabbedContent.TabActivated) -> None:
        """Make a tab's pane where it was not opened before, and give it the keys."""
        name = str(message.pane.id).removeprefix("tab-")
        if not message.pane.query(Pane):
            await message.pane.mount(self._made(name))
        self._show_own_command()
        pane = message.pane.query(Pane).first()
        if self._last is not None:
            self._show(pane, self._last)
        first = next((widget for widget in pane.walk_children(Widget, with_self=True) if widget.focusable), None)
        if first is not None:
            first.focus()

    def _made(self, name: str) -> Pane:
        if name == "geometry":
            from readwrite_edit.tui.geometry.pane import GeometryPane

            return GeometryPane(self.path)
        if name == "console":
            from readwrite_edit.tui.run.console_pane import ConsolePane

            return ConsolePane(self.path)
        if name == "recipe":
            from readwrite_edit.tui.run.recipe_pane import RecipePane

            return RecipePane()
        from readwrite_edit.tui.run.report_pane import ReportPane

        return ReportPane()

    def _open(self, name: str) -> None:
        self.query_one(TabbedContent).active = f"tab-{name}"
        self._show_own_command()

    def _show_own_command(self) -> None:
        """Show what the open tab stands for, until something is done to the run."""
        tab = str(self.query_one(TabbedContent).active).removeprefix("tab-")
        self.show_command(command_of(tab, self.path, self._geometry_options() if tab == "geometry" else []))

    def _geometry_options(self) -> list[str]:
        from readwrite_edit.tui.geometry.pane import GeometryPane

        panes = self.query(GeometryPane)
        return panes.first().options if panes else []

    def on_geometry_pane_turned(self) -> None:
        """Another quantity or snapshot is looked at."""
        if self.query_one(TabbedContent).active == "tab-geometry":
            self._show_own_command()

    def do_curves(self) -> None:
        """Open the curves."""
        self._open("curves")

    def do_geometry(self) -> None:
        """Open the geometry."""
        self._open("geometry")

    def do_console(self) -> None:
        """Open the log."""
        self._open("console")

    def do_recipe(self) -> None:
        """Open the recipe."""
        self._open("recipe")

    def do_report(self) -> None:
        """Open the result."""
        self._open("report")

    # ---- what can be done with the run

    def why_not(self, action_id: str) -> str | None:
        """Stopping needs a living run; exporting a finished alignment or edit."""
        view = self._last.view if self._last else None
        if action_id not in ("run.stop", "run.resume", "run.export"):
            return None
        if view is None:
            return "the run is still being read"
        if action_id == "run.stop":
            return why_no_stop(view)
        if action_id == "run.export" and (view.status != "finished" or view.kind not in ("align", "edit")):
            return f"{view.name} is no finished alignment or edit: it has no adapter"
        return None

    def _view(self) -> RunView:
        assert self._last is not None  # why_not has looked
        return self._last.view

    def do_stop(self) -> None:
        """Ask this run to stop."""
        ask_to_stop(self, self._view())

    def do_resume(self) -> None:
        """Go on with this run."""
        from readwrite_edit.tui.home.resuming import resume_run

        resume_run(self, self._view())

    def do_export(self) -> None:
        """Open the export of this run."""
        from readwrite_edit.tui.forms.export_screen import ExportScreen

        self._show_own_command()
        self.desk.push_screen(ExportScreen(self.path))


def command_of(tab: str, path: Path, options: Sequence[str] = ()) -> list[str]:
    """The command that prints what a tab shows of a run."""
    commands = {
        "curves": ["runs", "tail"],
        "geometry": ["geometry"],
        "console": ["runs", "tail", "--console"],
        "recipe": ["recipes", "show"],
        "report": ["runs", "show"],
    }
    return [*commands[tab], str(RunFolder(path).recipe if tab == "recipe" else path), *options]


def state_text(reading: RunReading) -> Text:
    """What a run says of itself, in one to four lines that are safe to show."""
    view = reading.view
    head = f"{GLYPHS[view.status]} {view.status}"
    text = Text(head, style="bold", no_wrap=True, overflow="ellipsis")
    if view.status != "broken":
        segment = f"   resumed {view.segment}×" if view.segment else ""
        text.append(f"   {printable(view.kind)}  {printable(view.recipe)}", style="not bold")
        text.append(f"   step {step_text(view.step, view.max_steps)}{segment}")
        process = f"pid {view.pid} on {printable(view.hostname)}"
        text.append(f"   last sign {sign_text(view.age_s, view.ahead_s)}, {process}", style="not bold")
    lines = [(printable(view.reason), "bold")] if view.reason else []
    if view.ahead_s:
        clock = f"its clock is ahead of this machine's by {age_text(view.ahead_s)}: its age is not known"
        lines.append((clock, "yellow"))
    if reading.more:
        lines.append(("reading …", "dim"))
    if reading.alarms:
        last = printable(reading.alarms[-1])
        lines.append((f"! {counted(len(reading.alarms), 'alarm')}, the last: {last}", "bold yellow"))
    lines += [(sentence, "yellow") for sentence in reading.unread]
    for line, style in lines:
        text.append("\n").append(line, f"not bold {style}" if style != "bold" else style)
    return text
