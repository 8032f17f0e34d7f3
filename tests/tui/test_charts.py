"""Charts: what stands where, and what survives any numbers."""

import asyncio
import math
import random

import pytest
from rich.cells import cell_len
from textual.app import App

from readwrite_edit.tui.charts.braille import PENS, Canvas
from readwrite_edit.tui.charts.chart import Chart
from readwrite_edit.tui.charts.parts import Inks, Line, View
from readwrite_edit.tui.charts.plotting import plot
from readwrite_edit.tui.charts.scales import log_ticks, neat_ticks, short_number, tick_texts, whole_ticks

STEPS = list(range(1, 41))
FALLING = [1.0 - 0.02 * step for step in STEPS]


def drawn(lines, width=60, height=10, title="loss", **view):
    """The rows of a chart as text."""
    rows = plot(lines, title, View(**view), width, height, Inks())
    return ["".join(text for text, _ in row) for row in rows]


def braille(rows):
    return [[place for place, char in enumerate(row) if "⠀" < char <= "⣿"] for row in rows]


def test_a_chart_has_title_value_ticks_and_the_name_at_the_end_of_its_line():
    rows = drawn([Line("train", STEPS, FALLING)])
    assert rows[0].startswith("loss ") and rows[0].endswith("── 0.2")
    assert len(rows) == 10 and all(cell_len(row) <= 60 for row in rows)
    ticks = [row.partition("┤")[0].strip() for row in rows if "┤" in row]
    assert "0.5" in ticks and ticks == sorted(ticks, key=float, reverse=True)
    assert rows[8].rstrip().endswith("train")
    assert rows[-1].split() == ["10", "20", "30", "40"]


def test_names_never_share_a_row_and_stand_near_the_ends_of_their_lines():
    lines = [Line(name, STEPS, [level] * 40, pen=pen) for pen, (name, level) in enumerate((("a", 1.0), ("b", 1.0)))]
    rows = drawn([*lines, Line("low", STEPS, [0.0] * 40)])
    ends = {row.rstrip()[-1]: number for number, row in enumerate(rows[1:-1]) if row.rstrip()[-1].isalpha()}
    assert set(ends) == {"a", "b", "w"} and {ends["a"], ends["b"]} == {0, 1} and ends["w"] == 7


def test_pens_differ_without_colour():
    looks = {tuple(drawn([Line("", STEPS, FALLING, pen=pen, value="")])) for pen in range(len(PENS))}
    assert len(looks) == len(PENS) == 4


def test_a_value_that_is_not_finite_breaks_the_line():
    values = [math.nan if 15 < step < 25 else 1.0 for step in STEPS]
    columns = {place for row in braille(drawn([Line("", STEPS, values)])) for place in row}
    gap = max(b - a for a, b in zip(sorted(columns), sorted(columns)[1:], strict=False))
    assert gap > 10 and min(columns) < 10 and max(columns) > 55


def test_a_lone_point_and_points_without_a_line_are_marked():
    assert "●" in "".join(drawn([Line("", [3], [0.5])])[1:])
    rows = drawn([Line("", [1, 2, 3], [1, 2, 3], joined=False, pen=1)])
    assert sum(row.count("◆") for row in rows[1:]) == 3 and not any(braille(rows))


def test_a_resume_is_an_upright_with_a_sign_below_and_the_cursor_another():
    rows = drawn([Line("", STEPS, FALLING, segment_starts=[17])], cursor=30)
    column = rows[-1].index("↻")
    assert sum(row[column] == "┆" for row in rows[1:-1]) >= 6
    assert any(row[cut] == "│" for row in rows[1:-1] for cut in range(30, len(row)))
    assert "┆" not in "".join(drawn([Line("", STEPS, FALLING)]))


def test_faint_values_lie_behind_and_have_no_legend():
    noisy = [value + 0.2 * (-1) ** step for step, value in zip(STEPS, FALLING, strict=True)]
    rows = plot([Line("", STEPS, noisy, faint=True), Line("", STEPS, FALLING)], "loss", View(), 60, 10, Inks())
    assert "".join(text for text, _ in rows[0]).count("──") == 1
    canvas = Canvas(4, 1)
    canvas.line([(0, 0), (7, 0)], owner=1, rank=0)
    canvas.line([(0, 3), (7, 3)], owner=2, rank=1)
    canvas.line([(0, 1), (7, 1)], owner=1, rank=0)
    assert canvas.row(0) == ("⣀⣀⣀⣀", bytearray([2, 2, 2, 2]))


def test_only_the_steps_asked_for_are_drawn_and_the_rest_does_not_stretch_the_axis():
    values = [100.0 if step == 1 else 1.0 + step / 40 for step in STEPS]
    rows = drawn([Line("", STEPS, values)], x_range=(20, 40))
    ticks = [float(row.partition("┤")[0]) for row in rows if "┤" in row]
    assert max(ticks) <= 2.0 and rows[-1].split()[-1] == "40" and braille(rows)[1]


def test_a_logarithmic_axis_leaves_out_what_is_not_above_zero():
    rows = drawn([Line("", [1, 2, 3, 4], [1e-4, 0.0, -1.0, 1e4])], log=True)
    assert [row.partition("┤")[0].strip() for row in rows if "┤" in row] == ["1e3", "1e0", "1e-3"]
    assert drawn([Line("", [1, 2], [0.0, -1.0])], log=True)[1] == "no values"


@pytest.mark.parametrize("values", [[], [math.nan] * 40, [math.inf] * 40])
def test_nothing_to_draw_is_said(values):
    assert drawn([Line("", STEPS[: len(values)], values)])[1] == "no values"


@pytest.mark.parametrize("size", [(1, 1), (15, 8), (40, 3), (16, 4), (300, 80)])
@pytest.mark.parametrize(
    "values", [[0.0], [5e-324, 1e-320], [1e308, -1e308], [7.0] * 40, [1e300, math.nan, -1e-300], [0.1, 0.1 + 1e-17]]
)
def test_no_size_and_no_numbers_break_a_chart(size, values):
    for log in (False, True):
        line = Line("a long name 漢字漢字漢字", [2.0**53 * place for place in range(len(values))], values)
        rows = drawn([line, line], *size, log=log)
        assert len(rows) <= max(1, size[1]) and all(cell_len(row) <= size[0] for row in rows)


def test_random_curves_stay_inside_and_keep_their_extremes():
    chance = random.Random(0)
    for _ in range(20):
        values = [chance.gauss(0, 1) for _ in range(chance.randrange(2, 3000))]
        values[len(values) // 2] = 50.0
        rows = drawn([Line("x", range(len(values)), values)], 50, 9)
        assert all(cell_len(row) <= 50 for row in rows)
        assert braille(rows)[1], "the row of the greatest value is empty"


@pytest.mark.parametrize("low, high", [(0, 1), (-3.7, 12.2), (0.693, 0.694), (1e-9, 3e-9), (5e5, 2e7)])
def test_ticks_are_round_few_inside_and_told_apart(low, high):
    for most in range(1, 9):
        ticks = neat_ticks(low, high, most)
        assert len(ticks) <= most and all(low - 1e-6 * (high - low) <= tick <= high * (1 + 1e-9) for tick in ticks)
        assert len(set(tick_texts(ticks))) == len(ticks)


def test_ticks_of_steps_are_whole_and_of_decades_powers():
    assert whole_ticks(0, 3, 8) == [0, 1, 2, 3]
    assert log_ticks(-4, 4, 3) == [-3, 0, 3]
    assert tick_texts([0, 20_000, 40_000]) == ["0", "20k", "40k"]
    assert [short_number(value) for value in (0.693147, 1e-7, 123456789.0, math.nan, 0.0)] == [
        "0.6931", "1.00e-7", "1.23e8", "nan", "0",
    ]  # fmt: skip


def test_the_widget_draws_anew_for_other_lines_sizes_and_themes():
    class Host(App):
        def compose(self):
            yield Chart()

    async def session():
        app = Host()
        async with app.run_test(size=(60, 10)) as pilot:
            chart = app.query_one(Chart)
            chart.draw([Line("train", STEPS, FALLING)], title="loss", y="nats")
            await pilot.pause()
            first = chart.render_line(0)
            assert first.text.startswith("loss nats") and first.cell_length == 60
            colours = {segment.style.color.name for segment in chart.render_line(5) if segment.style.color}
            app.theme = "textual-light"
            await pilot.pause()
            assert {segment.style.color.name for segment in chart.render_line(5) if segment.style.color} != colours
            chart.draw([], title="other")
            await pilot.pause()
            assert chart.render_line(0).text.startswith("other") and "no values" in chart.render_line(1).text

    asyncio.run(session())
