"""How a run's loss gets into one cell, and how rows are remembered between readings."""

import json
import math
import os
import tracemalloc
from dataclasses import replace
from pathlib import Path

import pytest

from readwrite_edit.runs import from_end
from readwrite_edit.runs.reader import last_value
from readwrite_edit.runs.regular import open_regular
from readwrite_edit.runs.writer import RunWriter
from readwrite_edit.tui.home import sparkline as module
from readwrite_edit.tui.home.listing import Listing
from readwrite_edit.tui.home.run_columns import fitted, widths
from readwrite_edit.tui.home.sparkline import SAMPLES, Trace, read_trace, sparkline
from readwrite_edit.tui.home.traces import Traces
from tests.tui.screens import NOW, still_run, write_metrics


def test_bars_run_from_the_least_to_the_greatest_and_show_what_is_not_finite():
    assert sparkline([0, 1, 2, 3, 4, 5, 6, 7], 8) == "▁▂▃▄▅▆▇█"
    assert sparkline([2, 2], 8) == "▅▅" and sparkline([], 8) == ""
    assert sparkline([1, math.nan, 0], 8) == "█×▁"
    assert sparkline([1e308, -1e308, 0], 3)[1] == "▁"
    assert sparkline(range(100), 4) == "▁▃▆█"


def test_a_long_file_is_sampled_over_its_whole_length_and_costs_little(tmp_path, monkeypatch):
    path = still_run(tmp_path, "long")
    write_metrics(path, [{"loss": step, "grad_norm": 0.5} for step in range(20_000)])
    parsed = []
    monkeypatch.setattr(module, "parse_object", lambda line: parsed.append(len(line)) or json.loads(line))
    trace = read_trace(path)
    assert trace.last == 19_999 and len(trace.samples) == SAMPLES
    assert list(trace.samples) == sorted(trace.samples) and trace.samples[0] == 0 and trace.samples[-1] == 19_999
    gaps = [after - before for before, after in zip(trace.samples, trace.samples[1:], strict=False)]
    assert max(gaps) < 3 * 20_000 / SAMPLES
    assert len(parsed) <= SAMPLES + 1


def test_lines_that_a_resume_superseded_are_no_part_of_it(tmp_path):
    with RunWriter.start(tmp_path / "run", recipe_text="", recipe_name="r") as run:
        for step, loss in enumerate([4.0, 3.0, 9.0, 9.0], 1):
            run.log_metrics(step, {"loss": loss})
        run.mark("stopped")
    with RunWriter.resume(tmp_path / "run") as run:
        run.rewind(2)
        run.log_metrics(3, {"loss": 2.0})
        run.mark("stopped")
    assert read_trace(tmp_path / "run", resumed=True) == Trace(2.0, (4.0, 3.0, 2.0))


def test_other_kinds_torn_tails_and_garbage_are_left_out(tmp_path):
    path = still_run(tmp_path, "a", losses=[3, 2])
    with open(path / "metrics.jsonl", "ab") as stream:
        stream.write(b'{"step": 3, "segment": 0, "kind": "eval", "values": {"loss": 9}}\n\xff\n')
        stream.write(b'{"step": 3, "segment": 0, "kind": "train", "values": {"loss": 8}}')
    assert read_trace(path) == Trace(2.0, (3.0, 2.0))
    assert read_trace(path, "kl") == Trace() == read_trace(tmp_path / "none")


@pytest.mark.parametrize("lines", [1, 3])
def test_lines_of_ten_megabytes_are_passed_over(tmp_path, lines):
    path = still_run(tmp_path, "a", losses=[3])
    with open(path / "metrics.jsonl", "ab") as stream:
        for _ in range(lines):
            stream.write(b'{"x": "' + b"y" * 10_000_000 + b'"}\n')
        stream.write(b'{"step": 4, "segment": 0, "kind": "train", "values": {"loss": 1}}\n')
    assert read_trace(path) == Trace(1.0, (3.0, 1.0))


def test_a_run_that_ended_is_read_again_only_when_its_state_changed(tmp_path, monkeypatch):
    path, now = still_run(tmp_path / "runs", "a", age_s=10), [NOW]
    reads = []
    from readwrite_edit.tui.home import listing

    original = listing.read_run
    monkeypatch.setattr(listing, "read_run", lambda *args, **options: reads.append(1) or original(*args, **options))
    rows = Listing(tmp_path / "runs", lambda: now[0])
    assert rows.read().rows[0].view.age_s == 10
    now[0] += 5
    again = rows.read().rows[0]
    assert again.view.age_s == 15 and len(reads) == 1
    (path / "state.json").unlink()
    still = Path(still_run(tmp_path / "other", "a", status="failed", error="changed", age_s=0))
    os.rename(still / "state.json", path / "state.json")
    assert rows.read().rows[0].view.reason == "changed" and len(reads) == 2


@pytest.mark.parametrize("room", range(40, 160, 3))
def test_columns_never_ask_for_more_room_than_there_is(tmp_path, room):
    still_run(tmp_path, "a" * 60, recipe="宽" * 30, losses=[1.0], max_steps=10**9)
    rows = Listing(tmp_path, lambda: NOW).read().rows
    wide = widths(rows, {}, room)
    assert room < 50 or sum(wide.values()) + len(wide) - 1 <= room
    assert {"status", "kind", "step"} <= set(wide)


@pytest.mark.parametrize(("tags", "named"), [("", True), ("baseline seed0", False)])
def test_at_eighty_columns_an_edit_leaves_the_runs_their_names_and_tags_take_them(tmp_path, tags, named):
    still_run(tmp_path, "20261101-120000-edit-associate", recipe="edit-associate", kind="edit")
    still_run(tmp_path, "20261101-130000-dpo_readonly", recipe="dpo_readonly", losses=[1.0], max_steps=1000)
    rows = [replace(row, tags=tags) for row in Listing(tmp_path, lambda: NOW).read().rows]
    wide = widths(rows, {}, 78)
    assert ("run" in wide, "tags" in wide) == (named, not named) and wide["recipe"] >= 12
    assert wide.get("run", 15) >= 15 and (wide["trend"] == 8 or not named)


def test_a_text_fills_its_column_exactly_whatever_its_signs_are_wide():
    from rich.cells import cell_len

    for text in ("", "ab", "abcdefgh", "宽宽宽宽宽", "a宽宽宽"):
        for width in (2, 5, 8):
            assert cell_len(fitted(text, width)) == width == cell_len(fitted(text, width, right=True))


def test_a_small_loss_keeps_its_exponent():
    from readwrite_edit.tui.home.run_columns import _loss
    from readwrite_edit.tui.home.sparkline import Trace

    values = (6.364e-05, 0.08012, 0.6931, 123456.0, None)
    assert [_loss(Trace(value)) for value in values] == ["6e-05", "0.0801", "0.6931", "1e+05", ""]


@pytest.mark.parametrize("newline", [b"", b"\n"])
def test_a_last_line_of_ten_megabytes_hides_nothing_before_it(tmp_path, newline):
    path = still_run(tmp_path, "a")
    write_metrics(path, [{"loss": step, "grad_norm": 0.5} for step in range(5000)])
    with open(path / "metrics.jsonl", "ab") as stream:
        stream.write(b'{"x": "' + b"y" * 10_000_000 + b'"}' + newline)
    trace = read_trace(path)
    assert trace.last == 4999 == last_value(path, "loss") and trace.problem == ""
    assert len(trace.samples) == SAMPLES and trace.samples[-1] == 4999 and sorted(trace.samples) == list(trace.samples)


def test_an_end_that_is_too_long_is_said_and_read_within_bounds(tmp_path, monkeypatch):
    path, read = still_run(tmp_path, "a", losses=[3, 2]), []
    with open(path / "metrics.jsonl", "ab") as stream:
        stream.truncate(200_000_000)  # sparse
    original = from_end.read_exactly
    monkeypatch.setattr(from_end, "read_exactly", lambda *args: read.append(args[1]) or original(*args))
    tracemalloc.start()
    trace, peak = read_trace(path), tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1 << 23  # of a line that is too long no more is held than the longest that counts
    assert trace.last is None is last_value(path, "loss") and "no line that can be read" in trace.problem
    assert sum(read) == 2 * from_end.MOST_PASSED_BYTES


def test_a_train_line_without_a_loss_does_not_make_an_old_loss_the_last(tmp_path):
    path = still_run(tmp_path, "a")
    write_metrics(path, [{"loss": 1.0}, *({"grad_norm": 0.5} for _ in range(3000))])
    assert read_trace(path).last is None is last_value(path, "loss")


def test_lines_from_the_end_are_the_lines_of_the_file_whatever_the_blocks(tmp_path, monkeypatch):
    lines = [b"x" * size for size in (0, 5, 3, 17, 0, 0, 1, 40, 2)]
    data = b"\n".join(lines) + b"\ntorn"
    (tmp_path / "file").write_bytes(data)
    monkeypatch.setattr(from_end, "LONGEST_LINE_BYTES", 20)
    for block in range(1, 40):
        monkeypatch.setattr(from_end, "BLOCK_BYTES", block)
        with open_regular(tmp_path / "file") as stream:
            found = list(from_end.lines_from_end(stream))
        assert [line for line, _ in found] == [line for line in reversed(lines) if len(line) <= 20]
        assert all(data[:end].endswith(line + b"\n") for line, end in found)


def test_a_trace_says_why_there_is_none_and_forgets_what_is_gone(tmp_path):
    path, traces = still_run(tmp_path, "a", losses=[3, 2]), Traces()
    rows = Listing(tmp_path, lambda: NOW).read().rows
    assert traces.read(rows)["a"].last == 2 and traces.read(rows) == {}
    (path / "metrics.jsonl").unlink()
    assert traces.read(rows) == {"a": Trace()} and traces.read(rows) == {}
    (path / "metrics.jsonl").symlink_to("metrics.jsonl")
    assert "symbolic links" in traces.read(rows)["a"].problem and traces.read(rows) == {}
