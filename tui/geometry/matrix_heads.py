"""The heads of one matrix as a widget of bars."""

from __future__ import annotations

from typing import ClassVar

from rich.style import Style
from textual import events
from textual.widgets import Static

from readwrite_edit.tui.geometry.lines import joined
from readwrite_edit.tui.geometry.matrix_lines import head_bars


class HeadBars(Static):
    """Each head's share of the update."""

    COMPONENT_CLASSES: ClassVar[set[str]] = {"heads--bar"}

    def __init__(self) -> None:
        """Begin without heads."""
        super().__init__(id="matrix-heads", markup=False)
        self._norms: list[float] = []

    def draw(self, norms: list[float]) -> None:
        """Show the norms of other heads."""
        self._norms = norms
        self._fill()

    def on_resize(self, _: events.Resize) -> None:
        """Fit the bars."""
        self._fill()

    def _fill(self) -> None:
        style = Style(color=self.get_component_rich_style("heads--bar").color)
        self.update(joined(head_bars(self._norms, *self.size, style)))
