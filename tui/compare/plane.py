"""What two to four runs gained on held-out rows against what it cost on a text, as their paths through a plane."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

from rich.text import Text
from textual import events, work
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.message import Message
from textual.widgets import Static

from readwrite_edit.runs.folder import RunFolder
from readwrite_edit.runs.reader import read_run
from readwrite_edit.terminal import printable
from readwrite_edit.tui.charts.chart import Chart, inks_of
from readwrite_edit.tui.charts.parts import MARKS, Line
from readwrite_edit.tui.charts.scales import short_number
from readwrite_edit.tui.geometry.lines import joined

GAINS = {"margin": "margin", "loss": "fall of the loss"}
_LOW = 14  # lines, below which the figures of the runs are left out

Path3 = Sequence[tuple[int, float, float]]
"""Step, cost and gain of each evaluation."""


@dataclass(frozen=True)
class Reading:
    """The paths of the runs, as far as they were read.

    Attributes:
        texts: That at least one run was evaluated on.
        paths: Position of a run, what counts as gain and text to its path.
        amiss: Runs whose paths are incomplete, or should not be held against the first, one clause each.
    """

    texts: tuple[str, ...] = ()
    paths: Mapping[tuple[int, str, str], Path3] = field(default_factory=dict)
    amiss: tuple[str, ...] = ()


class ComparePlane(Vertical):
    """The same plane as that of ``readwrite-edit compare``: reported rows alone, root of the KL to the right.

    Args:
        paths: Of the runs.
        letters: Their names here.
    """

    @dataclass
    class Read(Message):
        """A worker has read the evaluations."""

        reading: Reading

    def __init__(self, paths: Sequence[Path], letters: str) -> None:
        super().__init__(id="compare-plane")
        self._paths, self._letters = tuple(paths), letters
        self._reading: Reading | None = None
        self._seen: tuple[object, ...] | None = None
        self._text, self._gain = 0, "margin"

    def compose(self) -> ComposeResult:
        """What is shown, the plane, and where each run ends."""
        yield Static("reading …", id="plane-caption", markup=False)
        yield Chart(id="plane-chart")
        yield Static(id="plane-figures", markup=False)

    def on_mount(self) -> None:
        """Read for the first time."""
        self.read()

    def read(self) -> None:
        """Read again what has changed since."""
        seen = tuple(_stamp(path) for path in self._paths)
        if seen != self._seen:
            self._seen = seen
            self._work()

    @work(thread=True, exclusive=True)
    def _work(self) -> None:
        self.post_message(self.Read(read_paths(self._paths, self._letters)))

    def on_compare_plane_read(self, message: Read) -> None:
        """Draw what was read."""
        self._reading = message.reading
        self._draw()

    def on_resize(self, _: events.Resize) -> None:
        """Fit the lines to the size."""
        self._draw()

    def turn_text(self) -> None:
        """Show the cost on the next text."""
        self._text += 1
        self._draw()

    def turn_gain(self) -> None:
        """Count the other thing as gain."""
        names = list(GAINS)
        self._gain = names[(names.index(self._gain) + 1) % len(names)]
        self._draw()

    # ---- drawing

    def _draw(self) -> None:
        if self._reading is None:
            return
        texts = self._reading.texts
        if not texts:
            none = Text("No run has evaluated rows and texts yet.")
            self.query_one("#plane-caption", Static).update(joined([none, *self._amiss()]))
            return
        at = self._text % len(texts)
        shown = [self._reading.paths.get((run, self._gain, texts[at]), ()) for run in range(len(self._letters))]
        self.query_one("#plane-caption", Static).update(self._caption(texts[at], at, shown))
        most = max((cost for path in shown for _, cost, _ in path), default=0.0)
        self.query_one(Chart).draw(
            list(lines_of(shown, self._letters)),
            title=f"gain: {GAINS[self._gain]}",
            x_range=(0.0, math.sqrt(most) * 1.02 or 1.0),
            whole_x=False,
            x_root=True,
        )
        figures = self.query_one("#plane-figures", Static)
        figures.update(self._figures(shown))
        figures.display = self.size.height >= _LOW

    def _caption(self, text: str, at: int, shown: Sequence[Path3]) -> Text:
        """Which text, and what is amiss."""
        assert self._reading is not None
        lines = [Text(f"KL on {printable(text)} in nats, to the right by its root", style="bold")]
        lines[0].append(f"   text {at + 1} of {len(self._reading.texts)}: t   gain: w", style="dim")
        none = [letter for letter, path in zip(self._letters, shown, strict=True) if not path]
        if none:
            lines.append(Text(f"without an evaluation on it: {', '.join(none)}", style="bold yellow"))
        return joined([*lines, *self._amiss()])

    def _amiss(self) -> list[Text]:
        amiss = self._reading.amiss if self._reading else ()
        return [Text(printable(one), style="bold yellow") for one in amiss]

    def _figures(self, shown: Sequence[Path3]) -> Text:
        """The last evaluation of each run."""
        inks, lines = inks_of(self.app), []
        for at, (letter, path) in enumerate(zip(self._letters, shown, strict=True)):
            if path:
                step, cost, gain = path[-1]
                line = Text(f"{letter} {MARKS[at % len(MARKS)]} ", style=inks.lines[at % len(inks.lines)])
                lines.append(line.append(f"step {step}: {short_number(gain)} at KL {short_number(cost)}"))
        return joined(lines)


def read_paths(paths: Sequence[Path], letters: str) -> Reading:
    """The paths of runs, finished or not; NumPy is loaded here and nowhere else in the TUI."""
    from readwrite_edit.compare.measured import unlike
    from readwrite_edit.compare.points import points_of, run_paths
    from readwrite_edit.evaluate.records import find_evaluations

    texts: dict[str, None] = {}
    found: dict[tuple[int, str, str], Path3] = {}
    firsts = []
    amiss: list[str] = []
    for at, path in enumerate(paths):
        read = find_evaluations(path)
        if read.damaged and not read_run(path).live:  # a live run may be writing its last line
            amiss.append(f"{letters[at]} is incomplete: {read.damage(1)}")
        every = [one for one in read.evaluations if one.rows is not None and one.texts]
        evaluations = [one for one in every if not unlike(every[0], one)]
        if not evaluations:
            continue
        firsts.append((letters[at], evaluations[0]))
        points = points_of(evaluations, arm="", seed=0)
        for text in evaluations[0].texts:
            texts.setdefault(text)
            for gain in ("margin", "loss"):
                found[at, gain, text] = run_paths(points, "", text, gain)[0]
    amiss += (
        f"{firsts[0][0]} and {letter} were evaluated with different {words}: not to be compared"
        for letter, one in firsts[1:]
        if (words := unlike(firsts[0][1], one))
    )
    return Reading(tuple(texts), found, tuple(amiss))


def lines_of(shown: Sequence[Path3], letters: str) -> Iterator[Line]:
    """The lines of a chart: each path from the untrained model on, and its evaluations as marks.

    Where a path turns back to a smaller cost it is drawn in pieces, since a line
    of a chart only goes to the right.
    """
    for at, path in enumerate(shown):
        places = [(0.0, 0.0), *((math.sqrt(max(cost, 0.0)), gain) for _, cost, gain in path)]
        if len(places) == 1:
            continue
        for piece in pieces(places):
            x, y = zip(*piece, strict=True)
            yield Line("", x, y, pen=at, ink=at, value="")
    for at, path in enumerate(shown):
        if path:
            marks = sorted((math.sqrt(max(cost, 0.0)), gain) for _, cost, gain in path)
            x, y = zip(*marks, strict=True)
            yield Line(letters[at], x, y, pen=at, ink=at, joined=False, value=short_number(path[-1][2]))


def pieces(places: Sequence[tuple[float, float]]) -> list[list[tuple[float, float]]]:
    """A path in pieces that go to the right, each with the place where the one before ended."""
    found: list[list[tuple[float, float]]] = []
    right: bool | None = None
    for before, place in pairwise(places):
        onward = place[0] >= before[0]
        if onward is right:
            found[-1].append(place)
        else:
            found.append([before, place])
        right = onward
    return [piece if piece[0][0] <= piece[-1][0] else piece[::-1] for piece in found]


def _stamp(path: Path) -> tuple[float, int] | None:
    try:
        status = RunFolder(path).evaluations.stat()
    except OSError:
        return None
    return status.st_mtime, status.st_size
