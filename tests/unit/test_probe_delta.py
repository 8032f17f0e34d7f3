"""Options of the delta probe from Python: each changes what it names and nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from readwrite_edit.errors import ModelError, RecipeError
from readwrite_edit.probe import Result, probe_delta
from readwrite_edit.statistics.moments import Moments, Statistics
from readwrite_edit.statistics.store import write_statistics
from tests.slow_delta import as_numpy, check_geometry, load, random_moments, share, write_moments
from tests.small_runs import write_model
from tests.tiny_models import TINY, tiny_tokenizer

WRITTEN = "model.layers.0.self_attn.o_proj"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Base, tuned and statistics; the down projection of layer 1 and the final norm are the same in both."""
    folder = tmp_path_factory.mktemp("pair")
    write_model(folder / "base")
    model = TINY["llama"]()
    generator = torch.Generator().manual_seed(0)
    for name, weight in model.named_parameters():
        if name not in ("model.layers.1.mlp.down_proj.weight", "model.norm.weight"):
            weight.data += 0.01 * torch.randn(weight.shape, generator=generator)
    model.save_pretrained(folder / "tuned")
    write_moments(folder / "s", random_moments(model))
    return folder


def probed(place: Path, **options: Any) -> Result:
    return probe_delta(str(place / "base"), str(place / "tuned"), **{"statistics": str(place / "s"), "k": 4, **options})


def written(result: Result) -> float:
    return float(result.frame.set_index("path").loc[WRITTEN, "write_fraction"])


def slow_written(place: Path, head: np.ndarray, k: int = 4) -> float:
    models = [load(place / name) for name in ("base", "tuned")]
    before, after = (as_numpy(model.get_submodule(WRITTEN).weight) for model in models)
    return share(np.linalg.svd(head)[2][:k] @ (after - before), after - before)


def unembedding(place: Path) -> tuple[np.ndarray, np.ndarray]:
    model = load(place / "base")
    return as_numpy(model.lm_head.weight), as_numpy(model.model.norm.weight)


def test_tables_are_tidy_and_in_the_order_of_the_model(place: Path) -> None:
    result = probed(place)
    assert (
        list(result.tables) == ["geometry", "curves", "heads", "tensors"] and result.frame is result.tables["geometry"]
    )
    roles = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    assert list(zip(result.frame["layer"], result.frame["module"], strict=True)) == [
        (layer, role) for layer in (0, 1) for role in roles
    ]
    for name, key in (
        ("geometry", ["layer", "module"]),
        ("curves", ["layer", "module", "side", "k"]),
        ("heads", ["layer", "module", "head", "side"]),
        ("tensors", ["name"]),
    ):
        table = result.tables[name]
        assert not table.duplicated(key).any() and all(column == column.lower() for column in table.columns), name
    assert check_geometry(
        result.tables, load(place / "base"), load(place / "tuned"), random_moments(TINY["llama"]()), 4
    )


def test_the_same_input_gives_the_same_tables_and_verdict(place: Path) -> None:
    first, second = probed(place), probed(place)
    assert all(first.tables[name].equals(second.tables[name]) for name in first.tables)
    assert (first.verdict, first.figures, first.notes) == (second.verdict, second.figures, second.notes)


def test_what_did_not_change_is_told_and_has_no_fraction(place: Path) -> None:
    result = probed(place)
    row = result.frame.set_index("path").loc["model.layers.1.mlp.down_proj"]
    assert row["norm"] == 0 and row["changed_fraction"] == 0 and np.isnan(row["write_fraction"])
    assert abs(row["cosine"] - 1) < 1e-9 and np.isnan(row["stable_rank"]) and row["step_dtype"] == "float32"
    status = result.tables["tensors"].set_index("name")["status"]
    assert status["model.norm.weight"] == status["model.layers.1.mlp.down_proj.weight"] == "identical"
    assert status["lm_head.weight"] == "changed"
    assert result.notes[-1] == "2 tensors are identical in both"
    assert result.notes[0].startswith("6 tensors changed beside the matrices to measure: lm_head.weight, ")


def test_roles_and_layers(place: Path) -> None:
    result = probed(place, modules=("o_proj", "q_proj"), layers=(1,))
    assert list(result.frame["module"]) == ["q_proj", "o_proj"] and set(result.frame["layer"]) == {1}
    whole = probed(place).frame
    expected = whole[whole["module"].isin(["q_proj", "o_proj"]) & (whole["layer"] == 1)]
    assert result.frame.reset_index(drop=True).equals(expected.reset_index(drop=True))
    with pytest.raises(ModelError, match="layer 2: llama here has layers 0 to 1"):
        probed(place, layers=(2,))


def test_gain_and_centring_of_the_unembedding(place: Path) -> None:
    head, gain = unembedding(place)
    centred = head - head.mean(axis=0)
    found = {
        (fold, centre): written(probed(place, gain=fold, centred_unembedding=centre))
        for fold in (True, False)
        for centre in (True, False)
    }
    for (fold, centre), value in found.items():
        expected = slow_written(place, (centred if centre else head) * (gain if fold else 1.0))
        assert abs(value - expected) < 1e-6, (fold, centre)
    assert len({round(value, 6) for value in found.values()}) == 4


def test_tokens_weighted_by_their_frequency(place: Path) -> None:
    text = "the cat sat on the mat " * 20
    (place / "text.txt").write_text(text)
    counts = np.bincount(tiny_tokenizer()(text, add_special_tokens=False)["input_ids"], minlength=128)
    head, gain = unembedding(place)
    mean = counts @ head / counts.sum()
    weighted = np.sqrt(counts)[:, None] * (head - mean) * gain
    result = probed(place, frequency=str(place / "text.txt"), tokens=len(text), max_length=46)
    assert abs(written(result) - slow_written(place, weighted)) < 1e-6
    assert abs(written(result) - written(probed(place))) > 1e-3


def test_a_mean_is_taken_out_of_the_statistics_only_when_asked(place: Path, tmp_path: Path) -> None:
    moments = random_moments(TINY["llama"]())
    shift = {name: 3 * np.eye(len(moment))[0] for name, moment in moments.items()}
    sites = {}
    for name, moment in moments.items():
        total = torch.tensor((moment + np.outer(shift[name], shift[name])) * 5)
        sites[name] = Moments(total, torch.tensor(shift[name]), 5, 0.1)
    write_statistics(tmp_path / "shifted", Statistics(sites, 5))
    plain, centred = (probed(place, statistics=str(tmp_path / "shifted"), centred=c) for c in (False, True))
    reference = probed(place)
    assert (centred.frame["read_fraction"] - reference.frame["read_fraction"]).abs().max() < 1e-6
    assert (plain.frame["read_fraction"] - reference.frame["read_fraction"]).abs().max() > 1e-3


def test_without_statistics_they_are_collected_once_and_kept(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("READWRITE_EDIT_CACHE", str(tmp_path / "cache"))
    options = {"statistics": None, "tokens": 300, "max_length": 32}
    first = probed(place, **options)
    kept = sorted((tmp_path / "cache" / "statistics").glob("*.safetensors"))
    before = [file.stat().st_mtime_ns for file in kept]
    assert kept and probed(place, **options).frame.equals(first.frame)
    assert [file.stat().st_mtime_ns for file in kept] == before
    writers = first.frame["module"].isin(["o_proj", "down_proj"])
    assert first.frame["read_fraction"].notna().equals(~writers)
    every = probed(place, all_inputs=True, **options)
    assert [file.stat().st_mtime_ns for file in kept] == before, "only what was lacking is collected"
    assert every.frame.loc[every.frame["norm"] > 0, "read_fraction"].notna().all()
    assert first.frame.loc[~writers, "read_fraction"].equals(every.frame.loc[~writers, "read_fraction"])


@pytest.mark.parametrize(("k", "expected"), [(1, 1), (48, 48), (60, 48), (500, 48)])
def test_a_row_reports_the_k_that_it_measures(place: Path, k: int, expected: int) -> None:
    """Spaces of 48 dimensions have no more directions; the down projection reads 80, and writes 48."""
    frame = probed(place, k=k, modules=("q_proj", "down_proj")).frame
    assert set(frame["k"]) == {expected}
    rows = frame[frame["norm"] > 0]
    assert (rows["read_isotropic_null"] - expected / rows["d_in"]).abs().max() < 1e-12
    assert expected < 48 or (rows["read_fraction"][rows["d_in"] == 48] - 1).abs().max() < 1e-6


def test_curves_as_long_as_asked_for(place: Path) -> None:
    assert probed(place, curve=7).tables["curves"]["k"].max() == 7
    assert probed(place, curve=2).tables["curves"]["k"].max() == 4, "k at least"
    assert set(probed(place).tables["curves"].groupby(["module", "side"])["k"].max()) == {48, 80}


def test_spectra_and_steps(place: Path) -> None:
    exact, none = probed(place), probed(place, spectra="none")
    assert set(exact.frame.loc[exact.frame["norm"] > 0, "spectrum"]) == {"exact"}
    assert none.frame["stable_rank"].isna().all() and none.frame["spectrum"].isna().all()
    coarse = probed(place, step_dtype="bfloat16")
    assert set(coarse.frame["step_dtype"]) == {"bfloat16"}
    changed = coarse.frame["norm"] > 0
    assert (coarse.frame["under_step_fraction"] > exact.frame["under_step_fraction"])[changed].all()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"k": 0}, "^k: got 0; expected at least 1$"),
        ({"spectra": "svd"}, "^spectra: got 'svd'; expected one of auto, exact, lanczos, none$"),
        ({"kk": 3}, "^delta: kk: unknown key; did you mean 'k'"),
        ({"layers": ("0",)}, r"^layers\[0\]: got '0'; expected a whole number$"),
    ],
)
def test_options_that_are_none(place: Path, options: dict[str, Any], words: str) -> None:
    with pytest.raises(RecipeError, match=words):
        probed(place, **options)


def test_a_model_alone_has_nothing_to_be_compared_with(place: Path) -> None:
    with pytest.raises(ModelError, match="is a model: name TUNED too"):
        probe_delta(str(place / "base"))


def test_nothing_is_printed_and_no_folder_is_made(
    place: Path, capfd: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    probed(place)
    assert capfd.readouterr() == ("", "") and list(tmp_path.iterdir()) == []
