"""The geometry of a run: layers × matrices as digits and colours, through the snapshots of its training."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from rich.text import Text
from textual import events
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.message import Message
from textual.timer import Timer
from textual.widgets import Static

from readwrite_edit.runs.geometry_grid import MEASURES, GeometryGrid, Measure, grid
from readwrite_edit.runs.geometry_scale import Scale, scale_of
from readwrite_edit.runs.geometry_snapshots import Snapshots
from readwrite_edit.tui.actions import bindings_of
from readwrite_edit.tui.frame import Pane
from readwrite_edit.tui.geometry.lines import caption, figures, joined, legend, timeline
from readwrite_edit.tui.geometry.table import GridTable

_FRAME_S = 0.35
_ROOMY = 26
_AGAINST_ITS_NULL = MEASURES[1]


class GeometryPane(Pane):
    """Shows one snapshot; stays at the newest until it is stepped back.

    Args:
        path: The run folder, so that a matrix can be opened; None where none can.
    """

    class Turned(Message):
        """The user looks at another quantity or snapshot."""

    NAME = "geometry"
    BINDINGS: ClassVar[list[BindingType]] = [*bindings_of("geometry")]

    def __init__(self, path: Path | None = None) -> None:
        super().__init__(id="geometry")
        self._path = path
        self._snapshots, self._kind, self._without = Snapshots(), "align", ""
        self._max_steps: int | None = None
        self._steps: tuple[int, ...] = ()
        self._step: int | None = None
        self._chosen: Measure | None = None
        self._measures: tuple[Measure, ...] = MEASURES[:1]
        self._grid: GeometryGrid = grid([])
        self._playing: Timer | None = None
        self._film_scale: Scale | None = None

    def compose(self) -> ComposeResult:
        """What is shown and when, the grid, what the digits mean, the figures under the cursor."""
        yield Static(id="geometry-caption", markup=False)
        yield GridTable(id="geometry-grid")
        yield Static(id="geometry-legend", markup=False)
        yield Static(id="geometry-figures", markup=False)

    def show(self, snapshots: Snapshots, kind: str, without: str, max_steps: int | None = None) -> None:
        """Show what is known of a run.

        Args:
            snapshots: Its geometry.
            kind: Of the run: align, probe or edit.
            without: A sentence to stand there where it has no snapshot.
            max_steps: Steps that it is to take, where they are known.
        """
        self._snapshots, self._kind, self._without, self._max_steps = snapshots, kind, without, max_steps
        self._steps = snapshots.steps
        # Of the newest snapshot, since the first is of an update that is zero.
        self._measures = (snapshots.at(self._steps[-1]).measured() if self._steps else ()) or MEASURES[:1]
        if self._step not in self._steps:
            self._step = None
        self._draw()

    # ---- drawing

    @property
    def _shown_step(self) -> int | None:
        return self._step if self._step is not None else self._steps[-1] if self._steps else None

    @property
    def _measure(self) -> Measure:
        """The one that was chosen, else the first measured; of a probe its fraction over the null."""
        if self._chosen is not None:
            return self._chosen
        measured = self._measures
        wanted = _AGAINST_ITS_NULL if self._kind == "probe" else MEASURES[0]
        return wanted if wanted in measured else measured[0]

    def _draw(self) -> None:
        step = self._shown_step
        self._grid = grid([]) if step is None else self._snapshots.at(step)
        scale = self._film_scale or scale_of(self._grid, self._measure)
        self.query_one(GridTable).draw(self._grid, self._measure, scale=scale)
        self._draw_lines()

    def _draw_lines(self) -> None:
        table, width = self.query_one(GridTable), max(20, self.size.width - 2)
        head, legend_lines, below = [Text(self._without)], [], []
        if self._grid.layers:
            place = self._steps.index(self._shown_step or 0) + 1
            head = [caption(self._measure, table.scale, width)]
            if self._kind == "align" or len(self._steps) > 1:
                head.append(timeline(self._when(place), place, len(self._steps), width))
            legend_lines = legend(table.scale, width)
            below = figures(self._grid, table.place, self._measure, width)
        for name, lines in (("caption", head), ("legend", legend_lines), ("figures", below)):
            self.query_one(f"#geometry-{name}", Static).update(lines[0] if len(lines) == 1 else joined(lines))
        self.query_one("#geometry-caption").set_class(not self._grid.layers, "-nothing")

    def _when(self, place: int) -> str:
        """Which snapshot of how many, and whether it stays there while new ones come."""
        count = len(self._steps)
        if self._kind != "align":
            return f"measurement {place} of {count}"
        of = "" if self._max_steps is None else f" of {self._max_steps}"
        left_out = f", {self._snapshots.left_out} left out" if self._snapshots.left_out else ""
        state = "playing" if self._playing else "the newest" if place == count else "older"
        return f"step {self._shown_step}{of}, snapshot {place} of {count}{left_out}, {state}"

    def on_grid_table_moved(self) -> None:
        """The cursor stands elsewhere."""
        self._draw_lines()

    def on_resize(self, event: events.Resize) -> None:
        """Fit the lines to the width, and leave a line free where there is room."""
        self.set_class(event.size.height >= _ROOMY, "-roomy")
        self._draw_lines()

    # ---- actions

    def why_not(self, action_id: str) -> str | None:
        """There must be snapshots to step through, and a matrix to open."""
        if not self._steps:
            return "there is no snapshot"
        place = self._steps.index(self._shown_step or 0)
        if action_id == "geometry.earlier" and place == 0:
            return "this is the first snapshot"
        if action_id == "geometry.later" and place == len(self._steps) - 1:
            return "this is the newest snapshot"
        if action_id == "geometry.play" and len(self._steps) == 1:
            return "there is one snapshot only"
        if action_id == "geometry.open" and self._path is None:
            return "the matrices of several runs can not be opened at once"
        return None

    @property
    def options(self) -> list[str]:
        """Of the command ``geometry`` that prints what is shown."""
        step = [] if self._step is None else ["--step", str(self._step)]
        return [*step, *([] if self._chosen is None else ["--quantity", self._chosen.name])]

    def do_quantity(self) -> None:
        """Show the next quantity."""
        self._turn(1)

    def do_quantity_back(self) -> None:
        """Show the quantity before."""
        self._turn(-1)

    def _turn(self, by: int) -> None:
        measures, now = self._measures, self._measure
        place = measures.index(now) if now in measures else -1
        self._chosen = measures[(place + by) % len(measures)]
        if self._film_scale is not None:
            self._film_scale = self._scale_of_all()
        self._draw()
        self.post_message(self.Turned())

    def do_earlier(self) -> None:
        """Go one snapshot back and stay there."""
        self._halt()
        self._go(self._steps.index(self._shown_step or 0) - 1)

    def do_later(self) -> None:
        """Go one snapshot on; at the newest, follow."""
        self._halt()
        self._go(self._steps.index(self._shown_step or 0) + 1)

    def _go(self, place: int) -> None:
        self._step = None if place >= len(self._steps) - 1 else self._steps[place]
        self._draw()
        self.post_message(self.Turned())

    def do_play(self) -> None:
        """Play from the first snapshot, or from here where it is an older one; or halt."""
        if self._playing:
            self._halt()
            self._draw()
            return
        self._film_scale = self._scale_of_all()
        self._step = self._step or self._steps[0]
        self._playing = self.set_interval(_FRAME_S, self._next_frame)
        self._draw()

    def _scale_of_all(self) -> Scale:
        """One scale for the whole film, that of the newest snapshot: what grows is then seen to grow."""
        return scale_of(self._snapshots.at(self._steps[-1]), self._measure)

    def _next_frame(self) -> None:
        place = self._steps.index(self._shown_step or 0) + 1
        if place >= len(self._steps) - 1:
            self._halt()
        self._go(place)

    def _halt(self) -> None:
        if self._playing:
            self._playing.stop()
        self._playing = self._film_scale = None

    def do_open(self) -> None:
        """Open the matrix under the cursor."""
        from readwrite_edit.tui.geometry.matrix_screen import MatrixScreen

        place = self.query_one(GridTable).place
        if self._path is not None and place is not None:
            self.app.push_screen(MatrixScreen(self._path, *place, self._step))
