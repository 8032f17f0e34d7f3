"""A canvas of braille cells: two by four dots in each, and for each cell the line that it belongs to."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

Points = Sequence[tuple[float, float]]
_BITS = ((0x01, 0x02, 0x04, 0x40), (0x08, 0x10, 0x20, 0x80))
BLANK = 0x2800
# How far a pen writes and lifts along a line, in dots; told apart without colour.
SOLID, DASHED, DOTTED, CHAINED = (), (5, 4), (1, 3), (6, 3, 1, 3)
PENS: tuple[tuple[int, ...], ...] = (SOLID, DASHED, DOTTED, CHAINED)


class Canvas:
    """Lines drawn later lie above: in a cell of two ranks only the higher one's dots are seen.

    Attributes:
        width: In cells.
        height: In cells.
    """

    def __init__(self, width: int, height: int) -> None:
        self.width, self.height = width, height
        self._dots = [bytearray(width) for _ in range(height)]
        self._owners = [bytearray(width) for _ in range(height)]
        self._ranks = bytearray(256)

    def line(self, points: Points, *, owner: int, rank: int = 0, pen: Sequence[int] = SOLID) -> None:
        """Draw through points in dots (0 to 2·width − 1, 0 to 4·height − 1, from the upper left).

        Args:
            points: What lies beyond the canvas is cut off at its edges.
            owner: A number from 1 to 255; ``row`` gives it back.
            rank: A higher one hides a lower one within a cell; equal ones are merged.
            pen: Lengths in dots to write and to lift by turns; empty for a line without gaps.
        """
        self._ranks[owner] = rank
        pattern = _pattern(pen)
        travelled = 0
        if len(points) == 1:
            self._put(round(points[0][0]), round(points[0][1]), owner)
        for (x0, y0), (x1, y1) in pairwise(points):
            travelled = self._stroke((round(x0), round(y0)), (round(x1), round(y1)), owner, pattern, travelled)

    def row(self, number: int) -> tuple[str, bytearray]:
        """The characters of a row, a space where a cell is empty, and the owner of each cell (0: none)."""
        text = "".join(chr(BLANK + dots) if dots else " " for dots in self._dots[number])
        return text, self._owners[number]

    def _stroke(
        self, start: tuple[int, int], end: tuple[int, int], owner: int, pattern: Sequence[bool], travelled: int
    ) -> int:
        """One straight piece, without its first dot unless it is the first; returns how far the pen has come."""
        (x, y), (dx, dy) = start, (end[0] - start[0], end[1] - start[1])
        count, put, length = max(abs(dx), abs(dy)), self._put, len(pattern)
        if not count:
            if not travelled:
                put(x, y, owner)
            return max(1, travelled)
        double, turn_x, turn_y = 2 * count, 2 * dx, 2 * dy
        for number in range(1 if travelled else 0, count + 1):
            if length == 1 or pattern[(travelled + number) % length]:
                put(x + (turn_x * number + count) // double, y + (turn_y * number + count) // double, owner)
        return travelled + count

    def _put(self, x: int, y: int, owner: int) -> None:
        row, column = y >> 2, x >> 1
        if not (0 <= column < self.width and 0 <= row < self.height):
            return
        owners = self._owners[row]
        holder = owners[column]
        if holder != owner:
            if holder and self._ranks[holder] != self._ranks[owner]:
                if self._ranks[holder] > self._ranks[owner]:
                    return
                self._dots[row][column] = 0
            owners[column] = owner
        self._dots[row][column] |= _BITS[x & 1][y & 3]


def _pattern(pen: Sequence[int]) -> Sequence[bool]:
    return [number % 2 == 0 for number, length in enumerate(pen) for _ in range(length)] or (True,)
