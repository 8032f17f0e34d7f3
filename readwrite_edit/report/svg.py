"""Drawings for a page: matplotlib figures as inline SVG in the page's own colours."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

# Stand-ins that the page replaces by its own colours, so that one drawing serves light and dark.
INK, FAINT, FIRST, SECOND = "#010101", "#020202", "#030303", "#040404"
_PAGE_COLOURS = {INK: "var(--ink)", FAINT: "var(--faint)", FIRST: "var(--first)", SECOND: "var(--second)"}
# Of curves that are many: told apart by those who see no red or no green, on light and on dark paper.
MANY = tuple(f"#0505{number:02x}" for number in range(7))
_PAGE_COLOURS |= {colour: f"var(--many-{number})" for number, colour in enumerate(MANY)}
MARKS = ("o", "s", "^", "D", "v", "P", "X", "p", "<", ">", "h")
_STYLE: Any = {
    "text.parse_math": False,  # a dollar sign in a name is no formula
    "svg.fonttype": "none",
    "svg.hashsalt": "readwrite-edit",
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "savefig.facecolor": "none",
    "font.size": 8.5,
    "axes.titlesize": 9.5,
    "axes.titlelocation": "left",
    "axes.edgecolor": FAINT,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "text.color": INK,
    "xtick.color": FAINT,
    "xtick.labelcolor": INK,
    "ytick.color": FAINT,
    "ytick.labelcolor": INK,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "legend.handlelength": 1.8,
    "lines.linewidth": 1.4,
}
WIDTH_IN = 10.6
# Told apart by dash and mark as well as by colour.
LINES = (
    (FIRST, "-", "o"),
    (SECOND, "--", "s"),
    (INK, ":", "^"),
    (FAINT, "-.", "D"),
    (FIRST, (0, (4, 1, 1, 1, 1, 1)), "v"),
    (SECOND, (0, (1, 1)), "P"),
    (INK, (0, (6, 2)), "X"),
    (FAINT, (0, (3, 1)), "*"),
)


def drawing(draw: Callable[[Figure], None], *, height_in: float, prefix: str) -> str:
    """What ``draw`` puts on a figure, as an ``<svg>`` element.

    Args:
        draw: Called with the empty figure.
        height_in: Height for a width of ``WIDTH_IN``; the page scales both.
        prefix: Begins every id, so that several drawings can share a page; never text from a file.
    """
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(WIDTH_IN, height_in), layout="constrained")
        draw(figure)
        buffer = io.StringIO()
        nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        FigureCanvasSVG(figure).print_svg(buffer, metadata=nothing)
    return _fit_for_page(buffer.getvalue(), prefix)


def number(value: float, _: Any = None) -> str:
    """A tick's number as plain text with a true minus sign; for axes, also logarithmic ones."""
    return f"{value:g}".replace("-", "\N{MINUS SIGN}")


def plain_numbers(axes: Axes) -> None:
    """Label both axes with ``number`` (matplotlib's own labels of a logarithmic axis are formulas)."""
    axes.xaxis.set_major_formatter(number)
    axes.yaxis.set_major_formatter(number)


def _fit_for_page(svg: str, prefix: str) -> str:
    """Strip the XML header, make ids unique on the page, and use the page's colours and fonts."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r'\b(id="|href="#)|url\(#', lambda match: f"{match.group(0)}{prefix}-", svg)
    svg = re.sub(r"<metadata>.*?</metadata>\s*", "", svg, flags=re.DOTALL)
    svg = re.sub(r'^(<svg[^>]*?) height="[^"]*"', r"\1", svg)
    svg = re.sub(r'^(<svg[^>]*?) width="[^"]*"', r"\1", svg)
    for stand_in, colour in _PAGE_COLOURS.items():
        svg = svg.replace(stand_in, colour)
    return svg
