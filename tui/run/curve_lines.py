"""From the series of a run to the lines of a chart: smoothed or not, as many points as can be seen."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from threading import Lock

from readwrite_edit.runs.wording import number_text
from readwrite_edit.terminal import printable
from readwrite_edit.tui.charts.parts import Line
from readwrite_edit.tui.charts.scales import short_number
from readwrite_edit.tui.run.metric_store import Key
from readwrite_edit.tui.run.panels import Panel, PanelLine
from readwrite_edit.tui.run.series import Series, Smoothed

SMOOTHINGS = (0.0, 0.6, 0.9, 0.99)
_FEW = 24  # so many points have room for a mark each
_LEAST_SMOOTHED = _LEAST_JOINED = 3
Range = tuple[float, float]


class Smoothing:
    """Smoothed series at one weight, extended by a worker, read by the screen."""

    def __init__(self, weight: float) -> None:
        self.weight = weight
        self._smoothed: dict[Key, Smoothed] = {}
        self._lock = Lock()

    def extend(self, series: Mapping[Key, Series]) -> None:
        """Smooth what is new of these series; for a worker."""
        with self._lock:
            for key, raw in series.items():
                known = self._smoothed.get(key)
                if known is None or known.raw is not raw:
                    known = Smoothed(raw, self.weight)
                known.extend()
                self._smoothed[key] = known

    def of(self, key: Key, raw: Series) -> Series | None:
        """The smoothed twin of a series; None where there is none yet, or too little to smooth."""
        known = self._smoothed.get(key) if self.weight else None
        return known.series if known and known.raw is raw and raw.count >= _LEAST_SMOOTHED else None


def whole_range(series: Iterable[Series]) -> Range | None:
    """The first and the last step of series; None where there are none."""
    filled = [one for one in series if one.count]
    if not filled:
        return None
    return min(one.steps[0] for one in filled), max(one.steps[one.count - 1] for one in filled)


def lines_of(panel: Panel, series: Mapping[Key, Series], smoothing: Smoothing, seen: Range, columns: int) -> list[Line]:
    """The lines of a panel, those that stand behind others first.

    Args:
        panel: Which ones.
        series: All of the run's.
        smoothing: Smoothed twins, drawn over the raw values where there are any.
        seen: First and last step shown.
        columns: Columns of dots there are to draw in.
    """
    behind, lines = [], []
    alone = len(panel.lines) == 1 and panel.lines[0].label in ("train", "eval")
    for shown in panel.lines:
        raw = series.get(shown.key)
        if raw is None or not raw.count:
            continue
        smooth = smoothing.of(shown.key, raw)
        if smooth is not None:
            behind.append(_line(shown, raw, seen, columns, label="", faint=True))
        label = "" if alone else printable(shown.short)
        lines.append(_line(shown, smooth or raw, seen, columns, label=label, value=_last(raw)))
    return behind + lines


def _line(
    shown: PanelLine, series: Series, seen: Range, columns: int, *, label: str, faint: bool = False, value: str = ""
) -> Line:  # fmt: skip
    steps, values = series.drawn(*seen, columns)
    marked = not faint and not shown.key[0].endswith("train") and len(steps) <= _FEW
    return Line(
        label, steps, values, pen=shown.pen, ink=shown.ink, segment_starts=series.segment_starts, faint=faint,
        marks=marked, joined=not marked or len(steps) >= _LEAST_JOINED, value=value,
    )  # fmt: skip


def _last(series: Series) -> str:
    last = series.last
    return "" if last is None else short_number(last[1])


def in_words(panel: Panel, series: Mapping[Key, Series], smoothing: Smoothing, step: float) -> str:
    """The exact values of a panel's lines at a step, or before it where there is none at it."""
    parts = []
    for shown in panel.lines:
        raw = series.get(shown.key)
        index = None if raw is None else raw.index_at(step)
        if raw is None or index is None:
            continue
        value = raw.values[index]
        text = f"{shown.label} {'not finite' if math.isnan(value) else f'{value:.7g}'}"
        smooth = smoothing.of(shown.key, raw)
        if smooth is not None and index < smooth.count:
            text += f" (smoothed {number_text(smooth.values[index])})"
        if raw.steps[index] != step:
            text += f" at step {raw.steps[index]:.0f}"
        if raw.segments[raw.count - 1]:
            text += f" in segment {raw.segments[index]}"
        parts.append(text)
    unit = f" ({panel.unit})" if panel.unit else ""
    return printable(f"{panel.title}{unit} at step {step:.0f}: {', '.join(parts) or 'no value'}")
