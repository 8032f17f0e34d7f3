"""The lines around a grid: what its cells say, which snapshot it is, what digits mean, the figures of a matrix.

All of them are safe to show.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.style import Style
from rich.text import Text

from readwrite_edit.runs.geometry_grid import GeometryDifference, GeometryGrid, Measure
from readwrite_edit.runs.geometry_scale import Scale
from readwrite_edit.runs.state import is_finite
from readwrite_edit.runs.wording import number_text
from readwrite_edit.terminal import printable
from readwrite_edit.tui.geometry.ramp import cell_style

_BOLD, _QUIET = Style(bold=True), Style(dim=True)
_WIDEST_SWATCH, _LEAST_SLIDER, _WIDEST_SLIDER = 9, 6, 40


def caption(measure: Measure, scale: Scale, width: int) -> Text:
    """Title and meaning of a quantity, as far as there is room, and what the digits are."""
    text = Text(no_wrap=True, overflow="ellipsis").append(measure.title, _BOLD)
    digits = f"digits are {scale.caption}"
    room = width - len(measure.title) - len(digits) - 2
    meaning = f"  {measure.meaning}" if len(measure.meaning) + 2 <= room else ""
    text.append(meaning)
    text.append(" " * max(2, width - len(text) - len(digits)) + digits, _QUIET)
    return text


def timeline(words: str, place: int, count: int, width: int) -> Text:
    """Which snapshot is shown, in words and as a place on a line of all."""
    text = Text(words, no_wrap=True, overflow="ellipsis")
    room = min(_WIDEST_SLIDER, width - len(words) - 2)
    if count > 1 and room >= _LEAST_SLIDER:
        at = round((place - 1) / (count - 1) * (room - 1))
        text.append("  " + "━" * at)
        text.append("●", _BOLD)
        text.append("─" * (room - 1 - at), _QUIET)
    return text


def legend(scale: Scale, width: int) -> list[Text]:
    """A swatch for each text that a cell can hold; below each, where all have room, the least value it stands for."""
    swatches = scale.legend()
    each = max(3, min(_WIDEST_SWATCH, width // len(swatches)))
    bar = Text(no_wrap=True, overflow="crop")
    for word, value in swatches:
        bar.append(f" {word}".ljust(each), cell_style(scale.tone(value), diverging=scale.centre is not None))
    edges = [_edge(scale, value) for _, value in swatches]
    if max(map(len, edges)) >= each:  # some of them alone would say little
        return [bar]
    return [bar, Text("".join(edge.ljust(each) for edge in edges), _QUIET, no_wrap=True, overflow="crop")]


def _edge(scale: Scale, value: float) -> str:
    """The value where a swatch begins: from below, of a signed scale from zero outwards."""
    digit = scale.digit(value)
    if scale.signed:
        edge = 0.0 if digit == 0 else scale.edges[digit - 1]
        sign = "" if value == 0 else "≥+" if value > 0 else "≤−"
        return f"{sign}{edge:.2g}"
    return f"<{scale.edges[0]:.3g}" if digit == 0 else f"{'≥' if digit == 9 else ''}{scale.edges[digit - 1]:.3g}"


def figures(shown: GeometryGrid, place: tuple[int, str] | None, measure: Measure, width: int) -> list[Text]:
    """The exact figures of one matrix: its shape and norm, and each side against both nulls."""
    if place is None:
        return []
    if isinstance(shown, GeometryDifference):
        return _difference_figures(shown, place, measure)
    record = shown.records.get(place)
    head = _head(place)
    if record is None:
        return [head.append("  not measured here")]
    head.append(f"   {'   '.join(_shape(record))}")
    sides = [line for side in ("read", "write") for line in side_lines(record, side, width)]
    if not sides:
        sides = [Text("no fractions: the update is zero, or neither side was measured", style=_QUIET)]
    sizes = Text("   ".join(_sizes(record)), no_wrap=True, overflow="ellipsis")
    return _packed([head, *sides, sizes], width)


def side_lines(record: Mapping[str, Any], side: str, width: int) -> list[Text]:
    """A fraction as a multiple of each null, with the p-values that there are; none of a side without a fraction.

    In one line where there is room, else a line for each null.
    """
    fraction = record.get(f"{side}_fraction")
    if not is_finite(fraction):
        return []
    start = Text(no_wrap=True, overflow="ellipsis").append(f"{side} ", _QUIET).append(number_text(fraction), _BOLD)
    lines = [start]
    for name, label in (("isotropic", "k/d"), ("energy", "energy null")):
        null = record.get(f"{side}_{name}_null")
        if is_finite(null) and null > 0:
            part = Text(f" = {fraction / null:.3g} × {label} {null:.3g}").append(
                _p_text(record, f"{side}_{name}_p"), _QUIET
            )
            if len(lines[-1]) + len(part) > width:
                lines.append(Text(" " * (len(side) + 1), no_wrap=True, overflow="ellipsis"))
            lines[-1].append_text(part)
    return lines


def _p_text(record: Mapping[str, Any], field: str) -> str:
    """The p-value, and the cautious one that counts independent rows only."""
    p, cautious = record.get(field), record.get(f"{field}_effective")
    if not is_finite(p):
        return ""
    texts = [_probability(p), *([_probability(cautious)] if is_finite(cautious) else [])]
    return f" (p {', at effective n '.join(dict.fromkeys(texts))})"


def _probability(p: float) -> str:
    """Below what a float can hold, a bound."""
    return "<1e-300" if p < 1e-300 else f"{p:.2g}"


def _head(place: tuple[int, str]) -> Text:
    return Text(no_wrap=True, overflow="ellipsis").append(f"layer {place[0]} {printable(place[1])}", _BOLD)


def _shape(record: Mapping[str, Any]) -> list[str]:
    sides = [number_text(record.get(name)) for name in ("d_out", "d_in")]
    parts = [f"{sides[0]} × {sides[1]}"] if "–" not in sides else []
    return parts + [f"{name} {number_text(record[name])}" for name in ("rank", "k") if is_finite(record.get(name))]


def _sizes(record: Mapping[str, Any]) -> list[str]:
    names = (
        ("norm", "norm"), ("relative", "relative_norm"), ("price", "price"), ("output", "output_energy"),
        ("captured", "captured_energy"), ("stable rank", "stable_rank"), ("effective rank", "effective_rank"),
    )  # fmt: skip
    return [f"{word} {record[field]:.3g}" for word, field in names if is_finite(record.get(field))]


def _packed(lines: Sequence[Text], width: int) -> list[Text]:
    """The last line beside the first where both have room in one."""
    first, *middle, last = lines
    if len(first) + len(last) + 3 <= width:
        return [Text.assemble(first, "   ", last, no_wrap=True, overflow="ellipsis"), *middle]
    return [first, *middle, last]


def _difference_figures(shown: GeometryDifference, place: tuple[int, str], measure: Measure) -> list[Text]:
    before, after = (side.value(*place, measure) for side in (shown.first, shown.second))
    change = shown.value(*place, measure)
    text = _head(place).append(f"   {measure.title}  {number_text(before)} → {number_text(after)}")
    if change is not None:
        text.append(f"   {'+' if change > 0 else ''}{number_text(change)}")
    return [text]


def joined(lines: Sequence[Text]) -> Text:
    """Lines as one text for one widget."""
    return Text("\n", no_wrap=True, overflow="ellipsis").join(lines)
