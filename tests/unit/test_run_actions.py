"""The plain twins of what the TUI does with runs: compare, resume, rm, note, stop with a signal, geometry, queue."""

import csv
import io
import json

import pytest

from readwrite_edit import queue
from readwrite_edit.cli import main
from readwrite_edit.runs.comparison import compare
from readwrite_edit.runs.folder import FolderError
from readwrite_edit.runs.notes import Note, read_notes
from readwrite_edit.runs.reader import read_run
from readwrite_edit.runs.resuming import resume_argv
from readwrite_edit.runs.writer import RunWriter

RECIPE = (
    "train:\n  learning_rate: {rate}\n  max_steps: 3\nadapter:\n  targets: [q_proj, k_proj]\ndata:\n  - path: {path}\n"
)
SUMMARY = {"schema": 1, "before": {"kl": 0.0}, "after": {"kl": 0.5}}


def geometry_row(layer, module, fraction, **more):
    place = {"layer": layer, "module": module, "path": f"m.{layer}.{module}"}
    return {**place, "read_fraction": fraction, "read_isotropic_null": 0.25, **more}


def make_run(path, *, rate=0.1, data="a", kind="align", status="finished", fractions=(0.5, 0.7)):
    """A run of two steps with two snapshots of two matrices."""
    recipe = RECIPE.format(rate=rate, path=data)
    with RunWriter.start(path, recipe_text=recipe, recipe_name=path.name, max_steps=2, kind=kind) as run:
        for step in (1, 2):
            run.log_metrics(step, {"loss": rate / step, "spread": float("nan")})
            run.log_geometry(step, [geometry_row(at, "q_proj", value * step / 2) for at, value in enumerate(fractions)])
        run.mark(status)
    (path / "summary.json").write_text(json.dumps(SUMMARY))
    return path


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.setenv("READWRITE_EDIT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "runs"


def test_a_comparison_has_only_what_differs_of_the_recipes_and_all_figures(root):
    one, two = make_run(root / "one"), make_run(root / "two", rate=0.2, data="b", fractions=(0.5, 0.9))
    found = compare([one, two])
    assert {row.name: dict(row.values) for row in found.recipe} == {
        "train.learning_rate": {0: 0.1, 1: 0.2},
        "data.0.path": {0: "a", 1: "b"},
    }
    figures = {row.name: dict(row.values) for row in found.metrics}
    assert figures == {"train loss": {0: 0.05, 1: 0.1}, "train spread": {0: None, 1: None}}
    assert [(row.name, dict(row.values)) for row in (*found.before, *found.after)] == [
        ("kl", {0: 0.0, 1: 0.0}),
        ("kl", {0: 0.5, 1: 0.5}),
    ]
    rows = {(row.module, row.measure.name): row for row in found.geometry}
    assert rows["q_proj", "read"].means == pytest.approx({0: 0.6, 1: 0.7})
    assert rows["q_proj", "read-isotropic"].change(1) == pytest.approx(0.4)
    assert rows["", "read"].means == pytest.approx({0: 0.6, 1: 0.7})


def test_a_comparison_says_what_it_can_not_read_and_refuses_what_is_no_run(root):
    one, two = make_run(root / "one"), make_run(root / "two")
    (two / "recipe.yaml").write_text("a: &x [1]\nb: *x\n")
    (two / "summary.json").write_text("[")
    (two / "geometry.jsonl").unlink()
    found = compare([one, two])
    assert "not plain YAML" in found.unread[1][0] and found.recipe == ()
    assert found.unread[1][1:] == ("summary.json can not be read: it is not valid JSON.",) and 0 not in found.unread
    assert [dict(row.values) for row in found.after] == [{0: 0.5}]
    assert all(set(row.means) == {0} for row in found.geometry)
    (root / "none").mkdir()
    for paths in ([one], [one] * 5, [one, root / "none"]):
        with pytest.raises(FolderError):
            compare(paths)


def test_runs_compare_prints_tables_and_json(root, capsys):
    make_run(root / "one"), make_run(root / "two", rate=0.2)
    assert main(["runs", "compare", "one", "two", "--root", str(root)]) == 0
    said = capsys.readouterr().out
    lines = [line.split() for line in said.splitlines()]
    assert ["train.learning_rate", "0.1", "0.2"] in lines and ["train", "loss", "0.05", "0.1"] in lines
    assert ["read", "fraction,", "q_proj", "0.6", "0.6"] in lines
    assert main(["runs", "compare", "one", "two", "--root", str(root), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["recipe"] == {"train.learning_rate": [0.1, 0.2]}
    assert [view["name"] for view in found["runs"]] == ["one", "two"]


@pytest.mark.parametrize(
    "command",
    [["runs", "show"], ["runs", "resume"], ["runs", "rm", "--yes"], ["geometry"], ["export", "--to", "out"],
     ["probe", "resume"], ["queue", "add", "probe", "resume"]],
)  # fmt: skip
def test_every_command_says_of_a_run_that_waits_that_it_waits(root, capsys, command):
    item = queue.add(root, ["align", "--recipe", "dpo_lora"], "later", device="cpu")
    assert main([*command, item.run.name, "--root", str(root)]) == 2
    said = capsys.readouterr().err
    assert f"{item.run.name} has no folder yet: it is waiting as item {item.id} of the queue" in said


def test_the_same_run_twice_is_not_compared(root, capsys):
    one, _ = make_run(root / "one"), make_run(root / "two")
    (root / "link").symlink_to("one")
    for named in (["last", "last"], ["one", "two", "one"], ["one", str(one)], [str(one), f"{one}/"], ["one", "link"]):
        assert main(["runs", "compare", *named, "--root", str(root)]) == 2
        said = capsys.readouterr()
        assert "expected different runs to compare; leave one out" in said.err and not said.out
        assert "twice" in said.err or "are the same run" in said.err or "which are" in said.err


@pytest.mark.parametrize(
    ("kind", "status", "argv"),
    [("align", "stopped", ["align", "--resume"]), ("probe", "failed", ["probe", "resume"])],
)
def test_a_stopped_run_is_resumed_by_the_command_of_its_kind(root, kind, status, argv):
    path = make_run(root / "run", kind=kind, status=status)
    assert resume_argv(path) == [*argv, str(path)]


def test_what_can_not_be_resumed_says_why(root):
    for kind, status, reason in (("align", "finished", "is finished"), ("edit", "failed", "make it anew")):
        with pytest.raises(FolderError, match=reason):
            resume_argv(make_run(root / f"{kind}-{status}", kind=kind, status=status))
    with RunWriter.start(root / "live", recipe_text="", recipe_name="x"), pytest.raises(FolderError, match="running"):
        resume_argv(root / "live")


def test_runs_resume_hands_over_to_the_command(root, monkeypatch):
    from readwrite_edit.cli import align

    path, asked = make_run(root / "run", status="stopped"), []
    monkeypatch.setattr(align, "_train", lambda args, recipe: asked.append((args.resume, recipe)))
    monkeypatch.setattr(align, "_report", lambda outcome: 7)
    assert main(["runs", "resume", "run", "--root", str(root)]) == 7
    assert asked == [(path, None)]


def test_runs_rm_asks_and_takes_no_beginnings_of_names(root, monkeypatch, capsys):
    one, two = make_run(root / "one"), make_run(root / "one-more")
    assert main(["runs", "rm", "one", "--root", str(root)]) == 2  # no terminal to ask on
    assert main(["runs", "rm", "one-", "--yes", "--root", str(root)]) == 2
    assert one.exists() and two.exists()
    monkeypatch.setattr("sys.stdin.isatty", lambda: True)
    for answer, left in (("n", True), ("y", False)):
        monkeypatch.setattr("builtins.input", lambda _question, answer=answer: answer)
        assert main(["runs", "rm", "one", "--root", str(root)]) == 0
        assert one.exists() == left
    assert two.exists() and "deleted" in capsys.readouterr().out


def test_runs_note_keeps_text_and_tags_beside_the_run(root, capsys):
    path = make_run(root / "run")
    before = sorted(path.iterdir())
    assert main(["runs", "note", "run", "a good one", "--tag", "keep", "--tag", "dpo", "--root", str(root)]) == 0
    assert main(["runs", "note", "run", "--untag", "dpo", "--tag", "best", "--root", str(root)]) == 0
    assert read_notes(root) == {"run": Note("a good one", ("keep", "best"))}
    capsys.readouterr()
    assert main(["runs", "note", "run", "--json", "--root", str(root)]) == 0
    assert json.loads(capsys.readouterr().out) == {"run": "run", "text": "a good one", "tags": ["keep", "best"]}
    assert sorted(path.iterdir()) == before


def test_runs_stop_with_a_signal_refuses_this_very_process_and_has_asked_before(root, capsys):
    with RunWriter.start(root / "run", recipe_text="", recipe_name="x") as run:
        assert main(["runs", "stop", "run", "--terminate", "--root", str(root)]) == 2
        assert run.stop_requested()
        assert "this very process" in capsys.readouterr().err


def test_geometry_as_table_json_and_csv(root, capsys):
    make_run(root / "run")
    assert main(["geometry", "run", "--root", str(root)]) == 0
    title, legend, head, first, *_, means = capsys.readouterr().out.splitlines()
    assert title.startswith("run, step 2: read fraction") and legend == "digits are tenths: 3 is 0.3 to 0.4"
    assert head.split() == ["layer", "q_proj", "mean"]
    assert first.split() == ["0", "5", "0.5", "0.5"] and means.split() == ["mean", "0.6", "0.6"]
    assert main(["geometry", "run", "--step", "1", "--format", "json", "--root", str(root)]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["step"], len(found["matrices"])) == (1, 2)
    assert found["matrices"][1]["read"] == 0.35 and found["matrices"][1]["path"] == "m.1.q_proj"
    assert main(["geometry", "run", "--quantity", "read-isotropic", "--format", "csv", "--root", str(root)]) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [float(row["read-isotropic"]) for row in rows] == pytest.approx([2.0, 2.8])


def test_geometry_that_is_not_there_is_one_line(root, capsys):
    path = make_run(root / "run")
    assert main(["geometry", "run", "--step", "9", "--root", str(root)]) == 2
    assert "no snapshot of step 9: it has 2, the nearest of step 2" in capsys.readouterr().err
    (path / "geometry.jsonl").write_text("garbage\n")
    assert main(["geometry", "run", "--root", str(root)]) == 2
    assert "geometry.jsonl can not be read: its only line is no record" in capsys.readouterr().err


def test_queue_add_fixes_the_run_folder_and_ls_shows_it(root, capsys):
    command = ["queue", "add", "--root", str(root), "--device", "cpu", "readwrite-edit", "align"]
    assert main([*command, "--recipe", "dpo_readonly", "--set", "train.max_steps=4"]) == 0
    (item,) = queue.items(root)
    assert item.argv[-2:] == ("--run-dir", str(item.run)) and item.run.parent == root
    assert item.name == "dpo_readonly" and not item.run.exists()
    said = capsys.readouterr().out
    assert str(item.run) in said and "no runner works on the queue" in said
    assert main(["queue", "ls", "--json", "--root", str(root)]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["paused"] is False and found["runner_pid"] is None
    assert [one["run"] for one in found["items"]] == [str(item.run)]
    assert main(["runs", "ls", "--json", "--root", str(root)]) == 0
    assert [view["status"] for view in json.loads(capsys.readouterr().out)] == ["queued"]
    for action in (["show"], ["stop"], ["rm", "--yes"]):
        assert main(["runs", *action, item.run.name, "--root", str(root)]) == 2
        assert f"it is waiting as item {item.id} of the queue" in capsys.readouterr().err


def test_queue_add_refuses_now_what_would_fail_when_its_turn_comes(root, capsys):
    for command, word in (
        (["align", "--recipe", "dpo_readonly", "--set", "train.max_stepz=4"], "max_stepz"),
        (["align", "--recipe", "dpo_readonly", "--dry-run"], "makes no run"),
        (["edit", "ls"], "makes no run"),
        (["verify", "x"], "expected a command that makes a run"),
        (["edit", "--recipe", "none"], "none"),
    ):
        assert main(["queue", "add", "--root", str(root), *command]) == 2
        assert word in capsys.readouterr().err
    with pytest.raises(SystemExit, match="2"):
        main(["queue", "add", "--root", str(root), "align", "--recipee", "x"])
    assert queue.items(root) == []


def test_a_run_folder_of_the_user_s_own_is_the_item_s(root, tmp_path):
    named = queue.add(root, ["align", "--recipe", "x", "--run-dir", str(tmp_path / "own")], device="cpu")
    assert named.run == tmp_path / "own" and named.argv.count("--run-dir") == 1
    stopped = make_run(root / "stopped", kind="probe", status="stopped")
    again = queue.add(root, ["probe", "resume", str(stopped)], device="cpu")
    assert again.run == stopped and again.argv == ("probe", "resume", str(stopped))
    assert read_run(stopped).status == "stopped"


def test_a_folder_named_last_is_deleted_by_that_name_and_no_other(tmp_path, capsys):
    old, new = make_run(tmp_path / "last"), make_run(tmp_path / "other")
    assert main(["runs", "rm", "--yes", "last", "--root", str(tmp_path)]) == 0
    assert not old.exists()
    assert new.exists()


def test_geometry_as_csv_lets_no_escape_sequence_through(tmp_path, capsys):
    with RunWriter.start(tmp_path / "a", recipe_text="", recipe_name="a") as run:
        run.log_geometry(1, [geometry_row(0, "q\x1b[31m\u202e", 0.5)])
        run.mark("finished")
    assert main(["geometry", "a", "--root", str(tmp_path), "--format", "csv"]) == 0
    found = capsys.readouterr().out
    assert "q\\x1b[31m\\u202e" in found
    assert "\x1b" not in found


def test_the_tui_wants_a_terminal(tmp_path, capsys, monkeypatch):
    monkeypatch.delenv("TEXTUAL_DRIVER", raising=False)
    monkeypatch.setattr("sys.__stdin__", io.StringIO())
    assert main(["tui", "--root", str(tmp_path)]) == 2
    assert "the TUI needs a terminal" in capsys.readouterr().err
