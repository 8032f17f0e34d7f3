"""Series, the rule of resumed runs, and reading a run piece by piece."""

import json
import math
import random
import time
from itertools import pairwise

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from readwrite_edit.runs.records import current, is_metric, metric_key
from readwrite_edit.runs.writer import RunWriter
from readwrite_edit.tui.run import feed as feed_module
from readwrite_edit.tui.run import metric_store
from readwrite_edit.tui.run.feed import RunFeed
from readwrite_edit.tui.run.metric_store import MetricStore
from readwrite_edit.tui.run.series import Series, Smoothed, thinned
from tests.tui.screens import geometry_rows, make_run


def series_of(values, segments=None):
    made = Series()
    for step, value in enumerate(values):
        made.append(step, value, segments[step] if segments else 0)
    return made


def points(series):
    return list(zip(series.steps[: series.count], series.values[: series.count], strict=True))


def read_all(feed):
    reading = feed.read()
    while reading.more:
        reading = feed.read()
    return reading


# ---- Series


@pytest.mark.parametrize("spike_at", [0, 17, 4095, 50_000, 99_998, 99_999])
def test_a_drawn_curve_keeps_every_extreme_of_a_hundred_thousand_values(spike_at):
    values = [math.sin(place / 500) for place in range(100_000)]
    values[spike_at] = 9.0
    values[(spike_at + 30_000) % 100_000] = -9.0
    steps, drawn = series_of(values).drawn(0, 99_999, 160)
    assert len(steps) <= 2 * 160 and (max(drawn), min(drawn)) == (9.0, -9.0)
    assert list(steps) == sorted(steps)
    assert abs(steps[list(drawn).index(9.0)] - spike_at) <= 2 * 100_000 / 160


def test_few_values_are_drawn_as_they_are_with_a_neighbour_on_either_side():
    made = series_of([float(place) for place in range(100)])
    assert list(made.drawn(40, 44, 100)[0]) == [39, 40, 41, 42, 43, 44, 45]
    assert len(made.drawn(0, 99, 100)[0]) == 100


def test_a_stretch_of_values_that_are_not_finite_stays_a_gap():
    values = [math.nan if 4000 <= place < 6000 else 1.0 for place in range(10_000)]
    steps, drawn = series_of(values).drawn(0, 9999, 50)
    lost = [step for step, value in zip(steps, drawn, strict=True) if math.isnan(value)]
    assert lost and min(lost) >= 3900 and max(lost) <= 6100


def test_smoothing_is_the_debiased_exponential_mean_and_grows_with_its_series():
    values = [3.0, 1.0, math.nan, 4.0, 1.0, 5.0]
    raw = Series()
    smoothed = Smoothed(raw, 0.9)
    for step, value in enumerate(values):
        raw.append(step, value)
        smoothed.extend()
    finite = [value for value in values if not math.isnan(value)]
    weights = [0.9**age for age in reversed(range(len(finite)))]
    expected = sum(w * v for w, v in zip(weights, finite, strict=True)) / sum(weights)
    assert smoothed.series.values[5] == pytest.approx(expected)
    assert smoothed.series.values[0] == 3.0 and math.isnan(smoothed.series.values[2])
    assert Smoothed(raw, 0.9).extend().values[5] == smoothed.series.values[5]


def test_a_series_says_where_its_segments_start_and_what_stands_at_a_step():
    made = series_of([0.0] * 10, [0, 0, 0, 1, 1, 1, 1, 4, 4, 4])
    assert made.segment_starts == [3, 7]
    assert (made.index_at(-1), made.index_at(0), made.index_at(2.5), made.index_at(99)) == (None, 0, 2, 9)


def test_thinning_halves_a_series_and_keeps_its_extremes():
    chance = random.Random(1)
    values = [chance.gauss(0, 1) for _ in range(4001)]
    half = thinned(series_of(values))
    assert half.count <= 2001 and list(half.steps) == sorted(half.steps)
    assert (max(half.values), min(half.values)) == (max(values), min(values))


def test_a_series_has_a_bound_however_long_the_run(monkeypatch):
    monkeypatch.setattr(metric_store, "MOST_VALUES", 1000)
    store = MetricStore()
    store.add({"step": step, "segment": 0, "kind": "train", "values": {"loss": step % 97}} for step in range(10_000))
    loss = store.series["train", "loss"]
    assert loss.count <= 1000 and (loss.steps[0], loss.last[0]) == (0, 9999)
    assert (max(loss.values), min(loss.values)) == (96, 0)


def test_names_have_a_bound_and_what_is_no_number_is_no_curve():
    store = MetricStore()
    store.add(
        {"step": 1, "segment": 0, "kind": "train", "values": {f"n{number}": 1.0, "text": "x", "flag": True, "deep": {}}}
        for number in range(metric_store.MOST_NAMES + 5)
    )
    assert len(store.series) == metric_store.MOST_NAMES and store.left_out == 5


# ---- the rule of resumed runs


RECORD = st.fixed_dictionaries(
    {"step": st.integers(0, 8), "segment": st.integers(0, 3), "kind": st.sampled_from(["train", "eval", "alarm"])}
)


AGAIN = [{"step": 5, "segment": segment, "kind": "train"} for segment in (0, 1)]


@example(records=AGAIN, starts=[0, 5], cuts=[], ordered=True)
@example(records=AGAIN, starts=[0, 5], cuts=[1], ordered=True)
@example(records=AGAIN[::-1], starts=[], cuts=[1], ordered=False)
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    records=st.lists(RECORD, max_size=25),
    starts=st.lists(st.none() | st.integers(0, 8), max_size=4),
    cuts=st.lists(st.integers(0, 25), max_size=3),
    ordered=st.booleans(),
)
def test_series_hold_what_the_rule_of_runs_holds(records, starts, cuts, ordered):
    """However the lines fall into pieces, what is kept is what ``runs.records.current`` keeps of all of them."""
    if ordered:
        records = sorted(records, key=lambda record: (record["segment"], record["step"]))
    lines = [record | {"values": {"x": float(place)}, "message": str(place)} for place, record in enumerate(records)]
    store = MetricStore()
    store.begin(starts)
    edges = [0, *sorted(cuts), len(lines)]
    for first, last in pairwise(edges):
        store.add(lines[first:last])
    kept = current(filter(is_metric, lines), starts, metric_key)
    for kind in ("train", "eval"):
        found = store.series.get((kind, "x"), Series())
        expected = [(record["step"], record["values"]["x"]) for record in kept if record["kind"] == kind]
        assert sorted(points(found)) == sorted(expected)
        assert list(found.steps) == sorted(found.steps)
    assert store.alarms == [record["message"] for record in kept if record["kind"] == "alarm"]


# ---- a run folder


def test_a_run_is_read_as_it_grows_and_only_what_is_new_makes_another_version(tmp_path):
    run = make_run(tmp_path, "run", status=None)
    feed = RunFeed(tmp_path / "run")
    first = feed.read()
    assert first.latest["train", "loss"] == (12, 0.625)
    assert math.isnan(first.latest["train", "rewards/margins"][1])
    assert first.snapshots.newest == 12 and feed.read().version == first.version
    run.log_metrics(13, {"loss": 0.5, "kl": 1.0})
    run.log_metrics(13, {}, kind="alarm", message="it went up")
    later = feed.read()
    assert later.version > first.version and later.alarms == ["it went up"]
    assert points(later.series["train", "loss"]) == [(11, 0.69), (12, 0.625), (13, 0.5)]
    assert later.series["train", "loss"] is first.series["train", "loss"]
    run.close()


def test_a_run_that_is_resumed_while_open_loses_what_was_superseded(tmp_path):
    make_run(tmp_path, "run", status="stopped")
    feed = RunFeed(tmp_path / "run")
    feed.read()
    with RunWriter.resume(tmp_path / "run") as run:
        run.rewind(11)
        reading = feed.read()
        assert points(reading.series["train", "loss"]) == [(11, 0.69)] and reading.snapshots.newest is None
        run.log_metrics(12, {"loss": 0.1})
        run.log_geometry(12, geometry_rows(2, 0.9))
        reading = feed.read()
    loss = reading.series["train", "loss"]
    assert points(loss) == [(11, 0.69), (12, 0.1)] and loss.segment_starts == [12]
    assert reading.snapshots.newest == 12


def test_a_start_that_is_said_late_makes_all_lines_be_read_again(tmp_path):
    make_run(tmp_path, "run", status="stopped")
    state = tmp_path / "run" / "state.json"
    with RunWriter.resume(tmp_path / "run") as run:
        run.log_metrics(11, {"other": 1.0})
    known = json.loads(state.read_text())
    feed = RunFeed(tmp_path / "run")
    assert ("train", "loss") not in feed.read().latest  # by its first line, the segment went on from step 10
    state.write_text(json.dumps(known | {"segment_starts": [0, 12]}))
    assert read_all(feed).latest["train", "loss"] == (12, 0.625)


def test_a_replaced_an_emptied_and_a_deleted_file(tmp_path):
    path = tmp_path / "run"
    make_run(tmp_path, "run")
    feed = RunFeed(path)
    feed.read()
    line = {"step": 1, "segment": 0, "kind": "train", "values": {"loss": 7.0}}
    (path / "new").write_text(json.dumps(line) + "\n")
    (path / "new").rename(path / "metrics.jsonl")
    assert points(feed.read().series["train", "loss"]) == [(1, 7.0)]
    (path / "metrics.jsonl").write_text("")
    assert feed.read().series == {}
    for file in path.rglob("*"):
        if file.is_file():
            file.unlink()
    reading = feed.read()
    assert reading.view.status == "broken" and reading.snapshots.newest == 12


def test_garbage_and_overlong_lines_are_counted_and_left_out(tmp_path):
    make_run(tmp_path, "run")
    with (tmp_path / "run" / "metrics.jsonl").open("ab") as file:
        file.write(b"\xff\xfe garbage\n[1]\n" + b"x" * 10_000_000 + b"\n")
        file.write(b'{"step": 13, "segment": 0, "kind": "train", "values": {"loss": 0.5}}\n{"step": 14, "seg')
    reading = read_all(RunFeed(tmp_path / "run"))
    assert reading.unread == ("3 lines of metrics.jsonl can not be read and are left out.",)
    assert reading.latest["train", "loss"] == (13, 0.5)


def test_a_long_run_is_read_in_pieces_between_which_the_curve_can_be_drawn(tmp_path, monkeypatch):
    make_run(tmp_path, "run")
    stamp = {"segment": 0, "kind": "train"}
    lines = (stamp | {"step": 13 + number, "values": {"loss": number}} for number in range(20_000))
    with (tmp_path / "run" / "metrics.jsonl").open("a") as file:
        file.writelines(json.dumps(line) + "\n" for line in lines)
    monkeypatch.setattr(feed_module, "_LONGEST_READ_S", 0.0)
    feed, counts, more = RunFeed(tmp_path / "run"), [], True
    while more:
        reading = feed.read()
        more = reading.more
        counts.append(reading.series["train", "loss"].count)
        assert len(reading.series["train", "loss"].drawn(0, 30_000, 100)[0]) > 1
    assert len(counts) > 3 and counts == sorted(counts) and counts[-1] == 20_002


def test_nothing_that_lies_in_a_folder_makes_a_reading_raise(tmp_path):
    for place, text in enumerate(("", "{}", '{"schema": 99}', "\x00")):
        path = tmp_path / f"run{place}"
        path.mkdir()
        (path / "state.json").write_text(text)
        (path / "metrics.jsonl").mkdir()
        (path / "geometry.jsonl").symlink_to("/dev/zero")
        assert RunFeed(path).read().view.status == "broken"
    assert RunFeed(tmp_path / "missing").read().view.status == "broken"


def test_ages_count_to_the_given_clock(tmp_path):
    make_run(tmp_path, "run")
    ahead = RunFeed(tmp_path / "run", clock=lambda: time.time() + 7200).read()
    behind = RunFeed(tmp_path / "run", clock=lambda: 0.0).read()
    assert 7190 < ahead.view.age_s < 7300 and behind.view.age_s == 0.0
