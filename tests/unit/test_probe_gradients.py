"""The gradients probe against autograd on one sequence at a time, and its losses against TRL's trainer."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from datasets import Dataset
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D
from trl import DPOConfig, DPOTrainer

from readwrite_edit.align.tokenised import tokenise_pairs
from readwrite_edit.errors import DataError, ModelError, RecipeError
from readwrite_edit.geometry import energy_null, principal_basis, read_fraction, write_fraction
from readwrite_edit.models.language_head import language_model_head
from readwrite_edit.models.pathways import Projection, find_pathways, module_of, role_rows
from readwrite_edit.models.unembedding import model_prediction_basis
from readwrite_edit.probe.gradients.losses import (
    completion_outputs,
    pair_batches,
    preference_loss,
    sequence_scores,
    units_of,
)
from readwrite_edit.probe.gradients.outputs import (
    OutputGradients,
    collect_output_gradients,
    output_moment,
    output_site,
    pair_energies,
    score_batches,
)
from readwrite_edit.probe.gradients.probe import gradients_file, probe_gradients
from readwrite_edit.probe.gradients.tables import (
    compare_objectives,
    gradient_result,
    ratio_with_error,
    verdict_of_objectives,
)
from readwrite_edit.probe.job import start_probe
from readwrite_edit.probe.settings.gradients import GradientsSettings
from readwrite_edit.recipe.objective import Objective
from readwrite_edit.statistics import Statistics, open_statistics
from tests.small_runs import preference_rows, write_model, write_rows
from tests.tiny_models import TINY, tiny_model, tiny_tokenizer

ROLES = ("q_proj", "k_proj", "o_proj", "down_proj")
BETA, MAX_LENGTH = 0.5, 40
OBJECTIVES = {
    "sft": Objective(loss_type=("sft",)),
    "dpo": Objective(loss_type=("sigmoid",), beta=BETA),
}
ROWS = tokenise_pairs(preference_rows(7), tiny_tokenizer(), max_length=MAX_LENGTH).rows


def batches(batch_size: int = 3) -> list[Mapping[str, Tensor]]:
    return pair_batches(ROWS, pad_token_id=0, batch_size=batch_size, max_length=MAX_LENGTH)


def collect(model: PreTrainedModel, roles=ROLES, **options) -> tuple[dict[str, OutputGradients], Statistics]:
    given = options.pop("batches", None) or batches()
    return collect_output_gradients(model, given, find_pathways(model).select(roles), OBJECTIVES, **options)


class Slow:
    """Everything from autograd: one pair at a time, unpadded, weights with gradients, TRL's code not used."""

    def __init__(self, model: PreTrainedModel, completions_only: bool = False) -> None:
        self.model, self.completions_only = model, completions_only
        self.projections = find_pathways(model).select(ROLES)

    def sums(self, objective: str) -> tuple[dict[str, Tensor], dict[str, Tensor], int]:
        """Σ δ δᵀ of each output, gradient of each weight, tokens."""
        self.model.zero_grad()
        moments: dict[str, Tensor] = {}
        tokens = 0
        for row in ROWS:
            sides = [self.forward(row, side) for side in ("chosen_ids", "rejected_ids")]
            (chosen, *_), (rejected, *_) = sides
            margin = chosen - chosen.detach() - rejected + rejected.detach()
            loss = -chosen if objective == "sft" else -nn.functional.logsigmoid(BETA * margin)
            loss.backward()
            for _, outputs, counted in sides:
                tokens += int(counted.sum())
                for site, (projection, output) in outputs.items():
                    gradient = torch.zeros_like(output) if output.grad is None else output.grad
                    delta = gradient.reshape(len(counted), -1)[counted][:, role_rows(projection)].double()
                    moments[site] = moments.get(site, 0) + sum(torch.outer(row, row) for row in delta)
        return moments, self.weight_gradients(), tokens

    def forward(self, row: Mapping[str, list[int]], side: str) -> tuple[Tensor, dict, Tensor]:
        """Log-probability of an answer, outputs with their gradients to come, and which tokens count."""
        ids = torch.tensor([(row["prompt_ids"] + row[side])[:MAX_LENGTH]])
        outputs: dict[str, tuple[Projection, Tensor]] = {}
        handles = []
        for projection in self.projections:

            def keep(_module, _inputs, output, projection=projection):
                output.retain_grad()
                outputs[output_site(projection)] = projection, output

            handles.append(module_of(self.model, projection).register_forward_hook(keep))
        logits = self.model(input_ids=ids).logits[0, :-1].float().log_softmax(dim=1)
        for handle in handles:
            handle.remove()
        predicts = torch.arange(ids.shape[1]) >= len(row["prompt_ids"]) - 1
        predicts[-1] = False
        scores = logits.gather(1, ids[0, 1:, None])[:, 0]
        counted = predicts if self.completions_only else torch.ones_like(predicts)
        return scores[predicts[:-1]].sum(), outputs, counted

    def weight_gradients(self) -> dict[str, Tensor]:
        found = {}
        for projection in self.projections:
            module = module_of(self.model, projection)
            gradient = module.weight.grad.T if isinstance(module, Conv1D) else module.weight.grad
            found[output_site(projection)] = gradient[role_rows(projection)]
        return found


@pytest.mark.parametrize("name", ["llama", "gpt2", "gpt_neox", "gemma3_text", "bloom", "opt"])
def test_the_sums_equal_autograd_one_sequence_at_a_time(name: str) -> None:
    model = TINY[name]()
    found, _ = collect(model)
    slow = Slow(TINY[name]())
    for objective in OBJECTIVES:
        moments, weights, tokens = slow.sums(objective)
        statistics = found[objective].statistics
        assert set(statistics.sites) == set(moments) and statistics.tokens == tokens
        for site, expected in moments.items():
            largest = float(expected.abs().max())
            torch.testing.assert_close(statistics.sites[site].total, expected, rtol=2e-4, atol=2e-5 * largest)
            assert statistics.sites[site].count == tokens
            largest = float(weights[site].abs().max())
            torch.testing.assert_close(
                found[objective].weight_gradients[site], weights[site], rtol=1e-3, atol=1e-4 * largest
            )


def test_only_tokens_that_predict_an_answer_count_when_asked_for() -> None:
    found, inputs = collect(TINY["llama"](), completions_only=True, input_sites=["model.layers.1.attention_input"])
    moments, _, tokens = Slow(TINY["llama"](), completions_only=True).sums("dpo")
    everything, _ = collect(TINY["llama"]())
    statistics = found["dpo"].statistics
    assert statistics.tokens == inputs.tokens == tokens < everything["dpo"].statistics.tokens
    for site, expected in moments.items():
        largest = float(expected.abs().max())
        torch.testing.assert_close(statistics.sites[site].total, expected, rtol=2e-4, atol=2e-5 * largest)
    assert inputs.sites["model.layers.1.attention_input"].count == tokens


def test_the_inputs_are_those_of_the_same_tokens() -> None:
    model = TINY["gpt2"]()
    _, inputs = collect(model, input_sites=["transformer.h.1.attention_input"])
    rows = []
    model.transformer.h[1].attn.c_attn.register_forward_pre_hook(lambda _module, args: rows.append(args[0][0].detach()))
    for row in ROWS:
        for side in ("chosen_ids", "rejected_ids"):
            model(input_ids=torch.tensor([(row["prompt_ids"] + row[side])[:MAX_LENGTH]]))
    x = torch.cat(rows).double()
    torch.testing.assert_close(
        inputs.second_moment("transformer.h.1.attention_input"), x.T @ x / len(x), rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize("batch_size", [1, 7])
def test_the_sums_do_not_depend_on_the_batches(batch_size: int) -> None:
    found, again = collect(TINY["llama"]())[0], collect(TINY["llama"](), batches=batches(batch_size))[0]
    for objective in OBJECTIVES:
        assert again[objective].loss == pytest.approx(found[objective].loss, rel=1e-5)
        for site, moments in found[objective].statistics.sites.items():
            other = again[objective].statistics.sites[site]
            torch.testing.assert_close(other.total, moments.total, rtol=1e-3, atol=1e-5 * float(moments.total.max()))


LOSSES = [{"loss_type": [name]} for name in ("sigmoid", "hinge", "ipo", "sft", "nca_pair", "apo_zero", "apo_down")] + [
    {"loss_type": ["exo_pair"], "label_smoothing": 0.01},
    {"loss_type": ["robust"], "label_smoothing": 0.1},
    *({"loss_type": [name]} for name in ("bco_pair", "sppo_hard", "aot", "aot_unpaired", "discopop", "sigmoid_norm")),
]


@pytest.fixture(scope="module")
def stock_trainer(tmp_path_factory: pytest.TempPathFactory) -> DPOTrainer:
    """TRL's own, with a policy that has moved away from its reference."""
    return DPOTrainer(
        tiny_model("llama", seed=1),
        ref_model=tiny_model("llama", seed=0),
        args=DPOConfig(
            output_dir=str(tmp_path_factory.mktemp("trl")),
            use_cpu=True,
            bf16=False,
            report_to=[],
            max_length=MAX_LENGTH,
            disable_dropout=True,
            beta=BETA,
        ),
        train_dataset=Dataset.from_list(preference_rows(7)),
        processing_class=tiny_tokenizer(),
    )


@pytest.mark.parametrize("options", LOSSES, ids=lambda options: options["loss_type"][0])
def test_each_loss_and_its_gradient_equal_those_of_the_real_trainer(stock_trainer: DPOTrainer, options: dict) -> None:
    objective = Objective.model_validate({**options, "beta": BETA})
    (batch,) = batches(batch_size=7)
    policy, reference = tiny_model("llama", seed=1), tiny_model("llama", seed=0)
    outputs = completion_outputs(policy, batch, language_model_head(policy))
    loss = preference_loss(objective, batch, outputs, score_batches(reference, [batch])[0])
    stock_trainer.loss_types, stock_trainer.loss_weights = list(objective.loss_type), [1.0]
    stock_trainer.label_smoothing = objective.label_smoothing
    expected = stock_trainer.compute_loss(stock_trainer.model, dict(batch))
    assert float(loss.detach()) == pytest.approx(float(expected.detach()), rel=1e-5)
    loss.backward()
    stock_trainer.model.zero_grad()
    expected.backward()
    parameters = dict(policy.named_parameters())
    for name, parameter in stock_trainer.model.named_parameters():
        if "layers" in name:
            torch.testing.assert_close(parameters[name].grad, parameter.grad, rtol=1e-3, atol=1e-5)


def test_a_reference_of_its_own_changes_dpo_and_leaves_cross_entropy() -> None:
    model, reference = TINY["llama"](), tiny_model("llama", seed=1)
    own, other = collect(model)[0], collect(model, references=score_batches(reference, batches()))[0]
    site = "model.layers.1.self_attn.o_proj.output"
    assert own["dpo"].loss == pytest.approx(math.log(2), rel=1e-6) != pytest.approx(other["dpo"].loss, rel=1e-3)
    assert torch.equal(own["sft"].statistics.sites[site].total, other["sft"].statistics.sites[site].total)
    assert not torch.allclose(own["dpo"].statistics.sites[site].total, other["dpo"].statistics.sites[site].total)


def test_cross_entropy_is_counted_in_tokens_and_preference_in_pairs() -> None:
    (batch,) = batches(batch_size=7)
    answers = sum(len((row["prompt_ids"] + row["chosen_ids"])[:MAX_LENGTH]) - len(row["prompt_ids"]) for row in ROWS)
    assert units_of(OBJECTIVES["sft"], batch) == answers and units_of(OBJECTIVES["dpo"], batch) == 7


def test_the_model_is_left_as_it_was() -> None:
    model = TINY["llama"]().train()
    model.model.norm.weight.requires_grad_(False)
    asked = [parameter.requires_grad for parameter in model.parameters()]
    collect(model)
    assert [parameter.requires_grad for parameter in model.parameters()] == asked and model.training
    assert all(parameter.grad is None for parameter in model.parameters())
    assert not any(module._forward_hooks for module in model.modules())


def test_weights_that_are_not_finite_are_an_error() -> None:
    model = TINY["llama"]()
    model.model.layers[1].mlp.down_proj.weight.data[3, 3] = torch.inf
    with pytest.raises(ModelError, match="loss is"):
        collect(model)


def test_a_gradient_that_is_not_finite_is_named() -> None:
    model = TINY["llama"]()
    module = model.model.layers[0].self_attn.o_proj

    def spoil(_module, _inputs, output):
        output.register_hook(lambda gradient: gradient * math.inf)

    module.register_forward_hook(spoil)
    with pytest.raises(ModelError, match=r"gradient at .*not finite"):
        collect(model)


def test_the_energies_of_a_pair_by_hand() -> None:
    """The two answers cancel in the first direction, and add up in the second."""
    gradient = torch.zeros(2, 3, 2)
    gradient[0, 0], gradient[0, 1] = torch.tensor([1.0, 0.0]), torch.tensor([2.0, 1.0])
    gradient[1, 0], gradient[1, 2] = torch.tensor([-3.0, 1.0]), torch.tensor([9.0, 9.0])
    mask = torch.tensor([[True, True, True], [True, True, False]])
    found = pair_energies(gradient, mask, torch.tensor([[1.0], [0.0]]))
    assert found.tolist() == [[1 + 4 + 9, 1 + 5 + 10, 0, 4]]


def test_the_energy_in_a_followed_basis_is_that_of_the_moment() -> None:
    model = TINY["llama"]()
    basis = model_prediction_basis(model, find_pathways(model), 4)
    found, _ = collect(model, bases={"o_proj": basis.float()})
    assert set(found["dpo"].pairs) == {f"model.layers.{layer}.self_attn.o_proj.output" for layer in (0, 1)}
    for objective in OBJECTIVES:
        for site, pairs in found[objective].pairs.items():
            inside, whole = pairs[:, :2].double().sum(dim=0).tolist()
            moments = found[objective].statistics.sites[site]
            assert len(pairs) == len(ROWS) and whole == pytest.approx(float(moments.total.trace()), rel=1e-4)
            assert inside / whole == pytest.approx(energy_null(moments.total, basis), rel=1e-4)


def test_the_standard_error_of_a_ratio_is_that_of_many_draws() -> None:
    """Jackknife against the spread of the ratio over fresh samples."""
    draw = np.random.default_rng(0)

    def sample() -> tuple[np.ndarray, np.ndarray]:
        whole = draw.gamma(4.0, size=50)
        return whole * draw.beta(2, 5, size=50), whole

    ratios, errors = np.array([ratio_with_error(*sample()) for _ in range(400)]).T
    assert ratios.mean() == pytest.approx(2 / 7, rel=0.02) and errors.mean() == pytest.approx(ratios.std(), rel=0.1)
    assert math.isnan(ratio_with_error(np.ones(1), np.ones(1))[1])
    assert all(map(math.isnan, ratio_with_error(np.zeros(3), np.zeros(3))))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("probe")
    write_rows(folder / "rows.jsonl", 16)
    write_model(folder / "llama")
    return folder


def settings_in(place: Path, **options) -> GradientsSettings:
    values = {"rows": 9, "batch_size": 4, "k": 4, "curve": 10, "max_length": MAX_LENGTH, **options}
    return GradientsSettings.checked({"model": str(place / "llama"), "data": str(place / "rows.jsonl"), **values})


def test_the_run_keeps_output_moments_for_other_probes(place: Path, tmp_path: Path) -> None:
    outcome = start_probe(settings_in(place, objective=["sft", "ipo"]), tmp_path / "run", "command")
    assert outcome.result is not None
    pathways = find_pathways(TINY["llama"]())
    prediction = model_prediction_basis(TINY["llama"](), pathways, 4)
    table = outcome.result.frame.set_index(["objective", "path"])
    for objective in ("sft", "ipo"):
        kept = open_statistics(tmp_path / "run" / gradients_file(objective))
        assert kept.origin["kind"] == "output_gradients" and kept.origin["objective"] == objective
        for projection in pathways.select(["o_proj", "down_proj"]):
            moment = output_moment(kept, projection)
            row = table.loc[(objective, projection.module)]
            assert float(moment.trace()) == pytest.approx(row["trace"], rel=1e-5)
            assert energy_null(moment, prediction) == pytest.approx(row["write_energy_null"], rel=1e-5)
    with pytest.raises(DataError, match=r"up_proj\.output"):
        output_moment(kept, pathways.select(["up_proj"])[0])


def test_the_tables_agree_with_one_another(place: Path) -> None:
    found = probe_gradients(**settings_in(place).model_dump(exclude_none=True))
    layers, curves, spectra = (found.tables[name] for name in ("layers", "curves", "spectra"))
    assert len(layers) == 2 * 2 * 4 and list(dict.fromkeys(layers["objective"])) == ["sft", "dpo"]
    writers = layers[layers["module"].isin(["o_proj", "down_proj"])]
    assert writers["prediction_energy"].to_numpy() == pytest.approx(writers["write_energy_null"].to_numpy(), rel=1e-4)
    assert (writers["prediction_relative"] / writers["prediction_energy"]).to_numpy() == pytest.approx(48 / 4)
    assert writers["read_fraction"].isna().all() and layers.drop(writers.index)["write_fraction"].isna().all()
    at_k = curves[curves["k"] == 4]
    for side in ("read", "write"):
        measured = layers.dropna(subset=[f"{side}_fraction"])
        of_side = at_k[at_k["side"] == side]
        assert of_side["fraction"].to_numpy() == pytest.approx(measured[f"{side}_fraction"].to_numpy())
        assert of_side["energy_null"].to_numpy() == pytest.approx(measured[f"{side}_energy_null"].to_numpy())
    first = spectra[spectra["index"] == 1]
    assert first["cumulative"].to_numpy() == pytest.approx(layers["energy_top_1"].to_numpy())
    assert found.figures["dpo_loss"] == pytest.approx(math.log(2)) and "times k/d" in str(found.verdict)
    assert any("at the reference itself" in note for note in found.notes)


def test_the_fractions_are_those_of_the_weight_gradient() -> None:
    model, pathways = TINY["llama"](), find_pathways(TINY["llama"]())
    projections = pathways.select(ROLES)
    prediction = model_prediction_basis(model, pathways, 48)
    found, inputs = collect(model, input_sites=[f"model.layers.{layer}.attention_input" for layer in (0, 1)])
    table = gradient_result(found, inputs, projections, prediction, k=4, curve=10).frame
    for row in table.to_dict("records"):
        (projection,) = [p for p in projections if (p.layer, p.role) == (row["layer"], row["module"])]
        gradient = found[row["objective"]].weight_gradients[output_site(projection)].double()
        if projection.role in ("o_proj", "down_proj"):
            side, width, fraction = "write", projection.d_out, write_fraction(gradient, prediction[:, :4])
        else:
            basis = principal_basis(inputs.second_moment(projection.site), 4)
            side, width, fraction = "read", projection.d_in, read_fraction(gradient, basis)
        assert row[f"{side}_fraction"] == pytest.approx(float(fraction), rel=1e-4)
        assert row[f"{side}_relative_isotropic"] == pytest.approx(float(fraction) * width / 4, rel=1e-4)
        energy = row[f"{side}_energy_null"]
        assert row[f"{side}_relative_energy"] == pytest.approx(float(fraction) / energy, rel=1e-4)


def test_the_read_side_of_write_matrices_needs_their_inputs(place: Path) -> None:
    options = settings_in(place, all_inputs=True, objective=["sft"], modules=["down_proj"], layers=[1])
    found = probe_gradients(**options.model_dump(exclude_none=True))
    assert found.frame["read_fraction"].between(0, 1).all() and found.tables["comparison"].empty


def test_read_matrices_alone_need_no_prediction_subspace(place: Path) -> None:
    options = settings_in(place, modules=["q_proj"], objective=["dpo"])
    found = probe_gradients(**options.model_dump(exclude_none=True))
    assert found.frame["write_fraction"].isna().all() and found.frame["prediction_energy"].isna().all()


@pytest.mark.parametrize(
    "options",
    [
        {"objective": ["dpo", "sigmoid"]},
        {"objective": ["grpo"]},
        {"objective": ["exo_pair"]},
        {"objective": ["robust"], "label_smoothing": 0.6},
        {"max_length": 1},
        {"modules": ["lm_head"]},
    ],
)
def test_settings_that_can_not_be_carried_out_are_refused(options: dict) -> None:
    with pytest.raises(RecipeError):
        GradientsSettings.checked({"model": "somewhere", **options})


def test_a_reference_with_another_tokenizer_is_refused(place: Path, tmp_path: Path) -> None:
    other = write_model(tmp_path / "other")
    tokenizer = tiny_tokenizer()
    tokenizer.add_tokens(["another"])
    tokenizer.save_pretrained(other)
    with pytest.raises(ModelError, match="another tokenizer"):
        probe_gradients(**settings_in(place, reference=str(other)).model_dump(exclude_none=True))


def table_of(first: list[float], second: list[float]) -> pd.DataFrame:
    rows = [
        {"objective": name, "layer": layer, "module": "o_proj", "k": 4, "prediction_relative": value}
        for name, values in (("sft", first), ("dpo", second))
        for layer, value in enumerate(values)
    ]
    unmeasured = ("pair_prediction_relative", "write_relative_isotropic", "read_relative_isotropic")
    return pd.DataFrame(rows).assign(**dict.fromkeys(unmeasured, math.nan))


def test_the_verdict_names_the_higher_objective_where_a_test_shows_it() -> None:
    layers = table_of([2.0 + 0.1 * layer for layer in range(10)], [1.0 + 0.1 * layer for layer in range(10)])
    comparison = compare_objectives(layers, ["sft", "dpo"])
    (row,) = comparison.to_dict("records")
    assert row["p"] == pytest.approx(2 / 2**10) and row["layers"] == 10 and row["first_mean"] == pytest.approx(2.45)
    sentence = verdict_of_objectives(layers, comparison)
    assert sentence is not None and "2.45 under sft, 1.45 under dpo" in sentence and "sft above dpo" in sentence


def test_the_verdict_says_where_no_difference_is_shown() -> None:
    layers = table_of([1.0, 2.0, 1.0, 2.0], [2.0, 1.0, 2.1, 0.9])
    sentence = verdict_of_objectives(layers, compare_objectives(layers, ["sft", "dpo"]))
    assert sentence is not None and "no difference shown" in sentence


def test_scores_are_sums_over_answers() -> None:
    model = TINY["llama"]()
    (batch,) = batches(batch_size=7)
    chosen, rejected = sequence_scores(completion_outputs(model, batch, language_model_head(model)))
    slow = Slow(model)
    ordered = sorted(
        ROWS, key=lambda row: -len(row["prompt_ids"]) - max(map(len, (row["chosen_ids"], row["rejected_ids"])))
    )
    for index, row in enumerate(ordered):
        assert float(chosen[index]) == pytest.approx(float(slow.forward(row, "chosen_ids")[0]), rel=1e-4)
        assert float(rejected[index]) == pytest.approx(float(slow.forward(row, "rejected_ids")[0]), rel=1e-4)
