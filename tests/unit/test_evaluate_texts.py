"""KL, perplexity, row scores and price against plain loops on stock transformers and peft."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM

from readwrite_edit.evaluate.energy import added_energy
from readwrite_edit.evaluate.generations import generate
from readwrite_edit.evaluate.measuring import Loaded
from readwrite_edit.evaluate.records import token_id
from readwrite_edit.evaluate.rows import score_rows
from readwrite_edit.evaluate.texts import Predictor, TextProbe, base_predictor, evaluating, means, predictor
from readwrite_edit.geometry import LowRank, output_energy
from readwrite_edit.models.pathways import find_pathways
from readwrite_edit.statistics import collect_token_statistics
from tests.slow_evaluation import answer, stock_models, text_sums
from tests.tiny_models import VOCABULARY, tiny_model, tiny_tokenizer

ARCHITECTURES = ("llama", "gemma2", "gpt2")


def tokens(length: int, seed: int) -> list[int]:
    return torch.randint(3, VOCABULARY, (length,), generator=torch.Generator().manual_seed(seed)).tolist()


SEQUENCES = [tokens(length, seed) for seed, length in enumerate((5, 17, 2, 9, 17))]
ROWS = [
    {"prompt_ids": tokens(4, 10), "chosen_ids": tokens(3, 11), "rejected_ids": tokens(9, 12)},
    {"prompt_ids": tokens(7, 13), "chosen_ids": tokens(8, 14), "rejected_ids": tokens(2, 15)},
    {"prompt_ids": tokens(2, 16), "chosen_ids": tokens(30, 17), "rejected_ids": tokens(1, 18)},
]


@pytest.fixture(scope="module", params=ARCHITECTURES)
def saved(request, tmp_path_factory) -> tuple[Path, Path]:
    """Folders of a base and of a LoRA adapter on it with weights that change something."""
    place = tmp_path_factory.mktemp(request.param)
    tiny_model(request.param).save_pretrained(place / "base")
    names = ["c_attn"] if request.param == "gpt2" else ["q_proj", "down_proj"]
    config = LoraConfig(r=3, lora_alpha=6, target_modules=names, task_type="CAUSAL_LM")
    torch.manual_seed(1)
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(place / "base"), config)
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.2)
    model.save_pretrained(place / "adapter")
    return place / "base", place / "adapter"


def ours(saved: tuple[Path, Path]) -> PeftModel:
    base = AutoModelForCausalLM.from_pretrained(saved[0], dtype=torch.float32, attn_implementation="eager")
    return PeftModel.from_pretrained(base, str(saved[1])).eval()


def test_each_sequence_of_a_text_equals_the_slow_loop(saved):
    model = ours(saved)
    with evaluating(model):
        found = TextProbe(SEQUENCES, batch_size=2).measure(predictor(model), base_predictor(model))
    slow = {token_id(ids): text_sums(*stock_models(*saved), ids) for ids in SEQUENCES}
    assert set(found.ids) == set(slow) and sum(found.positions) == sum(len(ids) - 1 for ids in SEQUENCES)
    for name, *measured in zip(found.ids, found.kl, found.nll, found.base_nll, strict=True):
        assert measured == pytest.approx(slow[name], rel=2e-5)
    assert min(found.kl) > 1e-3  # the adapter does change something
    positions = sum(found.positions)
    expected = [sum(column) / positions for column in zip(*slow.values(), strict=True)]
    figures = means(found)
    assert figures["kl"] == pytest.approx(expected[0], rel=1e-5)
    assert figures["perplexity"] == pytest.approx(math.exp(expected[1]), rel=1e-5)
    assert figures["base_perplexity"] == pytest.approx(math.exp(expected[2]), rel=1e-5)


def test_a_second_measurement_keeps_the_base_and_takes_the_model_as_it_is_now(saved):
    model, passes = ours(saved), []
    probe, base = TextProbe(SEQUENCES, batch_size=2), base_predictor(model)
    counted = Predictor(lambda *given: (passes.append(1), base.hidden(*given))[1], base.logits, base.device)
    with evaluating(model):
        first = probe.measure(predictor(model), counted)
        for name, weight in model.named_parameters():
            if "lora_B" in name:
                weight.data.zero_()
        second = probe.measure(predictor(model), counted)
    assert len(passes) == 3  # five sequences, two in a pass, once
    assert second.base_nll == pytest.approx(first.base_nll) and max(second.kl) < 1e-9 < min(first.kl)
    assert second.nll == pytest.approx(second.base_nll)


@pytest.mark.parametrize("max_length", [20, 512])
def test_each_row_equals_the_slow_loop(saved, max_length):
    model = ours(saved)
    with evaluating(model):
        found = score_rows(predictor(model), base_predictor(model), ROWS, max_length=max_length, batch_size=2)
    tuned, base = stock_models(*saved)
    for index, row in enumerate(ROWS):
        for side in ("chosen", "rejected"):
            ids = row["prompt_ids"], row[f"{side}_ids"]
            assert getattr(found, side)[index] == pytest.approx(answer(tuned, *ids, max_length), rel=1e-5)
            assert getattr(found, f"reference_{side}")[index] == pytest.approx(answer(base, *ids, max_length), rel=1e-5)
    assert found.ids[0] == token_id(*(ROWS[0][name] for name in ("prompt_ids", "chosen_ids", "rejected_ids")))


def test_without_a_base_what_it_would_say_is_not_a_number(saved):
    model = ours(saved)
    with evaluating(model):
        found = score_rows(predictor(model), None, ROWS, max_length=None)
    assert all(map(math.isnan, found.reference_chosen + found.reference_rejected))
    assert not any(map(math.isnan, found.chosen + found.rejected))


@pytest.mark.parametrize("first_position", [True, False])
def test_the_price_of_the_passing_inputs_equals_the_closed_form_with_their_second_moment(saved, first_position):
    model = ours(saved)
    bare = AutoModelForCausalLM.from_pretrained(saved[0])
    projections = find_pathways(bare).select(["q_proj"])
    statistics = collect_token_statistics(bare, SEQUENCES, projections, first_position=first_position)
    generator = torch.Generator().manual_seed(3)
    matrices = [
        (one, LowRank(torch.randn(one.d_out, 3, generator=generator), torch.randn(3, one.d_in, generator=generator)))
        for one in projections
    ]
    with evaluating(model), added_energy(model, matrices, first_position=first_position) as energies:
        TextProbe(SEQUENCES, batch_size=2).measure(predictor(model), base_predictor(model))
    for (one, update), energy in zip(matrices, energies, strict=True):
        C = statistics.second_moment(one.site)
        expected = output_energy(LowRank(update.B.to(C), update.A.to(C)), C)
        assert energy.mean / one.d_out == pytest.approx(float(expected), rel=1e-4)


def test_answers_end_at_the_end_token_or_at_the_limit(monkeypatch):
    model, tokenizer = tiny_model("llama"), tiny_tokenizer()
    prompts = [tokens(5, 20), tokens(3, 21)]
    cut = generate(model, tokenizer, prompts, max_new_tokens=6)
    for prompt, one in zip(prompts, cut, strict=True):
        ids = list(prompt)
        for _ in range(6):
            with torch.no_grad():
                ids.append(int(model(input_ids=torch.tensor([ids])).logits[0, -1].argmax()))
        assert list(one.tokens) == ids[len(prompt) :] and not one.ended
    monkeypatch.setattr(model.generation_config, "eos_token_id", [cut[0].tokens[0], VOCABULARY - 1])
    ended = generate(model, tokenizer, prompts[:1], max_new_tokens=6)[0]
    assert ended.ended and ended.tokens == ()


def test_a_model_is_compared_with_another_one_through_its_own_head(saved):
    tuned, base = tiny_model("llama", seed=1), tiny_model("llama", seed=2)
    loaded = Loaded(tuned, base, "")
    with evaluating(tuned):
        found = TextProbe(SEQUENCES).measure(predictor(tuned), loaded.base_predictor)
    slow = {token_id(ids): text_sums(tuned, base, ids) for ids in SEQUENCES}
    for name, *measured in zip(found.ids, found.kl, found.nll, found.base_nll, strict=True):
        assert measured == pytest.approx(slow[name], rel=1e-4)
