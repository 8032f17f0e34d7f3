"""Effects of edits on prompts of any length, many at a time, are those of the edited weights."""

from __future__ import annotations

import copy

import pytest
import torch
from transformers.pytorch_utils import Conv1D

from readwrite_edit.edit.effects import ShiftEffect, TargetEffect
from readwrite_edit.edit.passes import Asked, EditedPasses, padded_groups
from readwrite_edit.edit.plan import Prompt
from readwrite_edit.errors import EditError
from readwrite_edit.geometry import LowRank
from readwrite_edit.interventions.changes import Change
from readwrite_edit.models.pathways import find_pathways, role_rows
from tests.tiny_models import TINY, VOCABULARY

LENGTHS = (9, 5, 9, 3, 1)
TARGETS = (1, 3, 2, 1, 2)


def prompts() -> list[Prompt]:
    generator = torch.Generator().manual_seed(3)
    found = []
    for item, (length, target) in enumerate(zip(LENGTHS, TARGETS, strict=True)):
        ids = torch.randint(3, VOCABULARY, (length + target,), generator=generator).tolist()
        found.append(Prompt("prompt", item, f"prompt {item}", tuple(ids[:length]), tuple(ids[length:])))
    return found


def change(model, role: str = "down_proj", layer: int = 1, seed: int = 0, bias: bool = False) -> Change:
    projection = find_pathways(model).select([role], [layer])[0]
    generator = torch.Generator().manual_seed(seed)
    B = torch.randn(projection.d_out, 2, generator=generator)
    A = torch.randn(2, projection.d_in, generator=generator) / projection.d_in**0.5
    constant = torch.randn(projection.d_out, generator=generator) if bias else None
    return Change(projection, LowRank(B, A), constant)


def with_weights_changed(model, changes):
    """A copy of the model whose weights hold W + ΔW."""
    other = copy.deepcopy(model)
    for one in changes:
        module = other.get_submodule(one.projection.module)
        weight = module.weight.data.T if isinstance(module, Conv1D) else module.weight.data
        weight[role_rows(one.projection)] += one.update.dense()
    return other


def log_probability(model, prompt: Prompt) -> float:
    """Of the target, a token at a time, each pass alone and whole."""
    total, ids = 0.0, list(prompt.ids)
    for token in prompt.target:
        total += float(model(torch.tensor([ids])).logits[0, -1].double().log_softmax(0)[token])
        ids.append(token)
    return total / len(prompt.target)


@pytest.mark.parametrize("name", sorted(TINY))
def test_target_effect_is_that_of_the_edited_weights(name: str) -> None:
    """Prompts of five lengths, targets of one to three tokens; edits of both layers and of two matrices at once."""
    model = TINY[name]()
    variants = [(change(model, "o_proj"),), (change(model, "o_proj", 0, 1), change(model, "q_proj", 1, 2)), ()]
    with torch.no_grad():
        found = TargetEffect(model, prompts()).measure(variants)
        before = [log_probability(model, prompt) for prompt in prompts()]
        for variant, row in zip(variants, found, strict=True):
            edited = with_weights_changed(model, variant)
            after = [log_probability(edited, prompt) for prompt in prompts()]
            expected = torch.tensor(after, dtype=torch.float64) - torch.tensor(before, dtype=torch.float64)
            assert torch.allclose(row, expected, atol=2e-5)
    assert found.dtype == torch.float64
    assert found[:2].abs().min() > 1e-4


@pytest.mark.parametrize("name", ["bloom", "gpt2", "llama"])
def test_shift_effect_is_the_divergence_of_the_edited_weights(name: str) -> None:
    model = TINY[name]()
    variants = [(change(model),), (change(model, "o_proj", 0, 1),)]
    found = ShiftEffect(model, prompts()).measure(variants)
    with torch.no_grad():
        for variant, row in zip(variants, found, strict=True):
            edited = with_weights_changed(model, variant)
            for prompt, kl in zip(prompts(), row, strict=True):
                log_p, log_q = (
                    one(torch.tensor([prompt.ids])).logits[0, -1].double().log_softmax(0) for one in (model, edited)
                )
                assert float(kl) == pytest.approx(float((log_p.exp() * (log_p - log_q)).sum()), rel=1e-3, abs=1e-7)
                assert float(kl) > 1e-5


def test_sign_and_passes_change_nothing_else() -> None:
    model = TINY["llama"]()
    variants = [(change(model, seed=seed),) for seed in range(5)]
    together = TargetEffect(model, prompts()).measure(variants)
    assert torch.allclose(TargetEffect(model, prompts(), sign=-1.0).measure(variants), -together)
    assert torch.allclose(TargetEffect(model, prompts(), per_pass=2).measure(variants), together, atol=1e-6)


def test_layers_below_an_edit_are_computed_once() -> None:
    """Once for the base and once to check; 6 edits more do not touch the first layer."""
    model = TINY["llama"]()
    calls: list[int] = []
    find = find_pathways(model).select(["q_proj"], [0])[0]
    model.get_submodule(find.module).register_forward_hook(lambda *_: calls.append(0))
    passes = EditedPasses(model, [Asked((5, 6, 7), (2,))])
    assert len(calls) == 1
    passes.run([(change(model),)])
    assert len(calls) == 2
    assert passes.skips_layers_below(1)
    passes.run([(change(model, seed=seed),) for seed in range(6)])
    assert len(calls) == 2


def test_a_pass_that_differs_is_not_cut_short() -> None:
    model = TINY["llama"]()
    passes = EditedPasses(model, [Asked((5, 6, 7), (2,))])
    right = EditedPasses(model, [Asked((5, 6, 7), (2,))]).run([(change(model),)])
    passes._groups[0].base.states[1].add_(1.0)
    assert torch.allclose(passes.run([(change(model),)]), right)
    assert not passes.skips_layers_below(1)


def test_groups_hold_everything_once_with_little_padding() -> None:
    lengths = [3, 40, 4, 41, 12, 13, 39, 5, 200]
    groups = padded_groups(lengths, tokens=100)
    assert sorted(index for group in groups for index in group) == list(range(9))
    for group in groups:
        longest, total = max(lengths[i] for i in group), sum(lengths[i] for i in group)
        assert longest * len(group) <= 1.25 * total
        assert len(group) == 1 or longest * len(group) <= 100


def test_prompts_without_what_is_followed_are_refused() -> None:
    model = TINY["llama"]()
    with pytest.raises(EditError, match="at least one prompt"):
        ShiftEffect(model, [])
    with pytest.raises(EditError, match="'a text' has no target"):
        TargetEffect(model, [Prompt("prompt", 0, "a text", (5, 6))])
    with pytest.raises(EditError, match="has no tokens"):
        ShiftEffect(model, [Prompt("prompt", 0, "", ())])
