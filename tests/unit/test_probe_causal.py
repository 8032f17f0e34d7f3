"""The causal probe: effects, tests of significance, texts, resuming."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats

from readwrite_edit.errors import DataError, ModelError, RecipeError
from readwrite_edit.interventions.changes import Edit
from readwrite_edit.interventions.controls import random_directions
from readwrite_edit.interventions.inference import bootstrap, rank_p_value, sign_flip_p_value
from readwrite_edit.interventions.kl import kl_and_change
from readwrite_edit.job.session import Session, StopAskedError
from readwrite_edit.models.language_head import LanguageModelHead
from readwrite_edit.models.pathways import find_pathways
from readwrite_edit.models.unembedding import token_direction
from readwrite_edit.probe.causal import probe as causal
from readwrite_edit.probe.causal.effects import EffectMeter
from readwrite_edit.probe.causal.matrices import neighbour_of
from readwrite_edit.probe.causal.probe import default_layers, prepare, probe_causal
from readwrite_edit.probe.causal.tables import verdict
from readwrite_edit.probe.settings.causal import CausalSettings
from tests.small_runs import write_model
from tests.tiny_models import TINY, VOCABULARY

SMALL = {
    "layers": (0, 1),
    "controls": 9,
    "others": 2,
    "sequences": 4,
    "length": 10,
    "tokens": 400,
    "max_length": 64,
    "edits": 4,
}


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory) -> str:
    return str(write_model(tmp_path_factory.mktemp("causal") / "model"))


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch) -> None:
    monkeypatch.setenv("READWRITE_EDIT_CACHE", str(tmp_path_factory.getbasetemp() / "causal-cache"))


@pytest.fixture(scope="module")
def result(model_folder, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("READWRITE_EDIT_CACHE", str(tmp_path_factory.getbasetemp() / "causal-cache"))
        return probe_causal(model_folder, **SMALL)


def head_and_states(scale: float = 0.1) -> tuple[LanguageModelHead, torch.Tensor, torch.Tensor]:
    """A head, base states and edited states, (7, 16) each."""
    generator = torch.Generator().manual_seed(0)
    head = LanguageModelHead(torch.randn(50, 16, generator=generator))
    base = torch.randn(7, 16, generator=generator)
    return head, base, base + scale * torch.randn(7, 16, generator=generator)


@pytest.mark.parametrize("scale", [0.01, 0.3, 30.0])
def test_kl_and_change_are_the_plain_formulas(scale: float) -> None:
    head, base, edited = head_and_states(scale)
    targets = torch.arange(7)
    log_p = head.logits(base).log_softmax(1)
    kl, change = kl_and_change(head.logits(edited), log_p.exp(), log_p, targets)
    wide = [head.logits(states).double().log_softmax(1) for states in (base, edited)]
    expected = (wide[0].exp() * (wide[0] - wide[1])).sum(1)
    expected_change = (wide[1] - wide[0]).gather(1, targets.unsqueeze(1)).squeeze(1)
    assert torch.allclose(kl.double(), expected, rtol=2e-4, atol=1e-7)
    assert torch.allclose(change.double(), expected_change, rtol=1e-4, atol=1e-4)
    assert (kl > 0).all()


def test_kl_is_zero_without_a_change_and_never_negative() -> None:
    head, base, _ = head_and_states()
    log_p = head.logits(base).log_softmax(1)
    for scale in (0.0, 1e-6, 1e-5, 1e-4):
        moved = base + scale * torch.ones_like(base)
        kl, _ = kl_and_change(head.logits(moved), log_p.exp(), log_p, torch.zeros(7, dtype=torch.long))
        assert (kl >= 0).all()
        assert scale or kl.max() < 1e-10


def meter_and_edits(epsilons: tuple[float, ...]) -> tuple[EffectMeter, list[Edit]]:
    model = TINY["llama"]()
    projection = find_pathways(model).select(["q_proj"], [1])[0]
    ids = torch.randint(3, VOCABULARY, (4, 8), generator=torch.Generator().manual_seed(1)).tolist()
    reads, writes = random_directions(projection.d_in, 1, seed=0)[0], random_directions(projection.d_out, 1, seed=1)[0]
    return EffectMeter(model, ids, [projection]), [Edit(projection, epsilon, reads, writes) for epsilon in epsilons]


def test_effects_vanish_at_zero_and_grow_quadratically() -> None:
    meter, edits = meter_and_edits((0.0, 0.01, 0.02))
    kl = meter.measure(edits).kl.mean(dim=1)
    assert float(kl[0]) < 1e-10
    assert float(kl[2] / kl[1]) == pytest.approx(4, rel=0.05)


def test_effects_do_not_depend_on_the_batch() -> None:
    meter, edits = meter_and_edits((0.3, -0.5, 1.0))
    together = meter.measure(edits)
    apart = torch.cat([meter.measure([edit]).kl for edit in edits])
    assert together.kl.shape == (3, 4)
    assert torch.allclose(together.kl, apart, rtol=1e-4)


def test_a_suffix_that_differs_is_not_used() -> None:
    meter, edits = meter_and_edits((0.5,))
    assert meter.check_suffix(edits).exact
    assert meter.skips_layers
    meter._base.states[1].add_(1.0)
    assert not meter.check_suffix(edits).exact
    assert not meter.skips_layers


def test_input_energy_is_the_mean_square() -> None:
    meter, edits = meter_and_edits((1.0,))
    projection, v = edits[0].projection, edits[0].reads
    x = meter._base.inputs[projection.module].double()
    assert float(meter.input_energy(projection, v.unsqueeze(0))[0]) == pytest.approx(float((x @ v).square().mean()))


def test_rank_p_values_are_uniform_for_a_direction_like_the_others() -> None:
    generator = np.random.default_rng(0)
    draws = generator.lognormal(size=(4000, 20))
    found = np.array([rank_p_value(row[0], row[1:]) for row in draws])
    assert np.bincount((found * 20).round().astype(int), minlength=21)[1:].min() > 130  # 200 expected at each of 20
    assert (found <= 0.05).mean() == pytest.approx(0.05, abs=0.015)


def test_smallest_and_largest_rank_p_value() -> None:
    controls = np.arange(99.0)
    assert rank_p_value(1000.0, controls) == 1 / 100
    assert rank_p_value(-1.0, controls) == 1.0
    assert rank_p_value(98.0, controls) == 2 / 100  # a tie counts against
    assert rank_p_value(1000.0, np.append(controls[1:], np.nan)) == 2 / 100
    assert np.isnan(rank_p_value(np.nan, controls))


def test_sign_flips_are_over_prompts() -> None:
    generator = np.random.default_rng(1)
    found = [sign_flip_p_value(generator.normal(size=12), seed=seed) for seed in range(200)]
    assert stats.kstest(found, "uniform").pvalue > 0.01
    assert sign_flip_p_value(np.ones(16), seed=0) < 0.001
    assert sign_flip_p_value(np.ones(3), seed=0) == pytest.approx(1 / 8, abs=0.02)  # three prompts can show no more
    assert sign_flip_p_value(-np.ones(16), seed=0) == 1.0


def test_bootstrap_covers_the_mean_over_prompts() -> None:
    generator = np.random.default_rng(2)
    covered, ratios = 0, []
    for seed in range(200):
        tested, controls = generator.exponential(size=16), generator.exponential(size=(9, 16))
        interval = bootstrap(tested, controls, seed=seed)
        covered += interval.low <= 1 <= interval.high
        ratios.append(interval.ratio_low <= tested.mean() / np.median(controls.mean(axis=1)) <= interval.ratio_high)
    assert 0.8 < covered / 200 < 0.99
    assert np.mean(ratios) > 0.95


def test_tables_have_the_documented_columns(result) -> None:
    assert list(result.frame.columns[:8]) == (
        ["layer", "module", "side", "direction", "factor", "matching", "epsilon", "relative_norm"]
    )
    assert {"kl", "low", "high", "control_median", "ratio", "p_value", "q_value", "n_controls"} <= set(result.frame)
    assert len(result.frame) == 2 * 2 + 2 * 3  # read: two matchings; write: two and the output; two layers
    dose = result.tables["dose"]
    assert {"principal", "sign_flip", "random", "rotated", "other_layer"} <= set(dose.family)


def test_effects_follow_from_the_controls(result) -> None:
    controls = result.tables["controls"]
    for row in result.frame[result.frame.factor == "input"].itertuples():
        here = controls[(controls.layer == row.layer) & (controls.module == row.module) & (controls.dose == 0.03)]
        tested = here[here.family == "principal"].kl.item()
        others = here[(here.family == "random") & (here.matching == row.matching)].kl
        assert row.kl == pytest.approx(tested)
        assert row.control_median == pytest.approx(others.median())
        assert row.p_value == pytest.approx((1 + (others >= tested).sum()) / 10)
        assert row.low <= row.kl <= row.high


def test_energy_matching_holds_in_the_table(result) -> None:
    controls = result.tables["controls"]
    matched = controls[(controls.matching != "frobenius") & (controls.dose == 0.03)]
    for _, rows in matched.groupby(["layer", "module"]):
        assert rows.output_energy.max() == pytest.approx(rows.output_energy.min(), rel=1e-6)
    for _, rows in controls[controls.matching == "frobenius"].groupby("dose"):
        assert np.allclose(rows.relative_norm, rows.dose)


def effects_frame(q: float, below: float = 1.0) -> pd.DataFrame:
    common = {"q_value": q, "p_value_below": below, "ratio": 3.0}
    places = [(side, matching) for side in ("read", "write") for matching in ("energy", "frobenius")]
    places.append(("write", "both"))
    return pd.DataFrame([{"side": side, "matching": matching, **common} for side, matching in places])


def test_verdict_says_shown_only_where_it_is() -> None:
    assert verdict(effects_frame(0.01)).count(": shown (1 of 1") == 3
    assert verdict(effects_frame(0.2)).count("not shown (0 of 1") == 3
    assert verdict(effects_frame(0.2)).count("3 where only the norm is matched") == 2
    assert "1 below nearly all controls" in verdict(effects_frame(1.0, 0.01))


class FolderSession(Session):
    """A session that keeps blocks in a folder and stops after a number of steps."""

    def __init__(self, place: Path, stop_after: int = 10**9) -> None:
        super().__init__()
        self.place, self.left = place, stop_after

    @property
    def folder(self) -> Path:
        return self.place

    def advance(self, done: int, total: int, unit: str = "step") -> None:
        assert 0 < done <= total
        self.left -= 1
        if self.left == 0:
            raise StopAskedError


def test_a_stopped_probe_goes_on_with_the_same_numbers(model_folder, result, tmp_path, monkeypatch) -> None:
    ready = prepare(CausalSettings(model=model_folder, **SMALL))
    with pytest.raises(StopAskedError):
        ready(FolderSession(tmp_path, stop_after=20))
    assert "L00-q_proj-frobenius.json" in {path.name for path in (tmp_path / "blocks").iterdir()}
    measured: list[int] = []
    measure = EffectMeter.measure
    monkeypatch.setattr(
        EffectMeter, "measure", lambda self, edits: (measured.append(len(edits)), measure(self, edits))[1]
    )
    again = ready(FolderSession(tmp_path))
    assert 0 < sum(measured) < len(result.tables["controls"])
    for name, table in result.tables.items():
        pd.testing.assert_frame_equal(again.tables[name], table)


def test_blocks_of_other_weights_are_measured_anew(model_folder, result, tmp_path) -> None:
    ready = prepare(CausalSettings(model=model_folder, **SMALL))
    ready(FolderSession(tmp_path))
    for path in (tmp_path / "blocks").iterdir():
        text = path.read_text().replace('"weights": "', '"weights": "other')
        path.write_text(text.replace("0.0", "7.0"))
    again = ready(FolderSession(tmp_path))
    pd.testing.assert_frame_equal(again.frame, result.frame)


def test_evaluation_text_must_differ(model_folder, tmp_path) -> None:
    with pytest.raises(DataError, match="is the calibration text"):
        prepare(CausalSettings(model=model_folder, evaluation_text="builtin:prose", **SMALL))
    text = tmp_path / "a.txt"
    text.write_text("The river was low that summer and the boats lay on the mud for weeks. " * 30)
    link = tmp_path / "b.txt"
    link.symlink_to(text)
    with pytest.raises(DataError, match="is the calibration text"):
        prepare(CausalSettings(model=model_folder, text=str(text), evaluation_text=str(link), **SMALL))


@pytest.mark.parametrize("length", [5, 10])
def test_a_copy_of_the_text_under_another_name_is_refused(model_folder, tmp_path, length: int) -> None:
    words = "The river was low that summer and the boats lay on the mud for weeks. "
    (tmp_path / "a.txt").write_text(words * 30)
    (tmp_path / "b.txt").write_text("And so: " + words * 20)
    options = {**SMALL, "length": length, "text": str(tmp_path / "a.txt")}
    with pytest.raises(DataError, match="evaluation sequences occur in the calibration text"):
        prepare(CausalSettings(model=model_folder, evaluation_text=str(tmp_path / "b.txt"), **options))


def test_a_text_too_short_is_refused(model_folder, tmp_path) -> None:
    (tmp_path / "b.txt").write_text("Too short")
    with pytest.raises(DataError, match="expected at least 2"):
        prepare(CausalSettings(model=model_folder, evaluation_text=str(tmp_path / "b.txt"), **SMALL))


def test_wrong_targets_heads_and_layers_are_refused(model_folder) -> None:
    for options, error, match in (
        ({"target": "two"}, DataError, "3 tokens"),
        ({"head": 4}, ModelError, "heads 0 to 3"),
        ({"layers": (7,)}, ModelError, "layer 7"),
        ({"directions": 500}, ModelError, "500 directions"),
    ):
        with pytest.raises(error, match=match):
            prepare(CausalSettings(model=model_folder, **{**SMALL, **options}))
    with pytest.raises(RecipeError, match="rising"):
        probe_causal(model_folder, doses=(0.1, 0.01))


def test_a_target_is_followed_and_a_head_written(model_folder) -> None:
    options = {**SMALL, "layers": (1,), "modules": ("k_proj", "o_proj"), "head": 3, "target": "e"}
    found = probe_causal(model_folder, **options)
    assert not np.allclose(found.frame.target_change, 0)
    assert any("serves 2 query heads" in note for note in found.notes)


def test_token_direction_raises_its_logit_most() -> None:
    model = TINY["llama"]()
    gain, unembedding = model.model.norm.weight.detach().double(), model.lm_head.weight.detach().double()
    residual = torch.zeros(48, dtype=torch.float64, requires_grad=True)
    logits = unembedding @ (gain * residual)
    (steepest,) = torch.autograd.grad(logits[5] - logits.mean(), residual)
    found = token_direction(model, find_pathways(model), 5)
    assert torch.allclose(found, steepest / steepest.norm(), atol=1e-6)


def test_default_layers_and_neighbours() -> None:
    assert default_layers(30) == (7, 15, 22)
    assert default_layers(1) == (0,)
    pathways = find_pathways(TINY["llama"]())
    first, last = pathways.select(["q_proj"])
    assert neighbour_of(first, pathways) == last
    assert neighbour_of(last, pathways) == first


def test_default_evaluation_texts() -> None:
    assert CausalSettings(model="x").measured_text == "builtin:prose_eval"
    assert CausalSettings(model="x", text="builtin:chat").measured_text == "builtin:chat_eval"
    assert CausalSettings(model="x", text="mine.txt").measured_text == "builtin:prose_eval"
    assert causal.probe_causal.__doc__
