"""One matrix of a run: its fraction over k against the nulls, its spectrum, its heads, and how they came about."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from rich.text import Text
from textual import events, work
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Grid
from textual.message import Message
from textual.widgets import Static
from textual.worker import get_current_worker

from readwrite_edit.runs.geometry_grid import MEASURE_BY_NAME, MEASURES
from readwrite_edit.tui.actions import bindings_of
from readwrite_edit.tui.charts.chart import Chart, Line
from readwrite_edit.tui.frame import WorkScreen
from readwrite_edit.tui.geometry.lines import figures, joined, timeline
from readwrite_edit.tui.geometry.matrix_curves import Curve, head_norms, singular_values
from readwrite_edit.tui.geometry.matrix_heads import HeadBars
from readwrite_edit.tui.geometry.matrix_lines import number_lines
from readwrite_edit.tui.geometry.matrix_reading import MatrixReader, MatrixReading, Place
from readwrite_edit.tui.run.text_view import TextView

_REFRESH_EVERY_S = 2.0
_WIDE, _TALL = 110, 30
_FEW = 24
# What a low terminal shows at a time; the last part is that of the numbers.
PARTS: tuple[tuple[str, ...], ...] = (("first", "second", "spectrum", "heads"), ("fractions", "norms"), ())
_NOT_RECORDED = "This snapshot has no figures of this matrix: its update is zero, or it was not measured."


class MatrixScreen(WorkScreen):
    """Shows a matrix at a snapshot; at the newest it follows the training.

    Args:
        path: The run folder.
        layer: Of the matrix.
        module: Of the matrix.
        step: Of the snapshot; None for the newest.
    """

    NAME = "matrix"
    AUTO_FOCUS = ""  # the numbers would take the keys that go from matrix to matrix
    BINDINGS: ClassVar[list[BindingType]] = [*bindings_of("matrix")]

    @dataclass
    class Read(Message):
        """A worker has looked the matrix up."""

        reading: MatrixReading

    def __init__(self, path: Path, layer: int, module: str, step: int | None = None) -> None:
        super().__init__()
        self.path = path
        self._reader = MatrixReader(path)
        self._place: Place = (layer, module)
        self._step = step
        self._last: MatrixReading | None = None
        self._part = 0

    def body(self) -> ComposeResult:
        """What matrix it is, charts, numbers."""
        yield Static("reading …", id="matrix-head", markup=False)
        with Grid(id="matrix-charts"):
            yield Chart(id="matrix-first")
            yield Chart(id="matrix-second")
            yield Chart(id="matrix-spectrum")
            yield HeadBars()
            yield Chart(id="matrix-fractions")
            yield Chart(id="matrix-norms")
        yield TextView(id="matrix-numbers")

    def on_mount(self) -> None:
        """Start reading, and look again now and then."""
        self.query_one(TextView).can_focus = False
        self._refresh()
        self.set_interval(_REFRESH_EVERY_S, self._refresh)

    # ---- reading

    def _refresh(self) -> None:
        self._read(self._place, self._step)

    @work(thread=True, exclusive=True)
    def _read(self, place: Place, step: int | None) -> None:
        worker = get_current_worker()
        reading = self._reader.read(place, step, lambda: worker.is_cancelled)
        if not worker.is_cancelled:
            self.post_message(self.Read(reading))

    def on_matrix_screen_read(self, message: Read) -> None:
        """Show what was read, where it is still what is asked for."""
        if message.reading.place == self._place and message.reading != self._last:
            self._last = message.reading
            self._draw(message.reading)

    # ---- drawing

    def on_resize(self, event: events.Resize) -> None:
        """Charts and numbers at once where there is room for both."""
        super().on_resize(event)
        self.set_class(event.size.height >= _TALL, "-tall-matrix")
        if self._last is not None:
            self._draw(self._last)

    def _draw(self, reading: MatrixReading) -> None:
        layer, module = reading.place
        self.set_title(f"layer {layer} {module}   of {self.path.name}")
        steps = [] if reading.step is None else ["--step", str(reading.step)]
        self.show_command(["geometry", str(self.path), *steps, "--format", "json"])
        self._draw_head(reading)
        record, curves = reading.record, reading.curves
        values, norms, k = singular_values(record), head_norms(record), record.get("k")
        for name, curve in zip(("first", "second"), (*curves, None, None), strict=False):
            self._draw_curve(self.query_one(f"#matrix-{name}", Chart), curve, k)
        self._draw_spectrum(values)
        self.query_one(HeadBars).draw(norms)
        self._draw_training(reading)
        trained = len(reading.steps) > 1
        self._lay_out(first=bool(curves), second=len(curves) > 1, spectrum=bool(values), heads=bool(norms),
                      fractions=trained, norms=trained)  # fmt: skip
        lines = number_lines(curves, k, values, norms, self.size.width - 3)
        self.query_one(TextView).show(lines or [_NOT_RECORDED], wrap=not lines)

    def _lay_out(self, **shown: bool) -> None:
        """Only what there is something to see of and, on a low terminal, what belongs to the part that is open."""
        tall = self.size.height >= _TALL
        part = PARTS[self._part] if not tall else tuple(shown)
        open_now = [name for name, is_shown in shown.items() if is_shown and name in part]
        for name in shown:
            self.query_one(f"#matrix-{name}").display = name in open_now
        numbers = tall or not part
        self.query_one("#matrix-numbers").display = numbers
        charts = self.query_one("#matrix-charts", Grid)
        charts.display = bool(open_now)
        most = 3 if self.size.width >= _WIDE else 2
        count = len(open_now)
        charts.styles.grid_size_columns = max(1, min(most, count if count < 3 else -(-count // 2)))

    def _draw_head(self, reading: MatrixReading) -> None:
        width = max(20, self.size.width - 2)
        if reading.step is None:
            lines = [Text(reading.without)]
        else:
            place, count = reading.steps.index(reading.step) + 1, len(reading.steps)
            shown = reading.snapshots.at(reading.step)
            when = f"step {reading.step}, snapshot {place} of {count}{'' if self._step is not None else ', the newest'}"
            lines = figures(shown, reading.place, MEASURES[0], width)
            lines += [timeline(when, place, count, width)] if count > 1 else []
        self.query_one("#matrix-head", Static).update(joined(lines))

    def _draw_curve(self, chart: Chart, curve: Curve | None, k: object) -> None:
        if curve is None:
            return
        x = [math.log2(at) for at in curve.k]
        nulls = [
            Line("k/d", x, [at / curve.d for at in curve.k], pen=1, ink=1),
            Line("", x, [low for low, _ in curve.band], pen=1, ink=1, faint=True),
            Line("", x, [high for _, high in curve.band], pen=1, ink=1, faint=True),
        ]
        energy = [math.nan if value is None else value for value in curve.energy]
        if not all(map(math.isnan, energy)):
            nulls.append(Line("energy", x, energy, pen=2, ink=4, value=_at(curve.k, curve.energy, k)))
        nulls[0] = Line(**{**vars(nulls[0]), "value": _at(curve.k, [at / curve.d for at in curve.k], k)})
        found = [(at, value) for at, value in zip(x, curve.fraction, strict=True) if value is not None]
        line = Line(
            curve.side, [at for at, _ in found], [value for _, value in found],
            value=_at(curve.k, curve.fraction, k),
        )  # fmt: skip
        cursor = math.log2(k) if isinstance(k, int) and 1 <= k <= curve.d else None
        chart.draw(
            [*nulls, line], title=f"{curve.side} fraction", y=f"at k {k}" if cursor is not None else "over k",
            cursor=cursor, x_range=(0.0, math.log2(curve.d)), log=True, x_power=True,
        )  # fmt: skip

    def _draw_spectrum(self, values: list[float]) -> None:
        if values:
            x = list(range(1, len(values) + 1))
            line = Line("", x, values, marks=len(values) <= _FEW, value=f"{values[0]:.3g} … {values[-1]:.3g}")
            self.query_one("#matrix-spectrum", Chart).draw([line], title="singular values of ΔW", log=True)

    def _draw_training(self, reading: MatrixReading) -> None:
        sides = [curve.side for curve in reading.curves] or ["read"]
        lines: list[Line] = []
        nulls: set[float] = set()
        for pen, side in enumerate(sides):
            steps, values = self._series(reading, side)
            null = reading.record.get(f"{side}_isotropic_null")
            lines.append(Line(side, steps, values, pen=pen, ink=0 if pen == 0 else 2, marks=len(steps) <= _FEW))
            if steps and isinstance(null, float) and null not in nulls:
                nulls.add(null)
                lines.append(Line("k/d", steps, [null] * len(steps), pen=1, ink=1, value=""))
        cursor = None if reading.step is None else float(reading.step)
        fractions, norms = self.query_one("#matrix-fractions", Chart), self.query_one("#matrix-norms", Chart)
        fractions.draw(lines, title="fraction over training", y_range=_range(lines), cursor=cursor)
        steps, values = self._series(reading, "norm")
        norms.draw(
            [Line("", steps, values, ink=2, marks=len(steps) <= _FEW)], title="‖ΔW‖ over training", cursor=cursor
        )

    def _series(self, reading: MatrixReading, measure: str) -> tuple[list[int], list[float]]:
        series = reading.snapshots.series(*reading.place, MEASURE_BY_NAME[measure])
        return [step for step, _ in series], [math.nan if value is None else value for _, value in series]

    # ---- actions

    def why_not(self, action_id: str) -> str | None:
        """There must be such a matrix, or snapshot."""
        if self._last is None or self._last.step is None:
            return "the matrix is still being read" if self._last is None else "the run has no snapshot"
        steps, at = self._last.steps, self._last.steps.index(self._last.step)
        ends = {
            "matrix.earlier": (at == 0, "this is the first snapshot"),
            "matrix.later": (at == len(steps) - 1, "this is the newest snapshot"),
            "matrix.previous": (self._number() == 0, "this is the first matrix"),
            "matrix.next": (self._number() == len(self._last.places) - 1, "this is the last matrix"),
            "matrix.part": (self.size.height >= _TALL, "all parts are shown"),
        }
        is_end, reason = ends.get(action_id, (False, ""))
        return reason if is_end else None

    def _number(self) -> int:
        places = self._last.places if self._last else ()
        return places.index(self._place) if self._place in places else -1

    def do_next(self) -> None:
        """Go to the next matrix: of this layer, then of the next."""
        self._turn(1)

    def do_previous(self) -> None:
        """Go to the matrix before."""
        self._turn(-1)

    def _turn(self, by: int) -> None:
        places = self._last.places if self._last else ()
        number = self._number() + by
        if 0 <= number < len(places):
            self._place = places[number]
            self._refresh()

    def do_earlier(self) -> None:
        """Go one snapshot back and stay there."""
        self._go(-1)

    def do_later(self) -> None:
        """Go one snapshot on; at the newest, follow."""
        self._go(1)

    def _go(self, by: int) -> None:
        if self._last is None or self._last.step is None:
            return
        steps = self._last.steps
        place = steps.index(self._last.step) + by
        self._step = None if place >= len(steps) - 1 else steps[place]
        self._refresh()

    def do_part(self) -> None:
        """Show the next part: over k, over training, numbers."""
        self._part = (self._part + 1) % len(PARTS)
        if self._last is not None:
            self._draw(self._last)

    def do_down(self) -> None:
        """Move down in the numbers."""
        self.query_one(TextView).do_down()

    def do_up(self) -> None:
        """Move up in the numbers."""
        self.query_one(TextView).do_up()


def _at(ks: tuple[int, ...], values: tuple[float | None, ...] | list[float], k: object) -> str:
    """The value at the snapshot's own k, as text; nothing where it is not among them."""
    found = next((value for at, value in zip(ks, values, strict=True) if at == k), None)
    return "" if found is None else f"{found:.3g}"


def _range(lines: list[Line]) -> tuple[float, float]:
    """From zero to a little above the largest value."""
    largest = max((value for line in lines for value in line.y if math.isfinite(value)), default=1.0)
    return 0.0, largest * 1.05 or 1.0
