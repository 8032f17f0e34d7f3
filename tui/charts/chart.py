"""A chart of lines in braille: small margins, neat ticks, the name of each line at its end.

It is drawn here and not by textual-plot (measured at version 0.10.1): there a box
and two rows of margin leave one row of 8 to the curve, a label at a line's end
and a gap-wise pen have no place, and one redraw of two lines costs 9 to 16 ms and
the import of NumPy another 130 ms. Here it is 1 to 3 ms and nothing to import.

Nothing rests on colour alone: lines differ in their pen (see ``braille.PENS``)
and are named at their end, points alone are marked, a resume is a dashed upright.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.app import App
from textual.color import Color
from textual.geometry import Size
from textual.strip import Strip
from textual.widget import Widget

from readwrite_edit.tui.charts.parts import Inks, Line, View
from readwrite_edit.tui.charts.plotting import plot

__all__ = ["Chart", "Line", "inks_of"]

# Okabe and Ito, told apart in any kind of colour blindness; darker ones on a light ground.
_ON_DARK = ("#56B4E9", "#E69F00", "#2EC29A", "#CC79A7", "#F0E442", "#E8743B")
_ON_LIGHT = ("#0072B2", "#B35900", "#00795A", "#A0467A", "#6B6200", "#B03A00")


@dataclass(frozen=True)
class _Content:
    lines: tuple[Line, ...]
    title: str
    view: View


class Chart(Widget):
    """Lines over a common axis; ``draw`` replaces what it shows. It takes no keys: its owner does."""

    DEFAULT_CSS = "Chart { height: 1fr; width: 1fr; }"

    def __init__(self, *, id: str | None = None) -> None:
        """Begin empty."""
        super().__init__(id=id)
        self._content = _Content((), "", View())
        self._strips: list[Strip] = []
        self._drawn_for: tuple[Size, str, bool | None] | None = None
        self._marked = False

    def draw(
        self,
        lines: Sequence[Line],
        *,
        title: str = "",
        y: str = "",
        log: bool = False,
        x_range: tuple[float, float] | None = None,
        y_range: tuple[float, float] | None = None,
        cursor: float | None = None,
        marked: bool = False,
        whole_x: bool = True,
        x_power: bool = False,
        x_root: bool = False,
    ) -> None:
        """Show other lines.

        Args:
            lines: Their labels and texts must be safe to show.
            title: Above the chart.
            y: Unit of the values, after the title.
            log: Draw values on a logarithmic axis; what is not above zero is left out.
            x_range: First and last x shown; all of them by default.
            y_range: Least and greatest y shown; those of the visible values by default.
            cursor: An upright at this x.
            marked: Whether the chart is the chosen one of several.
            whole_x: Whether x counts something, so that only whole numbers are ticks.
            x_power: Whether x are exponents of 2, ticked with the numbers that they stand for.
            x_root: Whether x are square roots, ticked likewise.
        """
        heading = f"{title} {y}".strip()
        x_axis = {"x_range": x_range, "whole_x": whole_x, "x_power": x_power, "x_root": x_root}
        view = View(y_range=y_range, log=log, cursor=cursor, **x_axis)
        content = _Content(tuple(lines), heading, view)
        if content != self._content or marked != self._marked:
            self._content, self._marked = content, marked
            self._drawn_for = None
            self._ensure_drawn()  # now, and not all charts of a screen at its next update
            self.refresh()

    def _ensure_drawn(self) -> None:
        wanted = self.size, self.app.theme, self.app.ansi_color
        if self._drawn_for != wanted and self.size:
            self._strips, self._drawn_for = self._paint(), wanted

    def render_line(self, y: int) -> Strip:
        """One row; all of them are made anew where the content, the size or the theme has changed."""
        self._ensure_drawn()
        return self._strips[y] if y < len(self._strips) else Strip.blank(self.size.width, self.rich_style)

    def on_resize(self, _: events.Resize) -> None:
        """Draw for the new size."""
        self._drawn_for = None

    def _paint(self) -> list[Strip]:
        width, height = self.size
        ground = self.rich_style
        inks = inks_of(self.app, marked=self._marked)
        rows = plot(self._content.lines, self._content.title, self._content.view, width, height, inks)
        return [Strip(_joined(row, ground)).adjust_cell_length(width, ground) for row in rows]


def inks_of(app: App[object], *, marked: bool = False) -> Inks:
    """The styles of charts under the application's theme."""
    dark = app.current_theme.dark
    ground = Color.parse(app.theme_variables.get("background", "#000000" if dark else "#ffffff"))
    text = Color.parse("#ffffff" if dark else "#000000")
    inks = _ON_DARK if dark else _ON_LIGHT
    return Inks(
        lines=tuple(Style(color=ink) for ink in inks),
        faint=tuple(Style(color=ground.blend(Color.parse(ink), 0.4).hex) for ink in inks),
        axis=Style(color=ground.blend(text, 0.45).hex),
        title=Style(bold=True, reverse=marked),
        cursor=Style(color=ground.blend(text, 0.75).hex),
    )


def _joined(row: Sequence[tuple[str, Style]], ground: Style) -> list[Segment]:
    """Neighbours of one style as one segment, on the widget's ground."""
    joined: list[tuple[str, Style]] = []
    for text, style in row:
        if joined and joined[-1][1] is style:
            joined[-1] = joined[-1][0] + text, style
        else:
            joined.append((text, style))
    return [Segment(text, ground + style) for text, style in joined]
