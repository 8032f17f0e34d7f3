"""Second moments against a slow token-by-token computation, and the model that they leave untouched."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor, nn
from transformers import PreTrainedModel

from readwrite_edit.errors import DataError, ModelError
from readwrite_edit.models.pathways import find_pathways
from readwrite_edit.statistics import (
    collect_statistics,
    collect_token_statistics,
    prose_sequences,
    take_tokens,
    token_batches,
)
from tests.tiny_models import TINY, tiny_model, tiny_tokenizer

SITES = ["model.layers.0.attention_input", "model.layers.1.attention_input"]
LENGTHS = (9, 23, 14, 2, 17, 23, 5, 30, 11)


def ragged(seed: int = 0) -> list[list[int]]:
    """Sequences of unlike lengths, so that every batch of four holds padding."""
    draw = random.Random(seed)
    return [[draw.randrange(3, 100) for _ in range(length)] for length in LENGTHS]


@pytest.fixture(scope="module")
def model() -> PreTrainedModel:
    return TINY["llama"]()


@contextmanager
def inputs_of(modules: dict[str, nn.Module]) -> Iterator[dict[str, Tensor]]:
    """The last input of each module, caught by a hook of the test's own."""
    caught: dict[str, Tensor] = {}

    def catch(name: str):
        return lambda _module, args: caught.__setitem__(name, args[0].detach())

    handles = [module.register_forward_pre_hook(catch(name)) for name, module in modules.items()]
    yield caught
    for handle in handles:
        handle.remove()


def rows_by_sequence(model: PreTrainedModel, sequences: Sequence[Sequence[int]]) -> list[dict[str, Tensor]]:
    """What q_proj of each layer reads, one unpadded sequence at a time, float64 (time, d)."""
    readers = {
        f"model.layers.{i}.attention_input": layer.self_attn.q_proj for i, layer in enumerate(model.model.layers)
    }
    found = []
    with inputs_of(readers) as caught, torch.no_grad():
        for sequence in sequences:
            model(input_ids=torch.tensor([sequence]))
            found.append({site: x[0].double() for site, x in caught.items()})
    return found


def slow_sum(rows: Tensor) -> Tensor:
    return sum((torch.outer(row, row) for row in rows), torch.zeros(rows.shape[1], rows.shape[1], dtype=torch.float64))


def collect(model: PreTrainedModel, sequences: Sequence[Sequence[int]], roles=("q_proj", "k_proj"), **options):
    projections = find_pathways(model).select(roles)
    return collect_token_statistics(model, sequences, projections, batch_size=4, **options)


@pytest.mark.parametrize("first_position", [True, False])
def test_moments_equal_a_slow_computation_token_by_token(model: PreTrainedModel, first_position: bool) -> None:
    found = collect(model, ragged(), first_position=first_position)
    skipped = 0 if first_position else 1
    slow = rows_by_sequence(model, ragged())
    assert sorted(found.sites) == SITES and found.tokens == sum(LENGTHS) - skipped * len(LENGTHS)
    for site in SITES:
        rows = torch.cat([piece[site][skipped:] for piece in slow])
        moments = found.sites[site]
        assert moments.count == len(rows) == found.tokens and moments.total.dtype == torch.float64
        torch.testing.assert_close(moments.total, slow_sum(rows), rtol=1e-5, atol=1e-4)
        torch.testing.assert_close(moments.mean, rows.mean(dim=0), rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(found.second_moment(site), rows.T @ rows / len(rows), rtol=1e-5, atol=1e-5)


def test_centred_statistics_are_the_covariance(model: PreTrainedModel) -> None:
    found = collect(model, ragged(), centred=True)
    for site in SITES:
        rows = torch.cat([piece[site] for piece in rows_by_sequence(model, ragged())])
        torch.testing.assert_close(found.second_moment(site), torch.cov(rows.T, correction=0), rtol=1e-4, atol=1e-5)


def test_the_share_of_first_positions_is_measured(model: PreTrainedModel) -> None:
    found, slow = collect(model, ragged()), rows_by_sequence(model, ragged())
    for site in SITES:
        first = sum(float(piece[site][0].square().sum()) for piece in slow)
        whole = sum(float(piece[site].square().sum()) for piece in slow)
        assert found.sites[site].first_position_share == pytest.approx(first / whole, rel=1e-5)
        assert math.isnan(collect(model, ragged(), first_position=False).sites[site].first_position_share)


def test_overlap_compares_the_halves_of_the_batches(model: PreTrainedModel) -> None:
    """Batches of four, longest first: the first and third batch against the second."""
    found = collect(model, ragged())
    order = sorted(ragged(), key=len, reverse=True)
    halves = [order[:4] + order[8:], order[4:8]]
    for site in SITES:
        tops = []
        for half in halves:
            rows = torch.cat([piece[site] for piece in rows_by_sequence(model, half)])
            tops.append(torch.linalg.eigh(rows.T @ rows)[1].flip(1))
        overlap = found.sites[site].overlap
        assert sorted(overlap) == [4, 16]
        for k, value in overlap.items():
            assert value == pytest.approx(float((tops[0][:, :k].T @ tops[1][:, :k]).square().sum() / k), abs=1e-4)
    assert found.smallest_overlap(5) == (4, min(found.sites[site].overlap[4] for site in SITES))


def test_one_batch_has_no_halves_to_compare(model: PreTrainedModel) -> None:
    found = collect(model, ragged()[:3])
    assert found.sites[SITES[0]].overlap == {} and found.smallest_overlap(4) is None


def test_projections_that_share_an_input_are_summed_once(model: PreTrainedModel) -> None:
    shared, alone = collect(model, ragged(), ("q_proj", "k_proj", "v_proj")), collect(model, ragged(), ("k_proj",))
    assert sorted(shared.sites) == sorted(alone.sites) == SITES
    assert all(torch.equal(shared.sites[site].total, alone.sites[site].total) for site in SITES)


def test_sites_of_the_write_pathway_hold_what_its_matrices_read(model: PreTrainedModel) -> None:
    found = collect(model, ragged(), ("o_proj", "down_proj", "gate_proj"))
    mlp = model.model.layers[1].mlp
    total = torch.zeros(80, 80, dtype=torch.float64)
    with inputs_of({"down": mlp.down_proj}) as caught, torch.no_grad():
        for sequence in ragged():
            model(input_ids=torch.tensor([sequence]))
            total += slow_sum(caught["down"][0].double())
    torch.testing.assert_close(found.sites["model.layers.1.mlp_hidden"].total, total, rtol=1e-5, atol=1e-4)
    assert len(found.sites) == 6


def test_a_wrapped_model_gives_the_same_as_the_bare_one(model: PreTrainedModel) -> None:
    bare = collect(model, ragged())
    wrapped = get_peft_model(tiny_model("llama"), LoraConfig(r=2, target_modules=["q_proj", "k_proj"]))
    found = collect(wrapped, ragged())
    assert sorted(found.sites) == SITES
    assert all(torch.equal(found.sites[site].total, bare.sites[site].total) for site in SITES)


def hooks_of(model: nn.Module) -> int:
    return sum(len(module._forward_pre_hooks) + len(module._forward_hooks) for module in model.modules())


@pytest.mark.parametrize("training", [True, False])
def test_the_model_is_left_as_it_was(training: bool) -> None:
    """Also when the pass is broken off in its second batch."""
    model = TINY["llama"]().train(training)
    reference = TINY["llama"]().eval()
    hooks = hooks_of(model)

    def break_off(done: int, _total: int) -> None:
        if done > 100:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        collect(model, ragged(), progress=break_off)
    collect(model, ragged())
    assert model.training is training and all(module.training is training for module in model.modules())
    assert hooks_of(model) == hooks and all(parameter.requires_grad for parameter in model.parameters())
    ids = torch.tensor([ragged()[0]])
    with torch.no_grad():
        assert torch.equal(model.eval()(ids).logits, reference(ids).logits)


def test_a_module_that_is_held_in_evaluation_stays_there() -> None:
    model = TINY["llama"]().train()
    model.model.layers[0].eval()
    collect(model, ragged()[:2])
    assert model.training and not model.model.layers[0].training


def test_the_pass_ends_before_the_language_model_head(model: PreTrainedModel) -> None:
    with inputs_of({"head": model.lm_head, "last": model.model.layers[1].mlp}) as caught:
        collect(model, ragged())
    assert caught == {}


def test_progress_counts_tokens_to_the_end(model: PreTrainedModel) -> None:
    seen: list[tuple[int, int]] = []
    collect(model, ragged(), first_position=False, progress=lambda done, total: seen.append((done, total)))
    order = sorted(LENGTHS, reverse=True)
    assert seen == [(sum(order[:stop]), sum(LENGTHS)) for stop in (4, 8, 9)]


def test_weights_that_are_not_finite_are_named() -> None:
    model = TINY["llama"]()
    model.model.embed_tokens.weight.data[7, 3] = torch.nan
    with pytest.raises(ModelError, match=r"model\.layers\.0\.attention_input.*not finite"):
        collect(model, [[7, 8, 9]])


@pytest.mark.parametrize(("sequences", "first_position"), [([], True), ([[], []], True), ([[5], [6]], False)])
def test_a_text_without_a_token_to_count_is_refused(model, sequences: list[list[int]], first_position: bool) -> None:
    with pytest.raises(DataError, match="no token"):
        collect(model, sequences, first_position=first_position)


def test_short_sequences_count_beside_long_ones_without_first_positions(model: PreTrainedModel) -> None:
    """The batch of single tokens holds nothing to count, and adds nothing."""
    found = collect(model, [*ragged()[:4], [5], [6]], first_position=False)
    alone = collect(model, ragged()[:4], first_position=False)
    assert found.tokens == alone.tokens and torch.equal(found.sites[SITES[1]].total, alone.sites[SITES[1]].total)


def test_batches_are_right_padded_and_longest_first() -> None:
    batches = list(token_batches(ragged(), 4))
    rows = [ids[mask.bool()].tolist() for batch, masks in batches for ids, mask in zip(batch, masks, strict=True)]
    assert rows == sorted(ragged(), key=len, reverse=True)
    assert all(bool((mask.diff(dim=1) <= 0).all()) and bool(mask.any(dim=0).all()) for _, mask in batches)


def test_collecting_from_texts_reads_at_most_the_tokens_asked_for(model: PreTrainedModel) -> None:
    tokenizer, texts = tiny_tokenizer(), ["a small cat " * 6, "", "red house by the river " * 4]
    found = collect_statistics(model, tokenizer, texts, tokens=50, max_length=16, batch_size=2)
    everything = collect_statistics(model, tokenizer, texts, tokens=10**6, max_length=16, batch_size=2)
    assert (found.tokens, everything.tokens) == (50, 72 + 92)
    pieces = take_tokens(prose_sequences(texts, tokenizer, max_length=16), 50)
    by_hand = collect_token_statistics(model, pieces, find_pathways(model).select(["q_proj"]), batch_size=2)
    assert all(torch.equal(found.sites[site].total, by_hand.sites[site].total) for site in SITES)
