"""Grids, digits and snapshots of a run's geometry."""

import random
import tracemalloc
from itertools import pairwise

import pytest

from readwrite_edit.runs import geometry_snapshots
from readwrite_edit.runs.geometry_grid import MEASURE_BY_NAME, MEASURES, difference, grid
from readwrite_edit.runs.geometry_scale import scale_for, scale_of
from readwrite_edit.runs.geometry_snapshots import FIELDS, Snapshots
from readwrite_edit.runs.records import current, geometry_key

READ, RATIO, NORM = (MEASURE_BY_NAME[name] for name in ("read", "read-isotropic", "norm"))


def line(step, layer=0, module="q_proj", *, segment=0, path=None, **fields):
    path = path or f"m.{layer}.{module}"
    return {"step": step, "segment": segment, "layer": layer, "module": module, "path": path, **fields}


def test_grid_orders_layers_and_modules_and_marks_what_is_missing():
    places = ((10, "o_proj"), (2, "k_proj"), (2, "zz"), (10, "q_proj"))
    rows = [line(4, layer, module) for layer, module in places]
    rows[1]["read_fraction"] = 0.31
    made = grid(rows)
    assert (made.step, made.layers, made.modules) == (4, (2, 10), ("q_proj", "k_proj", "o_proj", "zz"))
    assert [made.value(*place, READ) for place in ((2, "k_proj"), (10, "k_proj"), (10, "o_proj"))] == [0.31, None, None]
    assert made.measured() == (READ,) and not made.signed


def test_a_ratio_needs_a_null_above_zero_and_the_first_of_several_records_counts():
    record = line(4, read_fraction=0.06, read_isotropic_null=0.025)
    rows = [record, record | {"read_fraction": 0.5}, line(4, 1, read_fraction=0.06, read_isotropic_null=0.0)]
    rows += [line(4, 2, read_fraction=1e300, read_isotropic_null=1e-300), line(4, 3, read_fraction=True, norm="x")]
    made = grid(rows)
    assert made.value(0, "q_proj", RATIO) == pytest.approx(2.4)
    assert [made.value(layer, "q_proj", RATIO) for layer in (1, 2, 3)] == [None, None, None]
    assert made.value(3, "q_proj", READ) is None


def test_means_leave_out_what_is_missing():
    rows = [line(1, 0, read_fraction=0.2), line(1, 1, read_fraction=0.4), line(1, 0, "k_proj", read_fraction=0.9)]
    made = grid([*rows, line(1, 1, "k_proj")])
    assert made.module_mean("q_proj", READ) == pytest.approx(0.3) and made.layer_mean(1, READ) == pytest.approx(0.4)
    assert made.mean(READ) == pytest.approx(0.5) and made.layer_mean(0, NORM) is None


def test_a_difference_has_the_second_s_more_and_needs_both():
    first = grid([line(1, 0, read_fraction=0.5), line(1, 1, read_fraction=0.5)])
    second = grid([line(9, 0, read_fraction=0.2), line(9, 0, "k_proj", read_fraction=0.7)])
    change = difference(first, second)
    assert change.signed and (change.layers, change.modules) == ((0, 1), ("q_proj", "k_proj"))
    assert change.value(0, "q_proj", READ) == pytest.approx(-0.3)
    assert change.value(1, "q_proj", READ) is None is change.value(0, "k_proj", READ)
    scale = scale_of(change, READ)
    assert [scale.text(value) for value in (-0.3, -0.001, 0.0, 0.16, None)] == ["−9", "−0", "0", "+5", "·"]


@pytest.mark.parametrize(
    ("values", "measure", "shown"),
    [
        ([0.0, 0.099, 0.1, 0.3, 0.95, 1.0], READ, "001399"),
        ([0.0, 0.01, 0.035, 0.0799], READ, "0137"),
        ([0.01, 0.09], READ, "00"),
        ([0.5, 0.99, 1.0, 1.19, 1.99], RATIO, "24559"),
        ([0.5, 1.0, 2.4, 9.9], RATIO, "0129"),
        ([0.5, 1.0, 2.4, 7.9, 16.0, 300.0], RATIO, "012359"),
        ([0.0, 0.31, 0.5, 1.0], NORM, "0359"),
        ([1.0, 0.4, 0.01, 0.02, 0.03, 1e-9], NORM, "983440"),
        ([0.0, 0.0], NORM, "00"),
        ([], NORM, ""),
    ],
)
def test_digits_follow_what_is_measured(values, measure, shown):
    scale = scale_for(values, measure)
    assert "".join(scale.text(value) for value in values) == shown
    assert [word for word, _ in scale.legend()] == list("0123456789")
    assert all(first < second for first, second in pairwise(scale.edges))


def test_tones_rise_with_digits_and_change_sign_at_the_null():
    for values in ([0.5, 1.5], [0.5, 5.0], [0.5, 50.0]):
        scale = scale_for(values, RATIO)
        tones = [scale.tone(value) for _, value in scale.legend()]
        assert tones == sorted(tones) and -1 <= tones[0] < 0 < tones[-1] <= 1
        assert all((scale.tone(value) < 0) == (value < 1) for _, value in scale.legend())
    signed = scale_for([0.2], READ, signed=True)
    assert [signed.tone(value) for value in (-0.2, 0.0, 0.2)] == [-0.95, 0.0, 0.95]


# ---- snapshots


def test_snapshots_give_back_what_was_put_in():
    rows = [
        line(0, layer, module, shape=[64, 32], rank=4, k=8, norm=0.0, read_fraction=None)
        for layer in range(3)
        for module in ("q_proj", "k_proj")
    ]
    later = [row | {"step": 2, "norm": 0.25, "read_fraction": row["layer"] / 10} for row in rows]
    snapshots = Snapshots()
    snapshots.add(rows)
    snapshots.add(later[:4])  # a snapshot that was caught half-written
    snapshots.add(later[4:])
    assert snapshots.steps == (0, 2) and snapshots.newest == 2
    record = snapshots.at(2).records[2, "k_proj"]
    kept = {"d_out": 64, "d_in": 32, "rank": 4, "k": 8, "norm": 0.25, "read_fraction": 0.2, "path": "m.2.k_proj"}
    assert record.items() >= kept.items() and isinstance(record["k"], int)
    assert snapshots.series(1, "q_proj", READ) == [(0, None), (2, 0.1)]
    assert snapshots.at(0).value(2, "k_proj", NORM) == 0.0 and snapshots.at(7).layers == ()
    snapshots.clear()
    assert snapshots.steps == () and snapshots.newest is None


def resumed(seed):
    """Lines of several segments in the order of a file, and where each segment says that it began."""
    chance = random.Random(seed)
    lines, starts, step = [], [], 0
    for segment in range(chance.randint(1, 4)):
        start = max(0, step - chance.randint(0, 3)) if segment else 0
        starts.append(chance.choice([start, None]))
        step = start
        for _ in range(chance.randint(0, 5)):
            modules = chance.sample(["q_proj", "k_proj", "v_proj"], chance.randint(1, 3))
            paths = [chance.choice("ab") for _ in modules]
            lines += [
                line(step, 0, module, segment=segment, norm=chance.random(), path=path)
                for module, path in zip([*modules, *modules], [*paths, *reversed(paths)], strict=True)
            ]
            step += 1
    return lines, starts


@pytest.mark.parametrize("seed", range(40))
def test_snapshots_leave_out_what_a_resume_superseded(seed):
    lines, starts = resumed(seed)
    expected = current(lines, starts, geometry_key)
    snapshots = Snapshots()
    for place in range(0, len(lines), 3):
        snapshots.add(lines[place : place + 3])
    snapshots.begin(starts)
    assert snapshots.steps == tuple(sorted({record["step"] for record in expected}))
    for step in snapshots.steps:
        wanted = grid([record for record in expected if record["step"] == step]).records
        found = snapshots.at(step).records
        assert {place: record["norm"] for place, record in found.items()} == {
            place: record["norm"] for place, record in wanted.items()
        }


def test_lines_that_are_none_are_left_out():
    snapshots = Snapshots()
    snapshots.add([{}, {"step": 1}, line(1, -1), line(True), line(1, shape="x", norm=[1], k=1e400, read_fraction={})])
    assert snapshots.steps == (1,)
    assert not any(name in snapshots.at(1).records[0, "q_proj"] for name in FIELDS)


def deep(step, layers=80):
    """One snapshot of a deep model."""
    chance = random.Random(step)
    modules = ("q_proj", "k_proj", "v_proj", "gate_proj", "up_proj", "o_proj", "down_proj")
    varying = ("read_fraction", "write_fraction", "norm", "relative_norm", "price", "output_energy")
    return [
        line(
            step, layer, module, shape=[4096, 4096], rank=16, k=16, read_isotropic_null=0.004, captured_energy=0.5,
            **{name: chance.random() for name in varying},
        )
        for layer in range(layers)
        for module in modules
    ]  # fmt: skip


def test_snapshots_of_a_deep_model_cost_little_and_what_repeats_is_kept_once():
    snapshots = Snapshots()
    tracemalloc.start()
    for step in range(20):
        snapshots.add(deep(step))
    used, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert used / 20 * 500 < 60e6
    assert len({id(snapshot.columns["captured_energy"]) for snapshot in snapshots._kept.values()}) == 1


def test_a_long_training_is_thinned_evenly_and_keeps_the_newest(monkeypatch):
    monkeypatch.setattr(geometry_snapshots, "MOST_CELLS", 64 * 20)
    snapshots = Snapshots()
    for step in range(301):
        snapshots.add([line(step, norm=float(step))])
        assert snapshots.newest == step and len(snapshots._kept) <= 21
    steps = snapshots.steps
    assert steps[0] == 0 and len({b - a for a, b in pairwise(steps[:-1])}) == 1
    assert snapshots.left_out == 301 - len(steps)
    assert snapshots.at(steps[-2]).value(0, "q_proj", NORM) == steps[-2]


def test_hostile_lines_are_bounded(monkeypatch):
    monkeypatch.setattr(geometry_snapshots, "_MOST_MATRICES", 50)
    snapshots = Snapshots()
    snapshots.add(line(1, layer, "x" * 10_000 + str(layer)) for layer in range(500))
    assert len(snapshots.at(1).records) == 50 and len(snapshots.at(1).modules[0]) == 200


def test_every_measure_has_a_name_of_its_own():
    assert len(MEASURE_BY_NAME) == len(MEASURES)
