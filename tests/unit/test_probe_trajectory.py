"""Trajectories: which checkpoints, in which order, and what planted deltas look like along them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor

from readwrite_edit.align.job import start_run
from readwrite_edit.errors import ModelError, ReadWriteEditError
from readwrite_edit.geometry import principal_basis
from readwrite_edit.models.loading import load_model, load_tokenizer
from readwrite_edit.models.pathways import Projection, find_pathways, weight_of
from readwrite_edit.models.source import parse_source
from readwrite_edit.models.unembedding import model_prediction_basis
from readwrite_edit.probe.job import resume_probe, start_probe
from readwrite_edit.probe.settings.base import TextSettings
from readwrite_edit.probe.settings.trajectory import TrajectorySettings
from readwrite_edit.probe.texts import probe_sequences
from readwrite_edit.probe.trajectory import downloads
from readwrite_edit.probe.trajectory import probe as trajectory
from readwrite_edit.probe.trajectory.checkpoints import Entry, list_checkpoints, naturally_sorted, steps_of
from readwrite_edit.probe.trajectory.downloads import Downloads
from readwrite_edit.probe.trajectory.probe import Step, probe_trajectory, steps_to_take
from readwrite_edit.statistics import collect_token_statistics
from tests.small_runs import as_recipe, small_recipe, write_model
from tests.tiny_models import TINY, tiny_tokenizer

K = 4
OPTIONS = {"k": K, "tokens": 400, "max_length": 64, "device": "cpu"}
ROLES = ("q_proj", "k_proj", "o_proj", "down_proj")


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("READWRITE_EDIT_CACHE", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """step2: a start; step4: it reads otherwise; step10: it writes otherwise too."""
    folder = tmp_path_factory.mktemp("planted")
    model = TINY["llama"]()
    _save(model, folder / "step2")
    for place, (side, roles) in {"step4": ("read", ROLES[:2]), "step10": ("write", ROLES[2:])}.items():
        for projection, basis in _bases(folder / "step2", side, roles):
            noise = torch.randn(projection.d_out, projection.d_in, generator=torch.Generator().manual_seed(3))
            inside = noise @ basis @ basis.T if side == "read" else basis @ basis.T @ noise
            model.get_submodule(projection.module).weight.data += 0.05 * inside
        _save(model, folder / place)
    return folder


def _save(model, folder: Path) -> None:
    model.save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)


def _bases(folder: Path, side: str, roles: tuple[str, ...]) -> list[tuple[Projection, Tensor]]:
    """Read or write basis of each projection, from the parts below the probes."""
    source = parse_source(str(folder))
    model, pathways = load_model(source, device="cpu"), find_pathways(TINY["llama"]())
    projections = pathways.select(roles)
    if side == "write":
        written = model_prediction_basis(model, pathways, K).float()
        return [(projection, written) for projection in projections]
    text = TextSettings(tokens=OPTIONS["tokens"], max_length=OPTIONS["max_length"])
    statistics = collect_token_statistics(model, probe_sequences(text, load_tokenizer(source)), projections)
    return [(p, principal_basis(statistics.second_moment(p.site), K).float()) for p in projections]


def _side(frame, side: str, against: str, step: int) -> set:
    roles = ROLES[:2] if side == "read" else ROLES[2:]
    rows = frame[(frame["step"] == step) & (frame["against"] == against) & frame["module"].isin(roles)]
    assert len(rows) == 2
    return {None if value != value else round(value, 4) for value in rows[f"{side}_fraction"]}


def test_a_planted_read_delta_and_then_a_planted_write_delta_show(planted: Path) -> None:
    result = probe_trajectory([str(planted / "step*")], **OPTIONS)
    frame = result.frame
    assert sorted(set(frame["step"])) == [4, 10]
    assert _side(frame, "read", "first", 4) == {1.0} and _side(frame, "write", "first", 4) == {None}
    assert _side(frame, "read", "previous", 10) == {None} and _side(frame, "write", "previous", 10) == {1.0}
    assert _side(frame, "read", "first", 10) == {1.0} and _side(frame, "write", "first", 10) == {1.0}
    assert result.verdict and "step10" in result.verdict


def test_the_second_checkpoint_stands_under_both_references(planted: Path) -> None:
    geometry = probe_trajectory([str(planted / "step*")], **OPTIONS).tables["geometry"]
    second = geometry[geometry["step"] == 4]
    first, previous = (second[second["against"] == name].drop(columns="against") for name in ("first", "previous"))
    assert len(first) == 14 and first.reset_index(drop=True).equals(previous.reset_index(drop=True))


@pytest.mark.parametrize("against", ["first", "previous"])
def test_one_reference_alone(planted: Path, against: str) -> None:
    both = probe_trajectory([str(planted / "step*")], **OPTIONS).tables["geometry"]
    alone = probe_trajectory([str(planted / "step*")], against=against, **OPTIONS).tables["geometry"]
    expected = both[both["against"] == against].reset_index(drop=True)
    assert alone.reset_index(drop=True).equals(expected)


def test_the_norm_of_a_module_is_that_of_its_layers_together(planted: Path) -> None:
    frame = probe_trajectory([str(planted / "step*")], **OPTIONS).frame
    row = frame[(frame["step"] == 10) & (frame["against"] == "first") & (frame["module"] == "o_proj")].iloc[0]
    models = [load_model(parse_source(str(planted / name)), device="cpu") for name in ("step2", "step10")]
    chosen = find_pathways(models[0]).select(["o_proj"])
    squares = [float((weight_of(models[1], p) - weight_of(models[0], p)).square().sum()) for p in chosen]
    assert row["layers"] == 2 and row["norm"] == pytest.approx(sum(squares) ** 0.5, rel=1e-5)


def test_the_basis_is_of_the_last_checkpoint_where_asked(planted: Path, tmp_path: Path) -> None:
    (tmp_path / "early").symlink_to(planted / "step2")
    (tmp_path / "late").symlink_to(planted / "step4")
    names = [str(tmp_path / "early"), str(tmp_path / "late")]
    by_last = probe_trajectory(names, basis="last", **OPTIONS).tables["geometry"]
    turned = probe_trajectory(names[::-1], **OPTIONS).tables["geometry"]
    assert not by_last.equals(probe_trajectory(names, **OPTIONS).tables["geometry"])
    columns = ["layer", "d_in", "read_fraction", "read_energy_null"]
    torch.testing.assert_close(
        torch.tensor(by_last[columns].to_numpy()), torch.tensor(turned[columns].to_numpy()), equal_nan=True
    )


def _adapters(folder: Path, base: Path) -> list[Path]:
    """Three LoRA checkpoints on one base, each with factors of its own."""
    places = []
    for number in (1, 2, 3):
        model = TINY["llama"]()
        model.name_or_path = str(base)
        model.config._name_or_path = str(base)
        peft = get_peft_model(model, LoraConfig(r=2, lora_alpha=6, target_modules=["q_proj", "o_proj"]))
        draw = torch.Generator().manual_seed(number)
        for name, parameter in sorted(peft.named_parameters()):
            if "lora_" in name:
                parameter.data = torch.randn(parameter.shape, generator=draw)
        peft.save_pretrained(folder / f"checkpoint-{number}")
        places.append(folder / f"checkpoint-{number}")
    return places


def _merged(base: Path, adapter: Path) -> dict[str, Tensor]:
    from peft import PeftModel

    model = PeftModel.from_pretrained(load_model(parse_source(str(base)), device="cpu"), str(adapter))
    return {name: value.double() for name, value in model.merge_and_unload().state_dict().items()}


def test_adapters_of_one_base_differ_by_their_low_rank_difference(planted: Path, tmp_path: Path) -> None:
    places = _adapters(tmp_path, planted / "step2")
    geometry = probe_trajectory([str(tmp_path / "checkpoint-*")], **OPTIONS).tables["geometry"]
    weights = [_merged(planted / "step2", place) for place in places]
    assert sorted(set(geometry["step"])) == [2, 3] and set(geometry["module"]) == {"q_proj", "o_proj"}
    for (step, against), rows in geometry.groupby(["step", "against"]):
        before = 0 if against == "first" else step - 2
        for row in rows.itertuples():
            delta = weights[step - 1][f"{row.path}.weight"] - weights[before][f"{row.path}.weight"]
            assert row.norm == pytest.approx(float(delta.norm()), rel=1e-5)


def test_adapters_after_their_base_begin_at_step_0(planted: Path, tmp_path: Path) -> None:
    places = _adapters(tmp_path, planted / "step2")
    frame = probe_trajectory([str(planted / "step2"), *map(str, places)], **OPTIONS).frame
    assert sorted(set(frame["step"])) == [1, 2, 3]


def test_the_checkpoints_of_a_run_begin_at_its_base(tmp_path: Path) -> None:
    train = {"max_steps": 3, "save_steps": 1, "save_total_limit": None}
    run = tmp_path / "run"
    start_run(as_recipe(small_recipe(tmp_path, train=train)), "small", run)
    (run / "checkpoints" / "checkpoint-2" / "complete.json").unlink()
    result = probe_trajectory([str(run)], **OPTIONS)
    assert sorted(set(result.frame["step"])) == [1, 3]
    assert any("checkpoint-2 is left out" in note for note in result.notes)
    end = json.loads((run / "geometry.jsonl").read_text().splitlines()[-1])
    row = result.tables["geometry"].query("step == 3 and against == 'first'").set_index(["layer", "module"])
    assert row.loc[(end["layer"], end["module"]), "norm"] == pytest.approx(end["norm"], rel=1e-4)


def test_names_are_sorted_by_the_number_at_their_end() -> None:
    shell = ["out/checkpoint-10", "out/checkpoint-100/", "out/checkpoint-2"]
    assert naturally_sorted(shell) == ["out/checkpoint-2", "out/checkpoint-10", "out/checkpoint-100/"]
    assert naturally_sorted(["base", "out/c-3", "out/c-1", "end"]) == ["base", "out/c-1", "out/c-3", "end"]
    assert naturally_sorted(["b", "a"]) == ["b", "a"], "an order without numbers is the user's"


@pytest.mark.parametrize(
    ("names", "steps"),
    [
        (["o/p@step0", "o/p@step512", "o/p@step1000"], [0, 512, 1000]),
        (["SmolLM2-135M", "out/checkpoint-8", "out/checkpoint-16"], [0, 8, 16]),
        (["llama-2", "out/checkpoint-8", "out/checkpoint-16"], [0, 8, 16]),
        (["early", "late"], [0, 1]),
        (["a-3", "b-7", "c-1"], [0, 1, 2]),
        (["s5", "s5"], [0, 1]),
    ],
)
def test_steps_are_read_off_the_names_where_they_rise(names: list[str], steps: list[int]) -> None:
    assert steps_of(names) == steps


def test_each_delta_comes_once_and_in_the_order_of_the_checkpoints() -> None:
    assert steps_to_take(4, "both") == [
        Step(0, 1, "first"),
        Step(0, 2, "first"),
        Step(1, 2, "previous"),
        Step(0, 3, "first"),
        Step(2, 3, "previous"),
    ]
    assert [(step.before, step.after) for step in steps_to_take(4, "previous")] == [(0, 1), (1, 2), (2, 3)]
    assert [(step.before, step.after) for step in steps_to_take(4, "first")] == [(0, 1), (0, 2), (0, 3)]


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (lambda folder: [f"{folder}/none-*"], "no folder matches"),
        (lambda folder: [f"{folder}/step2"], "a trajectory takes 2 or more"),
        (lambda folder: [f"{folder}/step2", f"{folder}/step3"], "no such folder"),
        (lambda folder: [f"{folder}/step2", f"{folder}/empty"], "no config.json"),
    ],
)
def test_a_checkpoint_that_is_not_there_is_refused(
    planted: Path, texts: Callable[[Path], list[str]], message: str
) -> None:
    (planted / "empty").mkdir(exist_ok=True)
    with pytest.raises(ReadWriteEditError, match=message) as caught:
        probe_trajectory(texts(planted), **OPTIONS)
    assert caught.value.exit_code == 2


def test_a_run_of_another_kind_is_refused(planted: Path, tmp_path: Path) -> None:
    start_probe(_settings(planted), tmp_path / "run", "command")
    with pytest.raises(ModelError, match="of kind probe"):
        list_checkpoints([str(tmp_path / "run")])


def _settings(folder: Path) -> TrajectorySettings:
    return TrajectorySettings.checked({"checkpoints": [str(folder / "step*")], **OPTIONS})


def test_a_resumed_probe_measures_what_is_missing_and_gives_the_same(
    planted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = start_probe(_settings(planted), tmp_path / "run", "command").result
    assert whole is not None
    lines = (tmp_path / "run" / "deltas.jsonl").read_text().splitlines(keepends=True)
    assert len(lines) == 3
    (tmp_path / "run" / "deltas.jsonl").write_text("".join(lines[:2]))
    state = json.loads((tmp_path / "run" / "state.json").read_text())
    (tmp_path / "run" / "state.json").write_text(json.dumps(state | {"status": "stopped", "step": 2}))
    measured, compare = [], trajectory.compare
    monkeypatch.setattr(
        trajectory,
        "compare",
        lambda before, after, **options: (
            measured.append((before.name, after.name)),
            compare(before, after, **options),
        )[1],
    )
    again = resume_probe(tmp_path / "run").result
    assert again is not None
    assert [tuple(Path(name).name for name in pair) for pair in measured] == [("step2", "step2"), ("step4", "step10")]
    for name, table in whole.tables.items():
        assert table.equals(again.tables[name]), name


class FakeHub:
    """Revisions of one repository: folders that appear in a cache when they are fetched."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, cached: set[str]) -> None:
        self.cached = set(cached)
        self.deleted: list[str] = []
        monkeypatch.setattr(downloads, "scan_cache_dir", lambda: self)
        self.repos = [self]

    @property
    def revisions(self) -> list[SimpleNamespace]:
        weights = [SimpleNamespace(file_name="model.safetensors")]
        return [SimpleNamespace(snapshot_path=Path("cache") / name, files=weights) for name in self.cached]

    def delete_revisions(self, name: str) -> FakeHub:
        self.deleted.append(name)
        self.cached.discard(name)
        return self

    def execute(self) -> None:
        """Nothing is on a disk."""


def test_only_what_was_downloaded_is_deleted(monkeypatch: pytest.MonkeyPatch) -> None:
    hub = FakeHub(monkeypatch, cached={"old"})

    def resolve(entry: Entry) -> SimpleNamespace:
        name = entry.place.rpartition("@")[2]
        hub.cached.add(name)
        return SimpleNamespace(folder=Path("cache") / name)

    monkeypatch.setattr(Entry, "resolve", resolve)
    ours = Downloads()
    entries = {name: Entry(name, f"o/m@{name}", 0) for name in ("old", "new", "newer")}
    for entry in entries.values():
        ours.fetch(entry)
    for name in ("old", "new"):
        ours.discard(entries[name])
    assert hub.deleted == ["new"]
    ours.discard_all()
    assert hub.deleted == ["new", "newer"] and hub.cached == {"old"}


def test_a_checkpoint_is_discarded_once_no_delta_needs_it(planted: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    events: list[str] = []
    monkeypatch.setattr(Entry, "is_local", property(lambda _entry: False))
    monkeypatch.setattr(trajectory, "parse_model", lambda _text: None)
    fetch = Downloads.fetch

    def fetched(self: Downloads, entry: Entry):
        if entry not in self._found:
            events.append(f"+{Path(entry.name).name}")
        return fetch(self, entry)

    monkeypatch.setattr(Downloads, "fetch", fetched)
    monkeypatch.setattr(
        Downloads, "discard", lambda self, entry: (self._found.pop(entry), events.append(f"-{Path(entry.name).name}"))
    )
    monkeypatch.setattr(Downloads, "discard_all", lambda _self: events.append("-all"))
    probe_trajectory([str(planted / "step*")], discard=True, **OPTIONS)
    assert events == ["+step2", "+step4", "+step10", "-step2", "-step4", "-all"]


def test_identical_checkpoints_have_a_norm_of_zero_and_no_fraction(tmp_path: Path) -> None:
    for name in ("step1", "step2"):
        write_model(tmp_path / name)
    result = probe_trajectory([str(tmp_path / "step*")], **OPTIONS)
    assert result.tables["geometry"]["read_fraction"].isna().all()
    assert (result.frame["norm"] == 0).all()
