"""One matrix in lines of text: bars of its heads, and all numbers as blocks side by side. All are safe to show."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import zip_longest

from rich.style import Style
from rich.text import Text

from readwrite_edit.runs.wording import number_text
from readwrite_edit.tui.geometry.matrix_curves import Curve

_EIGHTHS = " ▁▂▃▄▅▆▇█"
_BOLD, _QUIET = Style(bold=True), Style(dim=True)
_BETWEEN = 3
Block = list[str]


def head_bars(norms: Sequence[float], width: int, height: int, style: Style) -> list[Text]:
    """Upright bars: each head's share of ‖ΔW‖², its number below; the title names the largest.

    Args:
        norms: By head.
        width: Room in columns.
        height: Room in lines, the title and the numbers among them.
        style: Of the bars.
    """
    title = Text("share of ‖ΔW‖² by head", style=_BOLD, no_wrap=True, overflow="ellipsis")
    shares = shares_of(norms)
    if not shares or height < 3:
        return [title]
    largest = max(range(len(shares)), key=shares.__getitem__)
    said = f"head {largest}: {shares[largest]:.1%}"
    plain = Text(no_wrap=True, overflow="ellipsis").append_text(title)
    plain.append(f"{said:>{max(len(said) + 1, width - len(title))}}")
    each = max(1, min(6, width // len(shares)))
    shown = shares[: width // each]
    rows = height - 2
    lines = [_bar_line(shown, shares[largest], row, rows, each, style) for row in range(rows)]
    return [plain, *lines, _numbered(len(shown), each)]


def shares_of(norms: Sequence[float]) -> list[float]:
    """Each head's share of the squared norm; none of a zero update."""
    total = sum(norm * norm for norm in norms)
    return [norm * norm / total for norm in norms] if total > 0 else []


def _bar_line(shares: Sequence[float], largest: float, row: int, rows: int, each: int, style: Style) -> Text:
    line = Text(no_wrap=True)
    full = style + Style(bgcolor=style.color)
    for share in shares:
        eighths = min(8, max(0, round(share / largest * rows * 8) - 8 * (rows - 1 - row)))
        line.append(_EIGHTHS[eighths] * max(1, each - 1), full if eighths == 8 else style)
        line.append(" " * (each > 1))
    return line


def _numbered(count: int, each: int) -> Text:
    """The numbers of the heads, as many as have room."""
    step = next(step for step in (1, 2, 4, 8, 16, 32, 64, 128, count) if step * each > len(str(count)))
    text = "".join(str(head).ljust(each * step) for head in range(0, count, step))
    return Text(text[: count * each].rstrip(), style=_QUIET)


def number_lines(
    curves: Sequence[Curve], k: object, values: Sequence[float], norms: Sequence[float], width: int
) -> list[Text]:
    """All numbers: fractions over k by side, singular values, heads; side by side where there is room.

    Args:
        curves: Of the matrix.
        k: The one of the snapshot, which is marked.
        values: Singular values.
        norms: By head.
        width: Room in columns.
    """
    fractions = [line for curve in curves for line in _curve_block(curve, k)]
    spectrum = _block(("singular value",), [(f"{number:>3}  {value:.4g}",) for number, value in enumerate(values, 1)])
    shares = shares_of(norms) or [0.0] * len(norms)
    heads = zip(range(len(norms)), norms, shares, strict=True)
    shared = _block(("head  norm  share",), [(f"{head:>3}  {norm:.4g}  {share:.1%}",) for head, norm, share in heads])
    lines: list[Text] = []
    for blocks in _banded([block for block in (fractions, spectrum, shared) if len(block) > 1], width):
        lines += [*([Text()] if lines else []), *_side_by_side(blocks)]
    return lines


def _banded(blocks: Sequence[Block], width: int) -> list[list[Block]]:
    """Blocks that have room beside each other."""
    bands: list[list[Block]] = []
    used = width
    for block in blocks:
        needed = max(map(len, block)) + _BETWEEN
        if used + needed > width + _BETWEEN:
            bands.append([])
            used = 0
        bands[-1].append(block)
        used += needed
    return bands


def _curve_block(curve: Curve, k: object) -> Block:
    """A line for each k: the fraction, k/d with its interval, the energy null."""
    head = ("    k", f"{curve.side} fraction", "k/d", f"95 % for n {curve.n}", "energy null")
    rows = [
        (
            f"{'▸' if at == k else ' '}{at:>5}",
            _figure(fraction),
            f"{at / curve.d:.4g}",
            f"{low:.4g} – {high:.4g}",
            _figure(energy),
        )
        for at, fraction, (low, high), energy in zip(curve.k, curve.fraction, curve.band, curve.energy, strict=True)
    ]
    return [*_block(head, rows), ""]


def _figure(value: float | None) -> str:
    return "–" if value is None else number_text(value)


def _block(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> Block:
    """Columns as wide as their widest cell."""
    widths = [max(len(row[place]) for row in (head, *rows)) for place in range(len(head))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in (head, *rows)]


def _side_by_side(blocks: Sequence[Block]) -> list[Text]:
    widths = [max(map(len, block)) + _BETWEEN for block in blocks]
    lines = []
    for number, row in enumerate(zip_longest(*blocks, fillvalue="")):
        text = "".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        lines.append(Text(text, style=_QUIET if number == 0 else "", no_wrap=True))
    return lines
