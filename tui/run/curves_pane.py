"""The curves of one run as small multiples: zoom, pan, smoothing, a cursor with exact values, one curve large."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import ClassVar

from textual import events, work
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Grid
from textual.message import Message
from textual.widgets import Static

from readwrite_edit.terminal import printable
from readwrite_edit.tui.actions import bindings_of
from readwrite_edit.tui.charts.chart import Chart
from readwrite_edit.tui.frame import Pane
from readwrite_edit.tui.run.curve_lines import SMOOTHINGS, Smoothing, in_words, lines_of
from readwrite_edit.tui.run.curve_view import LEAST_STEPS, CurveView
from readwrite_edit.tui.run.feed import RunReading
from readwrite_edit.tui.run.metric_store import Key
from readwrite_edit.tui.run.panels import Panel, panels
from readwrite_edit.tui.run.series import Series

_LEAST_WIDTH, _LEAST_HEIGHT = 38, 7
_MOST_COLUMNS, _MOST_ROWS = 4, 4
_AT_FIRST = 4  # charts; more are made when there are curves and room for them
_BETWEEN_CHARTS_S = 0.001


class CurvesPane(Pane):
    """Charts over the series of a run; the chosen one is marked and its values stand below."""

    NAME = "curves"
    can_focus = True
    BINDINGS: ClassVar[list[BindingType]] = [*bindings_of("curves")]

    @dataclass
    class Smoothed(Message):
        """A worker has extended the smoothed series."""

        smoothing: Smoothing

    def __init__(self, panels_of: Callable[[Iterable[Key]], list[Panel]] = panels) -> None:
        """Begin without a run; ``panels_of`` says which metrics share a chart."""
        super().__init__(id="curves")
        self._view = CurveView(panels_of)
        self._large = self._log = False
        self._smoothing = Smoothing(0.0)
        self._waiting: deque[int] = deque()
        self._shown: tuple[int, str] | None = None
        self._left_out = 0

    def compose(self) -> ComposeResult:
        """A line about what is shown, the charts, a line of values."""
        yield Static(id="curves-caption", markup=False)
        yield Static(id="curves-nothing", markup=False)
        with Grid(id="charts"):
            for _ in range(_AT_FIRST):
                yield Chart()
        yield Static(id="curves-values", markup=False)

    # ---- what comes in

    def show(self, reading: RunReading) -> None:
        """Draw what is new of a run."""
        shown = reading.version, reading.no_values
        if shown != self._shown:
            self._shown, self._left_out = shown, reading.left_out
            self.take(reading.series, reading.no_values)

    def take(self, series: Mapping[Key, Series], without: str) -> None:
        """Draw series; where there are none, say a sentence."""
        self._view.take(series)
        nothing = self.query_one("#curves-nothing", Static)
        nothing.update(without)
        nothing.display = not self._view.panels
        self._arrange()
        self._extend()

    def _extend(self) -> None:
        """Let a worker smooth what is new."""
        if self._smoothing.weight:
            keys = {line.key for number in self._page for line in self._view.panels[number].lines}
            self._smooth(self._smoothing, {key: self._view.series[key] for key in keys})

    @work(thread=True, group="smooth")
    def _smooth(self, smoothing: Smoothing, series: Mapping[Key, Series]) -> None:
        smoothing.extend(series)
        self.post_message(self.Smoothed(smoothing))

    def on_curves_pane_smoothed(self, message: Smoothed) -> None:
        """Draw the curves with their smoothed twins."""
        if message.smoothing is self._smoothing:
            self._draw()

    def on_resize(self, _: events.Resize) -> None:
        """Fit as many charts as there is room for."""
        self._arrange()

    def on_click(self, event: events.Click) -> None:
        """Choose the chart under the pointer."""
        charts = self._charts
        if isinstance(event.widget, Chart) and charts.index(event.widget) < len(self._page):
            self._choose(self._page[charts.index(event.widget)])

    # ---- drawing

    @property
    def _charts(self) -> list[Chart]:
        return list(self.query(Chart))

    @property
    def _fit(self) -> tuple[int, int]:
        """Columns and rows of charts that the room and their number ask for."""
        count = len(self._view.panels)
        if self._large or not count:
            return 1, 1
        width, height = self.size.width, self.size.height - 2
        columns = min(_MOST_COLUMNS, max(1, width // _LEAST_WIDTH), count)
        rows = min(_MOST_ROWS, max(1, height // _LEAST_HEIGHT), math.ceil(count / columns))
        return min(columns, math.ceil(count / rows)), rows

    @property
    def _page(self) -> range:
        """Numbers of the panels that are shown."""
        columns, rows = self._fit
        first = self._view.chosen // (columns * rows) * columns * rows
        return range(first, min(first + columns * rows, len(self._view.panels)))

    def _arrange(self) -> None:
        columns, rows = self._fit
        grid, page, charts = self.query_one("#charts", Grid), len(self._page), self._charts
        if (grid.styles.grid_size_columns, grid.styles.grid_size_rows) != (columns, rows):
            grid.styles.grid_size_columns, grid.styles.grid_size_rows = columns, rows
        if page > len(charts):
            grid.mount_all(Chart() for _ in range(page - len(charts)))
            self.call_after_refresh(self._draw)
        for number, chart in enumerate(charts):
            if chart.display != (number < page):
                chart.display = number < page
        self._draw()

    def _draw(self) -> None:
        """Draw the charts one after the other, the chosen one first, so that keys are answered between them."""
        idle, chosen = not self._waiting, self._view.chosen - self._page.start
        places = range(min(len(self._page), len(self._charts)))
        self._waiting = deque(sorted(places, key=lambda place: place != chosen))
        if self._view.panels:
            self._say()
        if idle:
            self._draw_next()

    def _draw_next(self) -> None:
        if self._waiting:
            self._draw_chart(self._waiting.popleft())
        if self._waiting:
            self.set_timer(_BETWEEN_CHARTS_S, self._draw_next)

    def _draw_chart(self, place: int) -> None:
        view, number, chart = self._view, self._page.start + place, self._charts[place]
        chosen, panel = number == view.chosen, view.panels[number]
        chart.draw(
            lines_of(panel, view.series, self._smoothing, view.range, 2 * max(8, chart.size.width - 4)),
            title=printable(panel.title), y=panel.unit, log=self._log, x_range=view.range,
            cursor=view.at if chosen else None, marked=chosen and len(self._page) > 1,
        )  # fmt: skip

    def _say(self) -> None:
        """Write the lines above and below the charts."""
        view, page, (low, high) = self._view, self._page, self._view.range
        which = f"{view.chosen + 1}" if len(page) == 1 else f"{page.start + 1}–{page.stop}"
        parts = [f"curves {which} of {len(view.panels)}"]
        parts += [f"steps {low:.0f}–{high:.0f}{', zoomed' if view.seen else ''}"]
        parts += [f"smoothing {self._smoothing.weight}"] if self._smoothing.weight else []
        parts += ["logarithmic"] if self._log else []
        parts += [f"{self._left_out} values of further names are left out"] if self._left_out else []
        self.query_one("#curves-caption", Static).update("   ".join(parts))
        words = in_words(view.panel, view.series, self._smoothing, view.at)
        self.query_one("#curves-values", Static).update(words)

    # ---- actions

    def why_not(self, action_id: str) -> str | None:
        """Nothing applies without curves, and only some of it to a part of the steps."""
        if not self._view.panels:
            return "there are no curves"
        low, high = self._view.range
        if action_id == "curves.zoom-in" and high - low <= LEAST_STEPS:
            return "there are no fewer steps to show"
        whole = ("curves.zoom-out", "curves.whole", "curves.earlier", "curves.later")
        return "all steps are shown" if action_id in whole and self._view.seen is None else None

    def do_zoom_in(self) -> None:
        """Show half as many steps, around the cursor."""
        self._view.zoom(0.5)
        self._draw()

    def do_zoom_out(self) -> None:
        """Show twice as many steps."""
        self._view.zoom(2.0)
        self._draw()

    def do_whole(self) -> None:
        """Show all steps."""
        self._view.seen = None
        self._draw()

    def do_earlier(self) -> None:
        """Move the view by half its length."""
        self._view.pan(-0.5)
        self._draw()

    def do_later(self) -> None:
        """Move the view by half its length."""
        self._view.pan(0.5)
        self._draw()

    def do_left(self) -> None:
        """Move the cursor to the value before, or by a column where values are denser."""
        self._move(-1)

    def do_right(self) -> None:
        """Move the cursor to the next value, or by a column where values are denser."""
        self._move(1)

    def _move(self, way: int) -> None:
        chart = self._charts[self._view.chosen - self._page.start]
        self._view.move(way, columns=max(1, chart.size.width))
        self._draw()

    def do_start(self) -> None:
        """Move the cursor to the first value."""
        series = self._view.along
        self._view.put_cursor(series.steps[0] if series.count else 0.0)
        self._draw()

    def do_end(self) -> None:
        """Move the cursor to the last value, and along with new ones."""
        self._view.put_cursor(self._view.whole[1])
        self._draw()

    def do_smooth(self) -> None:
        """Take the next weight."""
        place = SMOOTHINGS.index(self._smoothing.weight)
        self._smoothing = Smoothing(SMOOTHINGS[(place + 1) % len(SMOOTHINGS)])
        self._extend()
        self._draw()

    def do_log(self) -> None:
        """Change between a logarithmic and a plain axis."""
        self._log = not self._log
        self._draw()

    def do_next(self) -> None:
        """Choose the next chart."""
        self._choose(min(self._view.chosen + 1, len(self._view.panels) - 1))

    def do_previous(self) -> None:
        """Choose the chart before."""
        self._choose(max(self._view.chosen - 1, 0))

    def do_next_page(self) -> None:
        """Show the next charts."""
        if self._page.stop < len(self._view.panels):
            self._choose(self._page.stop)

    def do_previous_page(self) -> None:
        """Show the charts before."""
        self._choose(max(0, self._page.start - len(self._page)))

    def do_large(self) -> None:
        """Show the chosen chart alone, or all again."""
        self._large = not self._large
        self._arrange()

    def _choose(self, number: int) -> None:
        page, self._view.chosen = self._page, number
        if self._page != page:
            self._arrange()
            self._extend()
        else:
            self._draw()
