"""Two to four runs: their curves over each other, where recipes and geometry differ, their answers side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from rich.text import Text
from textual import events, work
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.message import Message
from textual.widgets import Static, TabbedContent, TabPane, Tabs

from readwrite_edit.runs.absence import SUMMARY, unread_text
from readwrite_edit.runs.reader import RunView, read_summary
from readwrite_edit.tui.actions import bindings_of
from readwrite_edit.tui.charts.chart import inks_of
from readwrite_edit.tui.compare.panels import LETTERS, compare_panels, joined
from readwrite_edit.tui.frame import WorkScreen
from readwrite_edit.tui.run.curves_pane import CurvesPane
from readwrite_edit.tui.run.feed import RunFeed, RunReading
from readwrite_edit.tui.run.text_view import TextView

if TYPE_CHECKING:
    from readwrite_edit.runs.comparison import Row
    from readwrite_edit.tui.compare.geometry import CompareGeometry
    from readwrite_edit.tui.compare.plane import ComparePlane

REFRESH_EVERY_S = 2.0
FEWEST, MOST = 2, 4
_NO_VALUES = "No run has logged a value."
_LOW = 20  # lines, below which the runs share one
TABS = {"curves": "Curves", "recipes": "Recipes", "geometry": "Geometry", "plane": "Plane", "answers": "Answers"}


@dataclass(frozen=True)
class Side:
    """What the runs wrote once: where their recipes differ, and their end tables."""

    recipe: tuple[Row, ...] = ()
    unread: dict[int, str] = field(default_factory=dict)
    ends: tuple[dict[str, Any], ...] = ()
    no_ends: tuple[str, ...] = ()  # of each run, why its end table can not be read; empty where it can


class CompareScreen(WorkScreen):
    """Reads each run as its own screen does; the letter of a run is its name here."""

    NAME = "compare"
    BINDINGS: ClassVar[list[BindingType]] = [*bindings_of("compare")]

    @dataclass
    class Read(Message):
        """A worker has read a run folder."""

        place: int
        reading: RunReading

    @dataclass
    class Compared(Message):
        """A worker has read recipes and end tables."""

        side: Side

    def __init__(self, paths: Sequence[Path]) -> None:
        """Compare the runs in these folders, two to four."""
        super().__init__()
        self.paths = tuple(paths)
        self._feeds: list[RunFeed] = []
        self._readings: list[RunReading | None] = [None] * len(self.paths)
        self._side: Side | None = None
        self._versions: tuple[int, ...] = ()
        self._reading = False

    def body(self) -> ComposeResult:
        """A line a run, and tabs."""
        yield Static("reading …", id="compared", markup=False)
        if self._too_many():
            return
        with TabbedContent(initial="tab-curves"):
            for name, title in TABS.items():
                with TabPane(title, id=f"tab-{name}"):
                    if name == "curves":
                        yield CurvesPane(compare_panels)
                    elif name not in ("geometry", "plane"):
                        yield TextView(id=f"compare-{name}")

    def on_mount(self) -> None:
        """Start reading, and again every two seconds."""
        self.set_title("compare " + ", ".join(path.name for path in self.paths))
        self._show_command_of("curves")
        if self._too_many():
            self.query_one("#compared", Static).update(self._too_many())
            return
        self._feeds = [RunFeed(path, clock=self.desk.clock) for path in self.paths]
        self.query_one(Tabs).can_focus = False
        self.query_one(CurvesPane).focus()
        self._refresh()
        self.set_interval(REFRESH_EVERY_S, self._refresh)

    def _too_many(self) -> str:
        fits = FEWEST <= len(self.paths) <= MOST
        return "" if fits else f"{len(self.paths)} runs: mark {FEWEST} to {MOST} to compare"

    # ---- reading

    def _refresh(self) -> None:
        if not self._reading:
            self._reading = True
            self._read()

    @work(thread=True)
    def _read(self) -> None:
        waiting = list(enumerate(self._feeds))
        while waiting and not self._gone():
            place, feed = waiting.pop(0)
            reading = feed.read()
            self.post_message(self.Read(place, reading))
            if reading.more:
                waiting.append((place, feed))
        from readwrite_edit.runs.comparison import recipe_differences

        recipe, unread = recipe_differences(self.paths)
        ends, problems = zip(*map(read_summary, self.paths), strict=True)
        self.post_message(self.Compared(Side(recipe, dict(unread), ends, problems)))

    def _gone(self) -> bool:
        """Whether the screen was closed, and reading on is of no use."""
        return not self.is_attached

    def on_compare_screen_read(self, message: Read) -> None:
        """Draw the curves as far as they are read."""
        self._readings[message.place] = message.reading
        self._show_runs()
        versions = tuple(reading.version if reading else -1 for reading in self._readings)
        if versions != self._versions:
            self._versions = versions
            runs = [reading.series if reading else {} for reading in self._readings]
            self.query_one(CurvesPane).take(joined(runs), "reading …" if None in self._readings else _NO_VALUES)
            self._show_geometry()

    def _show_runs(self) -> None:
        """The runs, a line each where there is room for that."""
        from readwrite_edit.tui.compare.lines import run_lines, short_run_lines

        views, inks = [reading and _with_unread(reading) for reading in self._readings], inks_of(self.app)
        low = self.size.height < _LOW
        lines = short_run_lines(views, inks, self.size.width - 2) if low else run_lines(views, inks)
        self.query_one("#compared", Static).update(lines)

    def on_compare_screen_compared(self, message: Compared) -> None:
        """Show recipes and answers."""
        self._reading = False
        if pane := self._plane():
            pane.read()
        if message.side != self._side:
            self._side = message.side
            self._show_texts()

    def _show_texts(self) -> None:
        if self._side is None:
            return
        from readwrite_edit.tui.compare.lines import answer_lines, figure_lines, recipe_lines

        recipes, answers = (self.query_one(f"#compare-{name}", TextView) for name in ("recipes", "answers"))
        width = max(40, self.size.width - 3)
        recipes.show(recipe_lines(self._side.recipe, self._side.unread, len(self.paths), width))
        unread = [
            Text(f"{letter}: {unread_text(SUMMARY, problem)}", style="bold yellow")
            for letter, problem in zip(LETTERS, self._side.no_ends, strict=False)
            if problem
        ]
        answers.show([*unread, *figure_lines(self._side.ends, width), *answer_lines(self._side.ends, width)])

    def on_resize(self, event: events.Resize) -> None:
        """Fit runs and answers to the size."""
        super().on_resize(event)
        if not self._too_many():
            self._show_runs()
            self._show_texts()

    def _geometry(self) -> CompareGeometry | None:
        from readwrite_edit.tui.compare.geometry import CompareGeometry

        found = self.query(CompareGeometry)
        return found.first() if found else None

    def _plane(self) -> ComparePlane | None:
        from readwrite_edit.tui.compare.plane import ComparePlane

        found = self.query(ComparePlane)
        return found.first() if found else None

    def _show_geometry(self) -> None:
        if self.query_one("#tab-geometry").children and (pane := self._geometry()):
            pane.show([reading.snapshots if reading else None for reading in self._readings])

    # ---- tabs

    async def on_tabbed_content_tab_activated(self, message: TabbedContent.TabActivated) -> None:
        """Make the geometry where it was not opened before, and give the tab the keys."""
        if message.pane.id == "tab-geometry" and not message.pane.children:
            from readwrite_edit.tui.compare.geometry import CompareGeometry

            await message.pane.mount(CompareGeometry(LETTERS[: len(self.paths)]))
            self._show_geometry()
        if message.pane.id == "tab-plane" and not message.pane.children:
            from readwrite_edit.tui.compare.plane import ComparePlane

            await message.pane.mount(ComparePlane(self.paths, LETTERS[: len(self.paths)]))
        self._show_command_of(str(message.pane.id).removeprefix("tab-"))
        first = next((widget for widget in message.pane.query("*") if widget.focusable), None)
        if first is not None:
            first.focus()

    def _show_command_of(self, tab: str) -> None:
        words = ["compare"] if tab == "plane" else ["runs", "compare"]
        self.show_command([*words, *map(str, self.paths)])

    def _open(self, name: str) -> None:
        self.query_one(TabbedContent).active = f"tab-{name}"

    def why_not(self, action_id: str) -> str | None:
        """Nothing can be done with a wrong number of runs; quantities belong to the geometry."""
        if reason := self._too_many():
            return reason
        open_tab = self.query_one(TabbedContent).active
        if action_id in ("compare.next", "compare.previous", "compare.pair"):
            return None if open_tab == "tab-geometry" and self._geometry() else "it belongs to the geometry"
        if action_id in ("compare.text", "compare.gain"):
            return None if open_tab == "tab-plane" and self._plane() else "it belongs to the plane"
        return None

    def do_curves(self) -> None:
        """Open the curves."""
        self._open("curves")

    def do_recipes(self) -> None:
        """Open the recipes."""
        self._open("recipes")

    def do_geometry(self) -> None:
        """Open the geometry."""
        self._open("geometry")

    def do_plane(self) -> None:
        """Open the plane of gain and cost."""
        self._open("plane")

    def do_text(self) -> None:
        """Show the cost on the next text."""
        if pane := self._plane():
            pane.turn_text()

    def do_gain(self) -> None:
        """Count the other thing as gain."""
        if pane := self._plane():
            pane.turn_gain()

    def do_answers(self) -> None:
        """Open the answers."""
        self._open("answers")

    def do_next(self) -> None:
        """Show the next quantity."""
        if pane := self._geometry():
            pane.turn_quantity(1)

    def do_previous(self) -> None:
        """Show the quantity before."""
        if pane := self._geometry():
            pane.turn_quantity(-1)

    def do_pair(self) -> None:
        """Show the next run or difference."""
        if pane := self._geometry():
            pane.turn_pair()


def _with_unread(reading: RunReading) -> RunView:
    """A run with what can not be read of its files among its reasons."""
    return replace(reading.view, reason="; ".join(filter(None, (reading.view.reason, *reading.unread))))
