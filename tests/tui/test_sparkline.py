"""How a run's loss gets into one cell, and how rows are remembered between readings."""

import json
import math
import os
from pathlib import Path

import pytest

from readwrite_edit.runs.writer import RunWriter
from readwrite_edit.tui.home import sparkline as module
from readwrite_edit.tui.home.listing import Listing
from readwrite_edit.tui.home.run_columns import fitted, widths
from readwrite_edit.tui.home.sparkline import SAMPLES, Trace, read_trace, sparkline
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


def test_a_text_fills_its_column_exactly_whatever_its_signs_are_wide():
    from rich.cells import cell_len

    for text in ("", "ab", "abcdefgh", "宽宽宽宽宽", "a宽宽宽"):
        for width in (2, 5, 8):
            assert cell_len(fitted(text, width)) == width == cell_len(fitted(text, width, right=True))


def test_a_small_loss_keeps_its_exponent():
    from readwrite_edit.tui.home.run_columns import _loss
    from readwrite_edit.tui.home.sparkline import Trace

    assert [_loss(Trace(value)) for value in (6.364e-05, 0.6931, None)] == ["6e-05", "0.6931", ""]
