"""The writer's files: what stands in them, what a start refuses, what a resume cuts and supersedes."""

import json
import math
from datetime import datetime

import pytest

from readwrite_edit.errors import RunError
from readwrite_edit.runs import writer as writer_module
from readwrite_edit.runs.folder import FolderError, RunFolder, new_run_path, recipe_title
from readwrite_edit.runs.reader import geometry, last_snapshot, metrics, read_run
from readwrite_edit.runs.requests import request_stop
from readwrite_edit.runs.writer import RunWriter


def start(path, **options):
    return RunWriter.start(path, recipe_text="objective: {name: dpo}\n", recipe_name="dpo", max_steps=9, **options)


def state(path):
    return json.loads((path / "state.json").read_text())


def test_new_run_path_is_safe_and_unique(tmp_path):
    now = datetime(2025, 3, 4, 5, 6, 7)
    first = new_run_path(tmp_path, "../a b\x1b[31m/ü.yaml", now)
    assert first == tmp_path / "20250304-050607-a-b-31m-.yaml"
    first.mkdir()
    assert new_run_path(tmp_path, "../a b\x1b[31m/ü.yaml", now).name == f"{first.name}-2"
    assert new_run_path(tmp_path, "///", now).name == "20250304-050607-run"


@pytest.mark.parametrize(
    ("given", "title"),
    [
        ("dpo_readonly", "dpo_readonly"),
        ("recipes/mine.yaml", "mine"),
        ("runs/20261101-120000-mine/recipe.yaml", "mine"),
        ("runs/pilot/recipe.yaml", "pilot"),
    ],
)
def test_a_run_is_called_like_its_recipe_and_one_of_a_frozen_recipe_like_that_run(given, title):
    assert recipe_title(given) == title


def test_start_writes_recipe_and_state(tmp_path):
    path = tmp_path / "deep" / "run"
    with start(path, kind="edit") as run:
        assert (path / "recipe.yaml").read_text() == "objective: {name: dpo}\n"
        assert state(path)["schema"] == 1
        assert state(path)["kind"] == "edit"
        view = read_run(path)
        assert (view.status, view.recipe, view.step, view.max_steps) == ("running", "dpo", 0, 9)
        run.mark("finished")
    assert read_run(path).status == "finished"


@pytest.mark.parametrize("present", ["state.json", "holiday.jpg"])
def test_start_refuses_a_used_folder_and_leaves_it_alone(tmp_path, present):
    (tmp_path / present).write_text("mine")
    with pytest.raises(FolderError, match=r"holds a run|not empty"):
        start(tmp_path)
    assert (tmp_path / present).read_text() == "mine"
    assert not (tmp_path / "recipe.yaml").exists()


def test_start_refuses_a_file_and_a_folder_below_a_file(tmp_path):
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file", tmp_path / "file" / "run"):
        with pytest.raises(FolderError, match="file"):
            start(path)


def test_failed_start_leaves_nothing(tmp_path, monkeypatch):
    def no_room(*args, **options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(writer_module, "save_state", no_room)
    with pytest.raises(RunError, match=r"state\.json: No space left on device"):
        start(tmp_path / "run")
    assert list(tmp_path.iterdir()) == []


def test_second_writer_in_the_same_process_is_refused_and_the_lock_survives(tmp_path):
    with start(tmp_path / "run"):
        for take in (start, RunWriter.resume):
            with pytest.raises(RunError, match="in use by pid"):
                take(tmp_path / "run")
        assert read_run(tmp_path / "run").status == "running"


def test_nonfinite_values_become_null_and_are_named(tmp_path):
    with start(tmp_path / "run") as run:
        run.log_metrics(3, {"loss": math.nan, "grad_norm": math.inf, "lr": 1e-3})
        run.log_metrics(4, {"chosen_change": -1}, kind="alarm", message="both fall")
        run.log_geometry(3, [{"layer": 0, "module": "q_proj", "read_fraction": math.nan, "norm": 1.5}])
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    first, second = map(json.loads, lines)
    assert first["values"] == {"loss": None, "grad_norm": None, "lr": 1e-3}
    assert first["nonfinite"] == ["loss", "grad_norm"]
    assert (first["step"], first["segment"], first["kind"]) == (3, 0, "train")
    assert "nonfinite" not in second and second["message"] == "both fall"
    (row,) = geometry(tmp_path / "run")
    assert row["read_fraction"] is None and row["norm"] == 1.5 and row["step"] == 3


def test_metrics_are_on_disk_before_close(tmp_path):
    with start(tmp_path / "run") as run:
        run.log_metrics(1, {"loss": 1.0})
        assert len(metrics(tmp_path / "run")) == 1


def test_heartbeat_is_throttled_but_an_end_saves_the_last_step(tmp_path, monkeypatch):
    clock = [100.0]
    monkeypatch.setattr(writer_module.time, "monotonic", lambda: clock[0])
    with start(tmp_path / "run") as run:
        run.heartbeat(1)
        assert state(tmp_path / "run")["step"] == 0
        clock[0] += 1.5
        run.heartbeat(2, max_steps=40)
        assert (state(tmp_path / "run")["step"], state(tmp_path / "run")["max_steps"]) == (2, 40)
        run.heartbeat(3)
        run.mark("stopped")
    assert (state(tmp_path / "run")["step"], state(tmp_path / "run")["status"]) == (3, "stopped")


def test_exception_marks_the_run_failed_with_its_text(tmp_path):
    with pytest.raises(ValueError, match="loss is nan"), start(tmp_path / "run"):
        raise ValueError("loss is nan")
    view = read_run(tmp_path / "run")
    assert (view.status, view.reason) == ("failed", "loss is nan")


def test_exception_after_an_end_keeps_that_end(tmp_path):
    with pytest.raises(ValueError), start(tmp_path / "run") as run:
        run.mark("finished")
        raise ValueError("report")
    assert read_run(tmp_path / "run").status == "finished"


def test_unknown_status_is_a_programming_error(tmp_path):
    with start(tmp_path / "run") as run, pytest.raises(ValueError, match="done"):
        run.mark("done")


def test_stop_request_is_seen_and_dropped_by_a_resume(tmp_path):
    with start(tmp_path / "run") as run:
        assert not run.stop_requested()
        request_stop(tmp_path / "run")
        assert run.stop_requested()
        assert read_run(tmp_path / "run").status == "stopping"
        run.mark("stopped")
    with RunWriter.resume(tmp_path / "run") as run:
        assert not run.stop_requested()
        assert (run.segment, state(tmp_path / "run")["status"]) == (1, "running")


@pytest.mark.parametrize(
    "tail", ['{"step": 5, "val', '{"step": 5, "segment": 0, "kind": "train", "values": {}}', "x" * 200_000]
)
def test_resume_cuts_a_torn_tail(tmp_path, tail):
    with start(tmp_path / "run") as run:
        run.log_metrics(1, {"loss": 1.0})
    whole = (tmp_path / "run" / "metrics.jsonl").read_bytes()
    (tmp_path / "run" / "metrics.jsonl").write_bytes(whole + tail.encode())
    with RunWriter.resume(tmp_path / "run") as run:
        assert (tmp_path / "run" / "metrics.jsonl").read_bytes() == whole
        run.log_metrics(2, {"loss": 0.5})
    assert [record["step"] for record in metrics(tmp_path / "run")] == [1, 2]


def test_resume_cuts_a_file_that_is_one_torn_line(tmp_path):
    start(tmp_path / "run").close()
    (tmp_path / "run" / "metrics.jsonl").write_text("torn")
    RunWriter.resume(tmp_path / "run").close()
    assert (tmp_path / "run" / "metrics.jsonl").read_bytes() == b""


def test_lines_after_the_checkpoint_are_superseded(tmp_path):
    with start(tmp_path / "run") as run:
        for step in (2, 4, 6):
            run.log_metrics(step, {"loss": float(step)})
        run.log_metrics(4, {"eval_loss": 0.4}, kind="eval")
        run.log_geometry(6, [{"layer": 0, "module": "q_proj", "norm": 6.0}])
        run.log_geometry(4, [{"layer": 0, "module": "q_proj", "norm": 4.0}])
    with RunWriter.resume(tmp_path / "run") as run:
        run.rewind(4)
        assert [record["step"] for record in metrics(tmp_path / "run")] == [2, 4, 4]
        run.log_metrics(4, {"eval_loss": 0.5}, kind="eval")
        run.log_metrics(8, {"loss": 8.0})
    found = [(record["step"], record["segment"], record["kind"]) for record in metrics(tmp_path / "run")]
    assert found == [(2, 0, "train"), (4, 0, "train"), (4, 1, "eval"), (8, 1, "train")]
    assert [row["norm"] for row in last_snapshot(geometry(tmp_path / "run"))] == [4.0]


def test_a_later_rewind_supersedes_every_earlier_segment(tmp_path):
    with start(tmp_path / "run") as run:
        run.log_metrics(4, {"loss": 4.0})
        run.log_metrics(9, {"loss": 9.0})
    for begin, logged in ((5, 7), (3, 6)):
        with RunWriter.resume(tmp_path / "run") as run:
            run.rewind(begin)
            run.log_metrics(logged, {"loss": 0.0})
    assert [(record["step"], record["segment"]) for record in metrics(tmp_path / "run")] == [(6, 2)]


def test_without_rewind_the_first_line_of_a_segment_tells(tmp_path):
    with start(tmp_path / "run") as run:
        for step in (1, 2, 3):
            run.log_metrics(step, {"loss": 0.0})
    with RunWriter.resume(tmp_path / "run") as run:
        run.log_metrics(2, {"loss": 0.0})
    assert [(record["step"], record["segment"]) for record in metrics(tmp_path / "run")] == [(1, 0), (2, 1)]


@pytest.mark.parametrize(
    ("content", "said"),
    [(None, "no state.json"), ("{", "not valid JSON"), ('{"schema": 99}', "newer version")],
)
def test_resume_refuses_what_is_no_run(tmp_path, content, said):
    if content is not None:
        (tmp_path / "state.json").write_text(content)
    with pytest.raises(FolderError, match=said):
        RunWriter.resume(tmp_path)
    assert not RunFolder(tmp_path).lock.exists()
