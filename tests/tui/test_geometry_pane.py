"""The geometry of one run: the grid, its digits and colours, the snapshots, one matrix."""

import math
from itertools import pairwise

import pytest

from readwrite_edit.runs.geometry_grid import MEASURE_BY_NAME, difference, grid
from readwrite_edit.runs.writer import RunWriter
from readwrite_edit.tui.frame import WorkScreen
from readwrite_edit.tui.geometry import pane as geometry_pane
from readwrite_edit.tui.geometry.layout import first_seen, layout, tick_step
from readwrite_edit.tui.geometry.pane import GeometryPane
from readwrite_edit.tui.geometry.ramp import ABOVE, BELOW, RAMP, cell_style, ground_of, ink_on, luminance
from readwrite_edit.tui.geometry.table import GridTable
from readwrite_edit.tui.run.run_screen import RunScreen
from tests.tui.forms import until
from tests.tui.screens import LARGE, SMALL, drive, notes, says, settle, shown

SEVEN = ("q_proj", "k_proj", "v_proj", "gate_proj", "up_proj", "o_proj", "down_proj")
READ = MEASURE_BY_NAME["read"]


class Alone(WorkScreen):
    """A grid and nothing else."""

    NAME = "run"

    def body(self):
        yield GridTable()


def row(layer, module, fraction, **fields):
    known = {
        "layer": layer, "module": module, "path": f"m.{layer}.{module}", "shape": [64, 48], "rank": 4, "k": 8,
        "read_fraction": fraction, "read_isotropic_null": 0.1, "read_energy_null": 0.5, "norm": 0.25, "price": 0.001,
    }  # fmt: skip
    return known | fields


def write_run(root, *snapshots, kind="align", status="finished", name="run"):
    """A run whose snapshots are given as rows by step."""
    run = RunWriter.start(root / name, recipe_text="a: 1\n", recipe_name="dpo", max_steps=24, kind=kind)
    for step, rows in snapshots:
        run.log_geometry(step, rows)
    run.heartbeat(24)
    if status:
        run.mark(status)
        run.close()
    return run


def wave(layers, modules, level=1.0):
    return [
        row(layer, module, level * (0.5 + 0.45 * math.sin(layer + place)))
        for layer in range(layers)
        for place, module in enumerate(modules)
    ]


def on_geometry(root, steps, size=SMALL, name="run", **options):
    """Carry out steps with the geometry of a run open."""

    async def opened(app, pilot):
        await pilot.press("g")
        await settle(app, pilot)
        return await steps(app, pilot)

    return drive(root, opened, size, screen=lambda: RunScreen(root / name), **options)


async def press(app, pilot, *keys):
    await pilot.press(*keys)
    await settle(app, pilot)


def line_of(app, word):
    return next(line for line in shown(app) if word in line)


def cells(app, module):
    """What the cells of a module print, without the mean."""
    return "".join(line_of(app, f" {module} ").split(f" {module} ")[1].replace("[", " ").replace("]", " ").split()[:-2])


# ---- one snapshot


def test_each_matrix_prints_its_digit_and_the_cursor_s_line_its_figures(tmp_path):
    rows = [row(layer, module, 0.31 if module == "q_proj" else 0.78) for layer in range(3) for module in SEVEN[:2]]
    rows[2] = row(1, "q_proj", 0.052, read_isotropic_p=1e-20, read_isotropic_p_effective=0.03, read_energy_p=1.0)
    write_run(tmp_path, (12, rows))

    async def steps(app, pilot):
        assert cells(app, "q_proj") == "303" and cells(app, "k_proj") == "777"
        assert says(app, "read fraction") and says(app, "digits are tenths: 3 is 0.3 to 0.4")
        assert line_of(app, " q_proj ").split()[-2:] == ["2", "0.224"]
        means = next(line.split() for line in shown(app) if line.split()[:1] == ["mean"])
        assert means == ["mean", "0.545", "0.416", "0.545", "0.502"]
        await press(app, pilot, "right")
        assert says(app, "layer 1 q_proj   64 × 48   rank 4   k 8   norm 0.25")
        assert says(app, "read 0.052 = 0.52 × k/d 0.1 (p 1e-20, at effective n 0.03) = 0.104 × energy null 0.5 (p 1)")
        assert says(app, "step 12 of 24, snapshot 1 of 1, the newest")

    on_geometry(tmp_path, steps, LARGE)


def test_both_nulls_stay_whole_where_they_need_two_lines(tmp_path):
    figures = {"read_isotropic_p": 3.9e-17, "read_isotropic_p_effective": 0.091, "read_energy_p": 0.012}
    write_run(tmp_path, (1, [row(0, "q_proj", 0.17, **figures, read_energy_p_effective=0.35)]))

    async def steps(app, pilot):
        assert says(app, "(p 3.9e-17, at effective n 0.091)") and says(
            app, "energy null 0.5 (p 0.012, at effective n 0.35)"
        )

    on_geometry(tmp_path, steps, SMALL)


def test_quantities_are_those_that_were_measured_and_turn_both_ways(tmp_path):
    write_run(tmp_path, (0, [row(0, "q_proj", None, norm=0.0)]), (4, wave(4, SEVEN[:2])))

    async def steps(app, pilot):
        seen = []
        for _ in range(6):
            title = next(line for line in shown(app) if "digits are" in line).split("  ")[0].strip()
            seen.append(title)
            await press(app, pilot, "v")
        first = ["read fraction", "read fraction ÷ k/d", "read fraction ÷ energy null", "norm", "price"]
        assert seen == [*first, "read fraction"]
        await press(app, pilot, "V", "V")
        assert says(app, "price  ")

    on_geometry(tmp_path, steps, LARGE)


def test_a_probe_begins_with_its_fraction_over_the_null(tmp_path):
    write_run(tmp_path, (0, [row(0, "q_proj", 0.23)]), kind="probe")

    async def steps(app, pilot):
        assert says(app, "read fraction ÷ k/d") and cells(app, "q_proj") == "2" and not says(app, "snapshot")

    on_geometry(tmp_path, steps)


@pytest.mark.parametrize(
    ("kind", "words"), [("align", "No geometry: this run is finished"), ("probe", "its tables are in its report")]
)
def test_a_run_without_geometry_says_so_and_keys_say_why_not(tmp_path, kind, words):
    write_run(tmp_path, kind=kind)

    async def steps(app, pilot):
        assert says(app, words)
        await press(app, pilot, "enter", "comma")
        assert notes(app)[-2:] == ["matrix: there is no snapshot", "earlier: there is no snapshot"]

    on_geometry(tmp_path, steps)


# ---- snapshots of a training


def test_it_stays_at_the_newest_unless_stepped_back(tmp_path):
    run = write_run(tmp_path, (0, [row(0, "q_proj", 0.11)]), (4, [row(0, "q_proj", 0.42)]), status=None)

    async def steps(app, pilot):
        assert says(app, "step 4 of 24, snapshot 2 of 2, the newest") and cells(app, "q_proj") == "4"
        run.log_geometry(8, [row(0, "q_proj", 0.93)])
        app.screen._refresh()
        await settle(app, pilot)
        assert says(app, "step 8 of 24, snapshot 3 of 3, the newest") and cells(app, "q_proj") == "9"
        await press(app, pilot, "comma")
        assert says(app, "step 4 of 24, snapshot 2 of 3, older")
        run.log_geometry(12, [row(0, "q_proj", 0.25)])
        app.screen._refresh()
        await settle(app, pilot)
        assert says(app, "step 4 of 24, snapshot 2 of 4, older") and cells(app, "q_proj") == "4"
        await press(app, pilot, "full_stop", "full_stop", "full_stop")
        assert says(app, "step 12 of 24, snapshot 4 of 4, the newest")
        assert notes(app)[-1] == "later: this is the newest snapshot"
        run.log_geometry(16, [row(0, "q_proj", 0.35)])
        app.screen._refresh()
        await settle(app, pilot)
        assert says(app, "step 16 of 24, snapshot 5 of 5, the newest")
        await press(app, pilot, *["comma"] * 5)
        assert notes(app)[-1] == "earlier: this is the first snapshot"

    on_geometry(tmp_path, steps)
    run.close()


def test_the_training_plays_on_one_scale_and_ends_at_the_newest(tmp_path, monkeypatch):
    monkeypatch.setattr(geometry_pane, "_FRAME_S", 0.01)
    write_run(tmp_path, *((step, [row(0, "q_proj", 0.5, norm=step / 8)]) for step in range(1, 9)))

    seen, draw = [], GeometryPane._draw

    def seen_draw(pane):
        draw(pane)
        table, step = pane.query_one(GridTable), pane._shown_step
        seen.append((bool(pane._playing), step, None if step is None else table.scale.text(step / 8)))

    monkeypatch.setattr(GeometryPane, "_draw", seen_draw)

    async def steps(app, pilot):
        await press(app, pilot, "v", "v", "v")
        pane = app.screen.query_one(GeometryPane)
        assert says(app, "norm  ") and cells(app, "q_proj") == "9"
        seen.clear()
        await press(app, pilot, "a")
        await until(app, pilot, lambda: not pane._playing)
        await pilot.pause()
        assert says(app, "snapshot 8 of 8, the newest")
        film = [(step, text) for playing, step, text in seen if playing]
        assert film == [(step, str(step * 10 // 8)) for step in range(1, 8)]

    on_geometry(tmp_path, steps)


def test_a_key_halts_the_film(tmp_path):
    write_run(tmp_path, *((step, [row(0, "q_proj", 0.5)]) for step in range(5)))

    async def steps(app, pilot):
        await press(app, pilot, "a")
        assert says(app, "snapshot 1 of 5, playing")
        await press(app, pilot, "a")
        assert says(app, "snapshot 1 of 5, older") and app.screen.query_one(GeometryPane)._playing is None

    on_geometry(tmp_path, steps)


# ---- sizes


@pytest.mark.parametrize("size", [SMALL, LARGE])
@pytest.mark.parametrize("layers", [12, 80])
def test_every_layer_is_reached_at_every_size(tmp_path, size, layers):
    write_run(tmp_path, (24, wave(layers, SEVEN)))

    async def steps(app, pilot):
        assert all(any(f" {module} " in line for line in shown(app)) for module in SEVEN)
        assert says(app, "≥0.9") and says(app, " mean ") and says(app, "layer 0 q_proj")
        rows = wave(layers, SEVEN)
        table, seen = app.screen.query_one(GridTable), {}
        for _ in range(4):
            first = table._first_column
            digits = cells(app, "q_proj")
            seen |= {first + place: digit for place, digit in enumerate(digits)}
            await press(app, pilot, "pagedown")
        wanted = {line["layer"]: str(int(line["read_fraction"] * 10)) for line in rows if line["module"] == "q_proj"}
        assert seen == wanted
        await press(app, pilot, "end", *["down"] * 6)
        assert says(app, f"layer {layers - 1} down_proj") and (
            says(app, f"▾{layers - 1}") or says(app, f"{layers - 1}▾")
        )
        if size == LARGE:
            assert len(cells(app, "q_proj")) == layers  # the whole model at once

    on_geometry(tmp_path, steps, size)


def test_cells_are_as_large_as_there_is_room_for_and_the_better_way_round():
    wide = layout(range(30), SEVEN[:2], 118, 22, signed=False)
    assert (wide.across, wide.cell_width, wide.cell_height, wide.profile > 2) == (True, 3, 4, True)
    deep = layout(range(80), SEVEN, 118, 18, signed=False)
    assert (deep.across, deep.seen_columns, deep.cell_width) == (True, 80, 1)
    few = layout(range(40), ["a", "b"], 40, 60, signed=False)
    assert (few.across, few.seen_rows, few.seen_columns) == (False, 40, 2)
    assert layout(range(80), SEVEN, 78, 10, signed=True).cell_width == 2
    for width in range(1, 60, 7):
        for height in range(1, 20, 3):
            small = layout(range(30), SEVEN, width, height, signed=True)
            assert small.seen_columns >= 1 <= small.seen_rows


def test_the_cursor_stays_in_sight_and_labels_apart():
    assert [first_seen(cursor, 0, 10, 80) for cursor in (0, 9, 10, 79)] == [0, 0, 1, 70]
    assert first_seen(5, 20, 10, 80) == 5 and first_seen(3, 0, 10, 4) == 0
    assert [tick_step(80, width, 2) for width in (1, 2, 3)] == [5, 2, 1]


def test_layers_run_down_where_more_is_seen_so(tmp_path):
    shown_grid = grid([line | {"step": 1} for line in wave(40, ("a", "b"))])

    async def steps(app, pilot):
        app.screen.query_one(GridTable).draw(shown_grid, READ)
        await press(app, pilot, "down", "down", "right")
        lines = shown(app)[1:]
        assert lines[0].split()[:3] == ["layer", "a", "▾b"]
        assert lines[3].split()[:3] == ["▸", "2", str(int(shown_grid.value(2, "a", READ) * 10))]
        assert lines[41].split()[0] == "mean"

    drive(tmp_path, steps, (60, 60), screen=Alone)


# ---- without colour


@pytest.mark.parametrize("layers", [4, 80])
def test_no_state_rests_on_colour(tmp_path, monkeypatch, layers):
    """The text alone tells digits, the cursor, missing figures, means, snapshots and the scale."""
    monkeypatch.setenv("NO_COLOR", "1")
    write_run(tmp_path, (4, wave(layers, SEVEN[:3], 0.8)), (8, [*wave(layers, SEVEN[:3]), row(0, "o_proj", None)]))

    async def steps(app, pilot):
        assert app.no_color
        colours = {
            part.style.bgcolor.triplet
            for strip in app.screen._compositor.render_strips()
            for part in app._filters[-1].apply(list(strip), app.screen.styles.background)
            if part.style and part.style.bgcolor
        }
        assert all(len({*colour}) == 1 for colour in colours)  # greys
        states = ["\n".join(shown(app))]
        for key in ("right", "down", "v", "comma"):
            await press(app, pilot, key)
            states.append("\n".join(shown(app)))
        assert len(set(states)) == len(states)
        marks = states[1].count("▾"), states[1].count("▸ q_proj")
        assert marks[0] == 1 and "▾1" in states[1] and "▸ k_proj" in " ".join(states[2].split())
        assert "·" in states[0] and ("[" in states[1] or layers == 80)

    on_geometry(tmp_path, steps)


def test_a_difference_prints_its_sign(tmp_path):
    first, second = (grid([{"step": 1, **line} for line in wave(5, SEVEN[:2], level)]) for level in (1.0, 0.5))

    async def steps(app, pilot):
        app.screen.query_one(GridTable).draw(difference(first, second), READ)
        await pilot.pause()
        body = line_of(app, "q_proj")
        assert body.count("−") >= 5 and "+" not in body and "[−" in body

    drive(tmp_path, steps, screen=Alone)


def contrast(first, second):
    low, high = sorted(map(luminance, (first, second)))
    return (high + 0.05) / (low + 0.05)


def test_ink_is_read_on_every_ground():
    for ground in (*RAMP, *BELOW, *ABOVE):
        assert contrast(ground, ink_on(ground)) >= 4.5
    style = cell_style(0.5, diverging=False)
    assert style.bgcolor.name == ground_of(0.5, diverging=False)


def oklab(colour):
    red, green, blue = (
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4
        for part in (int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5))
    )
    long = (0.4122214708 * red + 0.5363325363 * green + 0.0514459929 * blue) ** (1 / 3)
    middle = (0.2119034982 * red + 0.6806995451 * green + 0.1073969566 * blue) ** (1 / 3)
    short = (0.0883024619 * red + 0.2817188376 * green + 0.6299787005 * blue) ** (1 / 3)
    return (
        0.2104542553 * long + 0.7936177850 * middle - 0.0040720468 * short,
        1.9779984951 * long - 2.4285922050 * middle + 0.4505937099 * short,
        0.0259040371 * long + 0.7827717662 * middle - 0.8086757660 * short,
    )


@pytest.mark.parametrize("ramp", [RAMP, BELOW, ABOVE])
def test_steps_of_a_ramp_are_even_and_rise_in_lightness(ramp):
    places = [oklab(colour) for colour in ramp]
    steps = [math.dist(first, second) for first, second in pairwise(places)]
    assert max(steps) < 1.15 * min(steps)
    assert all(second[0] > first[0] for first, second in pairwise(places))


def test_the_arms_lie_apart_for_the_colour_blind():
    """Blue against orange: they differ in b of Oklab, which the red and green blind see."""
    assert all(oklab(low)[2] < -0.02 and oklab(high)[2] > 0.02 for low, high in zip(BELOW[2:], ABOVE[2:], strict=True))


# ---- hostile content


def test_text_from_the_file_is_data(tmp_path):
    names = ["[red]q[/red]", "\x1b[31mk\x1b]0;x\x07", "z" * 300, "名前" * 30, ""]
    rows = [row(layer, name, 0.5, path="\x1b[2J", norm=[1], shape="x") for layer in (0, 1 << 52) for name in names]
    write_run(tmp_path, (1, rows))
    path = tmp_path / "run" / "geometry.jsonl"
    path.write_bytes(b'garbage\n{"layer": 1e400}\n' + path.read_bytes() + b"x" * 3_000_000 + b"\n[1]\n")

    async def steps(app, pilot):
        assert "\x1b" not in "".join(shown(app)) and says(app, "[red]q[/red]")
        for key in ("down", "right", "end", "v", "enter"):
            await press(app, pilot, key)
            assert "\x1b" not in "".join(shown(app))

    on_geometry(tmp_path, steps)


def test_a_click_moves_the_cursor(tmp_path):
    write_run(tmp_path, (1, wave(6, SEVEN[:2])))

    async def steps(app, pilot):
        table = app.screen.query_one(GridTable)
        shape = table._layout()
        at = shape.left + 4 * shape.cell_width + 1, shape.top + shape.cell_height
        await pilot.click(GridTable, offset=(at[0] + 1, at[1]))
        await settle(app, pilot)
        assert table.place == (4, "k_proj")

    on_geometry(tmp_path, steps)
