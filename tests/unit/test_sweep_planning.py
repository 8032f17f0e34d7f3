"""What a call of a sweep is to do: runs that can be named, what is refused before the first one, and the time left."""

import json
from dataclasses import replace

import pytest

from readwrite_edit.align.preferences import data_hash, load_preferences
from readwrite_edit.cli import main
from readwrite_edit.compare.selection import choose_values
from readwrite_edit.errors import DataError, ModelError, RecipeError
from readwrite_edit.queue.items import DONE, FAILED, RUNNING, Item, log_of, save_item
from readwrite_edit.queue.store import place_of
from readwrite_edit.recipe import dump_recipe, load_recipe
from readwrite_edit.runs.folder import FolderError
from readwrite_edit.sweep.checking import check_material, check_runs, checked, one_point
from readwrite_edit.sweep.grid import parse_arms, parse_axis, planned_runs
from readwrite_edit.sweep.planning import Grid, opened, survey
from readwrite_edit.sweep.progress import seconds_left, standing
from readwrite_edit.sweep.record import SweepRecord, read_record, record_path, write_record
from tests.compared_runs import CHOICE, TOOK_S, write_sweep
from tests.fake_sweeps import fake_recipe
from tests.small_runs import small_recipe, write_recipe, write_rows

AXES = [parse_axis("adapter.basis=principal,lora"), parse_axis(f"{CHOICE}=1e-3,3e-3")]
SMALL, LARGE = "learning_rate1e-3", "learning_rate3e-3"


def grid(recipe, *, choose=CHOICE, seeds=3, axes=AXES, settings=(), chooser=lambda *_: {}):
    record = SweepRecord(recipe=str(recipe), settings=settings, choose=choose)
    return Grid(record=record, axes=axes, seeds=seeds, choose=chooser)


def names(found):
    return [run.planned.name for run in found.runs]


def begin(folder, name, recipe, **provenance):
    """The folder of a run that has begun."""
    (folder / name).mkdir(parents=True)
    (folder / name / "recipe.yaml").write_text(
        dump_recipe(recipe, **({"provenance": provenance} if provenance else {}))
    )


def queued(folder, name, settings=(), **fields):
    """An item of the queue that was to carry a run out."""
    place = place_of(folder)
    place.mkdir(parents=True, exist_ok=True)
    argv = ("align", "--recipe", "r", *(word for setting in settings for word in ("--set", setting)))
    known = {"name": name, "argv": argv, "folder": folder, "device": "cpu", "run": (folder / name).absolute()}
    item_id = f"{len(list(place.glob('*.json'))) + 1:06d}-0000"
    save_item(place, Item(id=item_id, log=log_of(place, item_id), **known, **fields))


# ---- the runs that can be named


def test_only_chosen_values_get_further_seeds(tmp_path):
    recipe = fake_recipe(tmp_path)
    found = survey(tmp_path / "s", grid(recipe))
    assert len(found.runs) == len(found.record.runs) == 4 and found.later == 4
    found = survey(tmp_path / "s", grid(recipe, chooser=lambda *_: {"lora": LARGE}))
    assert names(found)[4:] == [f"lora_{LARGE}_s1", f"lora_{LARGE}_s2"] and found.later == 2
    assert len(survey(tmp_path / "s", grid(recipe, choose=None)).runs) == 12


def test_the_choice_waits_for_runs_that_are_new_in_this_call_and_for_no_others(tmp_path):
    asked = {}

    def chooser(folder, record, given_up):
        asked.update(runs=set(record.runs), given_up=given_up)
        return {}

    folder, recipe = tmp_path / "s", fake_recipe(tmp_path)
    old = planned_runs([parse_axis("adapter.basis=random"), AXES[1]], [0], CHOICE)
    write_record(folder, SweepRecord(recipe=str(recipe), choose=CHOICE).with_runs(old))
    begin(folder, old[0].name, load_recipe(recipe))
    survey(folder, grid(recipe, chooser=chooser), tried={"principal_x_s0"})
    assert {f"lora_{SMALL}_s0", f"random_{SMALL}_s0"} < asked["runs"]
    assert asked["given_up"] == {"principal_x_s0", *(run.name for run in old)}


def test_values_are_chosen_once_all_of_the_first_seed_have_finished_or_are_given_up(tmp_path):
    values = {"a": {SMALL: (1.0, 0.01), LARGE: (1.5, 0.01)}, "b": {SMALL: (1.0, 0.01), LARGE: (0.5, 0.01)}}
    folder = write_sweep(tmp_path / "s", values, seeds=1, choose=CHOICE)
    record = read_record(folder)
    assert choose_values(folder, record) == {"a": LARGE, "b": SMALL}
    state = folder / f"a_{LARGE}_s0" / "state.json"
    for status in ("failed", "stopped"):
        state.write_text(json.dumps(json.loads(state.read_text()) | {"status": status}))
        assert choose_values(folder, record) == {}
        assert choose_values(folder, record, {state.parent.name}) == {"a": SMALL, "b": SMALL}


def test_a_finished_run_that_can_not_be_chosen_by_is_said(tmp_path):
    folder = write_sweep(tmp_path / "s", {"a": {SMALL: (1.0, 0.01), LARGE: (1.5, 0.01)}}, seeds=1, choose=CHOICE)
    with open(folder / f"a_{LARGE}_s0" / "evaluations.jsonl", "a") as file:
        file.write("garbage\n")
    with pytest.raises(FolderError, match=rf"a_{LARGE}_s0 can not be chosen by: .*damaged.*; delete"):
        choose_values(folder, read_record(folder))


# ---- what is refused


def test_every_recipe_is_checked_and_named_by_the_option_it_came_from(tmp_path):
    record = SweepRecord(recipe=str(fake_recipe(tmp_path)), settings=("train.max_steps=2",))
    for axis, option in (
        (parse_axis("adapter.rank=4,x"), "--over adapter.rank=x"),
        (parse_arms(["a:nope.key=1"]), "--arm a:nope.key=1"),
    ):
        with pytest.raises(RecipeError) as caught:
            checked(record, planned_runs([axis], [0]), [axis])
        assert option in str(caught.value) and "--set" not in str(caught.value)


@pytest.mark.parametrize("values", ["1e-2,0.01", "0.010,0.01"])
def test_one_value_written_in_two_ways_is_refused(tmp_path, values):
    axes = [parse_axis(f"train.learning_rate={values}")]
    with pytest.raises(RecipeError, match="one and the same run"):
        checked(SweepRecord(recipe=str(fake_recipe(tmp_path))), planned_runs(axes, [0]), axes)


def test_the_recipe_of_an_edit_is_named_as_one(tmp_path):
    recipe = tmp_path / "r.yaml"
    recipe.write_text("associate: {}\n")
    with pytest.raises(RecipeError, match="recipe of an edit; a sweep takes recipes of align"):
        checked(SweepRecord(recipe=str(recipe)), planned_runs([], [0]), [])


def test_a_folder_with_a_run_of_another_recipe_is_refused(tmp_path):
    recipe = load_recipe(fake_recipe(tmp_path))
    begin(tmp_path, "a", recipe)
    check_runs({"a": recipe}, tmp_path)
    with pytest.raises(RecipeError, match="made by another recipe"):
        check_runs({"a": load_recipe(tmp_path / "r.yaml", ["adapter.rank=8"])}, tmp_path)


def test_data_that_are_no_longer_those_of_a_run_are_refused(tmp_path):
    rows = write_rows(tmp_path / "rows.jsonl", 24)
    recipe = load_recipe(fake_recipe(tmp_path), [f"data={{path: {rows}, eval_rows: 4}}"])
    data = load_preferences(recipe.data)
    begin(tmp_path, "a", recipe, data_sha256=data_hash([*data.train, *data.held_out]))
    check_runs({"a": recipe}, tmp_path)
    write_rows(rows, 23)
    with pytest.raises(DataError, match=r"rows\.jsonl are no longer those that .*a began with: put them back"):
        check_runs({"a": recipe}, tmp_path)


def test_what_needs_no_weights_is_checked_once_for_what_runs_have_in_common(tmp_path, monkeypatch):
    path = write_recipe(tmp_path / "r.yaml", small_recipe(tmp_path))
    alike = [load_recipe(path, [f"train.seed={seed}", f"train.learning_rate={seed + 1}"]) for seed in range(3)]
    looked, seen, said = [], set(), []
    monkeypatch.setattr("readwrite_edit.align.prepare.prepare", looked.append)
    check_material(alike, seen, said.append)
    check_material(alike, seen, said.append)
    assert looked == alike[-1:] and said == ["checking model, data and texts of 1 kind of run"]
    monkeypatch.undo()
    with pytest.raises(ModelError, match=r"adapter\.rank is 999"):
        check_material([load_recipe(path, ["adapter.rank=999"])], seen, said.append)


@pytest.mark.parametrize(
    ("settings", "short"),
    [
        ([], True),
        (["train.eval_steps=15"], True),
        (["train.eval_steps=5"], False),
        (["train.eval_strategy=epoch"], False),
    ],
)
def test_a_path_of_one_point_is_known_before(tmp_path, settings, short):
    assert one_point(load_recipe(fake_recipe(tmp_path), settings)) is short


# ---- the record


def test_a_record_is_read_as_it_was_written_and_grows(tmp_path):
    runs = planned_runs(AXES, [0], CHOICE)
    record = SweepRecord(recipe="r.yaml", settings=("train.max_steps=4",), choose=CHOICE).with_runs(runs)
    write_record(tmp_path, record)
    assert read_record(tmp_path) == record and read_record(tmp_path / "none") is None
    queued(tmp_path, runs[0].name)
    later = opened(tmp_path, SweepRecord(recipe="r.yaml", settings=("train.max_steps=4",), choose=CHOICE))
    assert len(later.with_runs(planned_runs(AXES, [0, 1], CHOICE)).runs) == 8


@pytest.mark.parametrize("other", [{"recipe": "x.yaml"}, {"settings": ("a=1",)}, {"choose": None}])
def test_a_folder_of_another_sweep_is_refused_once_a_run_has_begun(tmp_path, other):
    record = SweepRecord(recipe="r.yaml", choose=CHOICE).with_runs(planned_runs(AXES, [0], CHOICE))
    write_record(tmp_path, record)
    corrected = replace(record, runs={}, **other)
    assert opened(tmp_path, corrected) == corrected
    assert opened(tmp_path, replace(record, runs={}, recipe="./r.yaml")).recipe == "./r.yaml"
    (tmp_path / f"lora_{SMALL}_s0").mkdir()
    (tmp_path / f"lora_{SMALL}_s0" / "state.json").touch()
    assert opened(tmp_path, replace(record, runs={}, recipe="./r.yaml")).runs == record.runs
    with pytest.raises(RecipeError, match="name another folder"):
        opened(tmp_path, corrected)


def test_a_damaged_record_is_refused_and_kept(tmp_path):
    record_path(tmp_path).write_text('{"schema": 1, "recipe": "r", "settings": [], "choose": null, "runs": [{}]}')
    with pytest.raises(FolderError, match="not the record of a sweep"):
        read_record(tmp_path)
    assert record_path(tmp_path).exists()


# ---- how runs stand


def test_the_time_left_is_known_once_a_run_is_finished_and_counts_its_start(tmp_path):
    folder = write_sweep(tmp_path / "s", {"a": {"": (1.0, 0.01)}, "b": {"": (1.0, 0.01)}}, seeds=2)
    runs = list(read_record(folder).runs.values())
    assert seconds_left(standing(folder, runs)) == 0
    for name in ("a_s1", "b_s0", "b_s1"):
        (folder / name / "state.json").unlink()
    assert seconds_left(standing(folder, runs)) == pytest.approx(3 * TOOK_S)
    assert seconds_left(standing(folder, runs), jobs=3) == pytest.approx(TOOK_S)
    assert seconds_left(standing(folder, runs), jobs=2) == seconds_left(standing(folder, runs), jobs=3, later=1)
    assert seconds_left(standing(folder, runs[1:])) is None
    queued(folder, "a_s0", state=DONE, started_s=10.0, ended_s=150.0)
    assert seconds_left(standing(folder, runs)) == pytest.approx(3 * 140.0)


def test_a_run_that_could_not_begin_has_its_reason_and_one_that_is_starting_is_not_failed(tmp_path):
    (run,) = planned_runs([], [0])
    settings = ("adapter.rank=999", *run.settings)
    queued(tmp_path, "s0", settings, state=FAILED, reason="readwrite-edit: adapter.rank is 999")
    (one,) = standing(tmp_path, [run], settings[:1])
    assert (one.word, one.reason, one.busy) == ("failed", "adapter.rank is 999", False)
    (one,) = standing(tmp_path, [run])
    assert (one.word, one.reason) == ("to do", ""), "tried with other settings"
    queued(tmp_path, "s0", run.settings, state=RUNNING, hostname="elsewhere", pid=7)
    (one,) = standing(tmp_path, [run])
    assert (one.word, one.reason, one.busy) == ("starting", "as pid 7", True)


# ---- the command


def sweep(capsys, *words):
    code = main(["sweep", *map(str, words)])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_a_dry_run_prints_the_grid_and_writes_nothing(tmp_path, capsys):
    recipe, folder = fake_recipe(tmp_path), tmp_path / "s"
    over = ("--over", "adapter.basis=principal,lora", "--set", "train.max_steps=2")
    words = ("--recipe", recipe, "--dir", folder, *over, "--seeds", 2, "--dry-run")
    code, said, _ = sweep(capsys, *words)
    assert code == 0 and "lora_s1" in said and "0 of 4 runs are finished" in said and "known once a first run" in said
    assert "in all runs: train.max_steps=2" in said and "one point: 4 of 4 runs" in said
    told = json.loads(sweep(capsys, *words, "--json")[1])
    assert len(told["runs"]) == 4 and told["seconds_left"] is None and not folder.exists()


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("--jobs", "2"), "this machine has 1 GPU; expected at most 1"),
        (("--jobs", "0"), "at least 1"),
        (("--seeds", "0"), "expected 1 to"),
        (("--json",), "--dry-run"),
        (("--over", "adapter.basis=nonsense"), "nonsense"),
        (("--over", "no.such.key=1"), "--over no.such.key=1"),
        (("--choose", "train.learning_rate"), "no axis of the sweep"),
        (("--set", "train.max_steps=many"), "max_steps"),
        (("--set", "train.seed=5"), "use --seeds"),
        (("--set", "data.path=nope.jsonl"), "nope.jsonl: no such file"),
        (("--dir", ""), "--dir: empty"),
    ],
)
def test_wrong_input_is_refused_before_anything_is_written(tmp_path, capsys, monkeypatch, words, complaint):
    monkeypatch.setattr("readwrite_edit.queue.device.gpu_count", lambda: 1)
    code, _, err = sweep(capsys, "--recipe", fake_recipe(tmp_path), "--dir", tmp_path / "s", *words)
    assert code == 2 and complaint in err and "Traceback" not in err and not (tmp_path / "s").exists()


def test_a_file_in_place_of_the_folder_is_refused(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    code, _, err = sweep(capsys, "--recipe", fake_recipe(tmp_path), "--dir", tmp_path / "file")
    assert code == 2 and f"{tmp_path / 'file'} is a file: name a folder" in err
