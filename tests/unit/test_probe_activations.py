"""The activations probe against plain computations, and the statistics files that it hands on."""

from __future__ import annotations

import json
import math
import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from readwrite_edit.errors import DataError, ModelError, RecipeError
from readwrite_edit.models.pathways import find_pathways, module_of
from readwrite_edit.models.source import parse_source
from readwrite_edit.probe.activations import probe_activations, projections_of_sites
from readwrite_edit.probe.job import start_probe
from readwrite_edit.probe.settings.activations import ActivationsSettings
from readwrite_edit.probe.texts import probe_sequences
from readwrite_edit.statistics import Moments, RunningMoments, Statistics, open_statistics, write_statistics
from tests.small_runs import WORDS, write_model
from tests.tiny_models import TINY, tiny_tokenizer

OPTIONS = {"tokens": 800, "max_length": 40, "batch_size": 4}


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("text") / "text.txt"
    path.write_text("\n\n".join(" ".join(WORDS[start:] + WORDS[:start]) for start in range(len(WORDS))))
    return path


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("models") / "llama")


def inputs_by_hand(name: str, roles: list[str], sequences: list[list[int]]) -> dict[str, Tensor]:
    """What the first member of each site reads, one sequence at a time, (tokens, d)."""
    model = TINY[name]()
    caught: dict[str, list[Tensor]] = {}
    for projection in find_pathways(model).select(roles):

        def catch(_module, args, site=projection.site):
            caught.setdefault(site, []).append(args[0][0].detach().double())

        module_of(model, projection).register_forward_pre_hook(catch)
    with torch.no_grad():
        for sequence in sequences:
            model(input_ids=torch.tensor([sequence]))
    return {site: torch.cat(rows) for site, rows in caught.items()}


def sequences_of(text: Path) -> list[list[int]]:
    settings = ActivationsSettings(model="-", text=str(text), **OPTIONS)
    return probe_sequences(settings, tiny_tokenizer())


@pytest.mark.parametrize("name", ["llama", "gpt2", "gpt_neox", "gemma3_text"])
def test_the_table_equals_a_plain_computation(name: str, text: Path, tmp_path: Path) -> None:
    found = probe_activations(str(write_model(tmp_path / name, name)), text=str(text), **OPTIONS)
    rows = inputs_by_hand(name, ["q_proj"], sequences_of(text))
    assert len(found.frame) == len(rows) == 2
    for row, x in zip(found.frame.to_dict("records"), rows.values(), strict=True):
        values = torch.linalg.eigvalsh(x.T @ x / len(x)).flip(0).clamp_min(0)
        share = values / values.sum()
        assert (row["site"], row["d"], row["tokens"]) == ("attention_input", x.shape[1], len(x))
        assert row["trace"] == pytest.approx(float(values.sum()), rel=1e-5)
        entropy = -float((share * share.clamp_min(1e-300).log()).sum())
        assert row["effective_rank"] == pytest.approx(math.exp(entropy), rel=1e-3)
        assert row["participation_ratio"] == pytest.approx(1 / float(share.square().sum()), rel=1e-4)
        assert row["energy_top_1"] == pytest.approx(float(share[0]), rel=1e-4)
        assert row["energy_top_16"] == pytest.approx(float(share[:16].sum()), rel=1e-4)
        mean = x.mean(dim=0).square().sum() / x.square().sum(dim=1).mean()
        assert row["mean_share"] == pytest.approx(float(mean), rel=1e-4)


def test_the_share_of_first_positions_needs_first_positions(llama: Path, text: Path) -> None:
    counted = probe_activations(str(llama), text=str(text), **OPTIONS).frame
    left_out = probe_activations(str(llama), text=str(text), first_position=False, **OPTIONS).frame
    assert counted["first_position_share"].between(0, 1).all() and left_out["first_position_share"].isna().all()
    assert (left_out["tokens"] < counted["tokens"]).all()


def test_the_spectra_are_those_of_the_covariance_when_centred(llama: Path, text: Path) -> None:
    plain = probe_activations(str(llama), text=str(text), **OPTIONS).frame
    centred = probe_activations(str(llama), text=str(text), centred=True, **OPTIONS).frame
    kept = 1 - plain["mean_share"]
    assert centred["trace"].to_numpy() == pytest.approx((plain["trace"] * kept).to_numpy(), rel=1e-5)
    assert centred["mean_share"].to_numpy() == pytest.approx(plain["mean_share"].to_numpy())


def test_convergence_is_measured_at_growing_parts_of_the_text(llama: Path, text: Path) -> None:
    found = probe_activations(str(llama), text=str(text), **OPTIONS)
    table = found.tables["convergence"]
    layer = table[table["layer"] == 1]
    tokens = layer["tokens"].tolist()
    assert tokens == sorted(tokens) and tokens[-1] == 800 and len(tokens) == 4
    assert all(100 * (2**step) <= count < 100 * (2**step) + 80 for step, count in enumerate(tokens[:3]))
    assert layer["overlap_4"].iloc[-1] == pytest.approx(1) and (layer["overlap_4"].iloc[:-1] < 0.9999).all()
    assert layer["overlap_64"].isna().all(), "64 directions of 48 do not exist"
    last = found.frame[found.frame["layer"] == 1].iloc[0]
    assert layer["effective_rank"].iloc[-1] == pytest.approx(last["effective_rank"])


def test_an_early_part_of_the_text_is_that_part_alone(llama: Path, text: Path) -> None:
    """The first snapshot is taken after the first batch: its spectrum is that of those sequences."""
    options = {**OPTIONS, "shares": [0.1]}
    early = probe_activations(str(llama), text=str(text), **options).tables["convergence"].iloc[0]
    assert 80 <= early["tokens"] < 160
    ranks = []
    for start in range(len(sequences_of(text))):
        batch = sorted(sequences_of(text), key=len, reverse=True)[start : start + 2]
        x = next(iter(inputs_by_hand("llama", ["q_proj"], batch).values()))
        share = torch.linalg.eigvalsh(x.T @ x).clamp_min(0)
        share = share / share.sum()
        ranks.append(math.exp(-float((share * share.clamp_min(1e-300).log()).sum())))
    assert any(early["effective_rank"] == pytest.approx(rank, rel=1e-4) for rank in ranks)


@pytest.mark.parametrize("centred", [True, False])
def test_running_moments_are_those_of_the_tokens_so_far(centred: bool) -> None:
    rows = torch.randn(30, 5, generator=torch.Generator().manual_seed(0)) + 2
    running = RunningMoments()
    for half, part in enumerate((rows[:20], rows[20:])):
        running.add_rows(part, half)
    expected = torch.cov(rows.T.double(), correction=0) if centred else rows.T.double() @ rows.double() / 30
    torch.testing.assert_close(running.moment(centred=centred), expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(running.finish("x").second_moment(centred=centred), expected, rtol=1e-5, atol=1e-5)


def test_every_kind_of_input_can_be_asked_for(llama: Path, text: Path) -> None:
    sites = ["mlp_hidden", "attention_output", "mlp_input"]
    found = probe_activations(str(llama), text=str(text), sites=sites, layers=[1], spectrum=5, **OPTIONS)
    assert found.frame.set_index("site")["d"].to_dict() == {"attention_output": 48, "mlp_input": 48, "mlp_hidden": 80}
    spectra = found.tables["spectra"]
    assert spectra.groupby("site")["index"].max().eq(5).all() and set(spectra["layer"]) == {1}
    assert spectra.groupby("site")["cumulative"].is_monotonic_increasing.all()
    held = spectra[spectra["index"] == 1].set_index("site")["cumulative"]
    assert held.to_dict() == pytest.approx(found.frame.set_index("site")["energy_top_1"].to_dict())


def test_an_input_that_no_matrix_reads_is_refused() -> None:
    with pytest.raises(ModelError, match="experts"):
        projections_of_sites(find_pathways(TINY["mixtral"]()), ["mlp_input"])
    assert len(projections_of_sites(find_pathways(TINY["gpt2"]()), ["mlp_input"])) == 2, "gpt2 has no gate, but up"


def test_wrong_options_are_refused_before_anything_is_loaded() -> None:
    for options in ({"sites": ["inputs"]}, {"shares": [1.5]}, {"sites": []}, {"tokns": 5}):
        with pytest.raises(RecipeError):
            probe_activations("nowhere", **options)


def test_the_run_keeps_statistics_for_other_probes(llama: Path, text: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "kept.safetensors"
    settings = ActivationsSettings(model=str(llama), text=str(text), save=str(elsewhere), **OPTIONS)
    start_probe(settings, tmp_path / "run", "command")
    kept, copy = (open_statistics(path) for path in (tmp_path / "run" / "statistics.safetensors", elsewhere))
    by_hand = inputs_by_hand("llama", ["q_proj"], sequences_of(text))
    assert list(kept.sites) == list(copy.sites) == list(by_hand) and kept.tokens == 800
    for site, x in by_hand.items():
        torch.testing.assert_close(kept.second_moment(site), x.T @ x / len(x), rtol=1e-5, atol=1e-5)
        assert torch.equal(kept.sites[site].total, copy.sites[site].total)
    assert kept.origin["kind"] == "inputs" and kept.origin["text"] == str(text)
    assert kept.origin["model"] == str(parse_source(str(llama))) and len(kept.origin["weights_sha256"]) == 64


def made(path: Path) -> Path:
    sites = {
        f"site {index}": Moments(torch.eye(3).double() * index, torch.ones(3).double(), 7, math.nan, {4: 0.5})
        for index in (1, 2)
    }
    write_statistics(path, Statistics(sites, 7, origin={"kind": "inputs"}))
    return path


def test_an_opened_file_gives_back_what_was_written(tmp_path: Path) -> None:
    found = open_statistics(made(tmp_path / "file"), centred=True)
    assert (list(found.sites), found.tokens, found.centred) == (["site 1", "site 2"], 7, True)
    moments = found.sites["site 2"]
    assert (moments.count, moments.overlap) == (7, {4: 0.5}) and math.isnan(moments.first_position_share)
    torch.testing.assert_close(found.second_moment("site 2"), torch.eye(3).double() * 2 / 7 - 1)
    with pytest.raises(DataError, match="'site 3'"):
        found.second_moment("site 3")


def test_a_file_is_read_site_by_site(tmp_path: Path) -> None:
    """A damaged site does not keep the others from being read, nor is it read before it is asked for."""
    path = made(tmp_path / "file")
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    found = open_statistics(path)
    good, bad = [], []
    for site in found.sites:
        try:
            good.append(found.sites[site])
        except DataError as error:
            bad.append(str(error))
    assert len(good) == len(bad) == 1 and "not those that were written" in bad[0]


@pytest.mark.parametrize("length", [0, 5, 60, -1])
def test_a_file_cut_short_is_refused(tmp_path: Path, length: int) -> None:
    path = made(tmp_path / "file")
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(DataError, match="not a whole safetensors file"):
        open_statistics(path)


def test_a_pickle_under_another_name_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "statistics.safetensors"
    path.write_bytes(pickle.dumps({"site": list(range(100))}))
    with pytest.raises(DataError, match="not a whole safetensors file"):
        open_statistics(path)


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    for path in (tmp_path / "nothing", tmp_path):
        with pytest.raises(DataError, match="no such statistics file"):
            open_statistics(path)


def test_a_file_of_weights_is_no_statistics(tmp_path: Path) -> None:
    save_file({"weight": torch.eye(2)}, tmp_path / "model.safetensors")
    with pytest.raises(DataError, match="metadata lacks them"):
        open_statistics(tmp_path / "model.safetensors")


def test_an_empty_store_is_refused(tmp_path: Path) -> None:
    write_statistics(tmp_path / "empty", Statistics({}, 5))
    with pytest.raises(DataError, match="empty statistics store"):
        open_statistics(tmp_path / "empty")


@pytest.mark.parametrize("meta", ["{", "[]", '{"tokens": 5}', '{"tokens": "x", "sites": {}}', '{"sites": {"s": 1}}'])
def test_metadata_that_can_not_be_read_are_refused(tmp_path: Path, meta: str) -> None:
    save_file({"s.total": torch.eye(2), "s.mean": torch.zeros(2)}, tmp_path / "file", metadata={"statistics": meta})
    with pytest.raises(DataError, match="metadata"):
        open_statistics(tmp_path / "file")


@pytest.mark.parametrize(
    ("total", "count"), [(torch.zeros(2, 3), 5), (torch.eye(2), 0), (torch.eye(2), "5"), (torch.eye(2).int(), 5)]
)
def test_sums_that_are_no_moments_are_refused(tmp_path: Path, total: Tensor, count: object) -> None:
    fields = {"count": count, "first_position_share": 0.0, "overlap": {}, "sha256": "0"}
    meta = json.dumps({"tokens": 5, "sites": {"s": fields, "absent": fields}})
    tensors = {"s.total": total, "s.mean": torch.zeros(2)}
    save_file(tensors, tmp_path / "file", metadata={"statistics": meta})
    for site in ("s", "absent"):
        with pytest.raises(DataError, match="can not be read"):
            open_statistics(tmp_path / "file").sites[site]
