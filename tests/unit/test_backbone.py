"""Hidden states of a batch, in groups of like length and with prompts shared, are those of each row by itself."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from transformers import PreTrainedModel

from readwrite_edit.align import backbone
from readwrite_edit.align.backbone import Pair, can_share, hidden_rows, is_cheaper, length_groups
from tests.tiny_models import TINY, tiny_config

SHARING = {"llama", "mistral", "qwen2", "qwen3", "qwen3_moe", "mixtral", "phi3", "olmo2", "gpt2", "gpt_neox", "opt"}
PROMPTS, CHOSEN, REJECTED = (20, 3, 11, 7), (5, 9, 1, 6), (8, 2, 4, 0)


def pairs(seed: int = 0) -> tuple[Tensor, Tensor]:
    """Right-padded ids and mask: chosen rows, then the rejected ones; the last row's rejected answer is empty."""
    draw = torch.Generator().manual_seed(seed)
    prompts = [torch.randint(3, 100, (length,), generator=draw) for length in PROMPTS]
    rows = [
        torch.cat([prompt, torch.randint(3, 100, (length,), generator=draw)])
        for answers in (CHOSEN, REJECTED)
        for prompt, length in zip(prompts, answers, strict=True)
    ]
    return padded(rows)


def padded(rows: list[Tensor]) -> tuple[Tensor, Tensor]:
    ids = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
    return ids, torch.nn.utils.rnn.pad_sequence([torch.ones_like(row) for row in rows], batch_first=True)


def each_by_itself(model: PreTrainedModel, ids: Tensor, mask: Tensor) -> list[Tensor]:
    lengths = mask.sum(dim=1).tolist()
    return [
        model.base_model(input_ids=row[None, :length]).last_hidden_state[0]
        for row, length in zip(ids, lengths, strict=True)
    ]


def counted(model: PreTrainedModel) -> list[int]:
    """Positions of each pass through the backbone from now on."""
    sizes: list[int] = []

    def count(_module: Any, _args: Any, given: dict[str, Any]) -> None:
        sizes.append(given["input_ids"].numel())

    model.base_model.register_forward_pre_hook(count, with_kwargs=True)
    return sizes


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("name", TINY)
def test_each_row_is_as_by_itself(name: str, attention: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of every known architecture, whether its prompts are shared or not."""
    monkeypatch.setattr(backbone, "_SMALLEST_GROUP_TOKENS", 32)
    model = TINY[name]()
    if attention == "sdpa":
        if not model._supports_sdpa:
            pytest.skip("the architecture has no sdpa attention")
        model.set_attn_implementation("sdpa")
    if name == "mistral":
        model.config.sliding_window = None  # as of its second version
    ids, mask = pairs()
    with torch.no_grad():
        expected = each_by_itself(model, ids, mask)
        sizes = counted(model)
        found = hidden_rows(model, ids, mask)
    assert can_share(model.config) == (name in SHARING)
    for row, (ours, alone) in enumerate(zip(found, expected, strict=True)):
        torch.testing.assert_close(ours, alone, rtol=1e-5, atol=1e-5, msg=lambda text, r=row: f"row {r}: {text}")
    real = int(mask.sum())
    assert (sum(sizes) < real) == (name in SHARING), "fewer positions than tokens where prompts are shared, only there"


ODD = [
    ([4, 5, 6], [4, 5, 6]),
    ([4, 5], [4, 5, 6, 7]),
    ([4, 5, 6, 7], [4, 5]),
    ([4, 5, 6], [7, 8]),
    ([9], [9]),
    (list(range(3, 40)), [*range(3, 30), 50]),
]


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("precision", ["float32", "bfloat16", "autocast"])
def test_answers_that_are_alike_or_begin_one_another(
    attention: str, precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Shared though it saved nothing, in one group; bfloat16 rounds to three digits."""
    monkeypatch.setattr(backbone, "is_cheaper", lambda *_: True)
    model = TINY["llama"]()
    model.set_attn_implementation(attention)
    if precision == "bfloat16":
        model.bfloat16()
    ids, mask = padded([torch.tensor(pair[side]) for side in (0, 1) for pair in ODD])
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=precision == "autocast"):
        expected, sizes = each_by_itself(model, ids, mask), counted(model)
        found = hidden_rows(model, ids, mask)
    assert len(sizes) == 1
    close = 1e-5 if precision == "float32" else 0.05
    for ours, alone in zip(found, expected, strict=True):
        assert ours.dtype == alone.dtype
        torch.testing.assert_close(ours, alone, rtol=close, atol=close)


@pytest.mark.parametrize("checkpointing", [None, False, True])
def test_gradients_are_those_of_each_row_by_itself(checkpointing: bool | None) -> None:
    """Without gradient checkpointing, and with either kind of it."""
    gradients = []
    ids, mask = pairs()
    for run in (each_by_itself, hidden_rows):
        model = TINY["llama"]()
        if checkpointing is not None and run is hidden_rows:
            model.train().gradient_checkpointing_enable({"use_reentrant": checkpointing})
        sum((states * (place + 1)).sin().sum() for place, states in enumerate(run(model, ids, mask))).backward()
        gradients.append({name: p.grad for name, p in model.named_parameters() if p.grad is not None})
    assert gradients[0].keys() == gradients[1].keys() and len(gradients[0]) > 10
    for name, expected in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))


def test_the_mask_is_kept_once_and_not_in_every_layer() -> None:
    model, (ids, mask) = TINY["llama"](), pairs()
    model.set_attn_implementation("sdpa")
    masks = set()

    def note(kept: Tensor) -> Tensor:
        if kept.dim() == 4 and kept.shape[-1] == kept.shape[-2]:
            masks.add(kept.data_ptr())
        return kept

    with torch.autograd.graph.saved_tensors_hooks(note, lambda kept: kept):
        hidden_rows(model, ids, mask)
    assert model.config.num_hidden_layers > 1 and len(masks) == 1


def test_long_sequences_share_only_where_much_is_saved() -> None:
    """Of width 20 a token's products cost as attention to 100 positions does: 150 (1 + 1.5) against 200 (1 + 0.5)."""
    assert not is_cheaper([150], [100, 100], 20)
    assert is_cheaper([150], [100, 100], 2000) and is_cheaper([110], [100, 100], 20)
    assert not is_cheaper([200], [100, 100], 2000)


def test_nothing_is_shared_where_little_is_saved() -> None:
    """The rows' order reversed in one half: no pair begins alike."""
    model, (ids, mask) = TINY["llama"](), pairs()
    half = len(ids) // 2
    ids[half:], mask[half:] = ids[half:].flip(0), mask[half:].flip(0)
    sizes = counted(model)
    with torch.no_grad():
        found = hidden_rows(model, ids, mask)
    assert sum(sizes) >= int(mask.sum())
    for ours, alone in zip(found, each_by_itself(model, ids, mask), strict=True):
        torch.testing.assert_close(ours, alone, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("mistral", {"sliding_window": 8}),
        ("qwen2", {"sliding_window": 8, "use_sliding_window": True, "layer_types": ["sliding_attention"] * 2}),
        ("qwen3", {"layer_types": ["full_attention", "sliding_attention"]}),
        ("llama", {"_attn_implementation": "flash_attention_2"}),
        ("llama", {"rope_parameters": {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0}}),
        ("phi3", {"rope_parameters": {"rope_type": "longrope", "rope_theta": 1e4}}),
        ("gemma2", {}),
        ("bloom", {}),
    ],
)
def test_windows_and_positions_of_another_kind_share_nothing(name: str, changes: dict[str, Any]) -> None:
    config = tiny_config(name)
    config._attn_implementation = "eager"
    for key, value in changes.items():
        setattr(config, key, value)
    assert not can_share(config)


def test_what_two_answers_have_in_common_belongs_to_the_beginning() -> None:
    pair = Pair.of(torch.tensor([1, 2, 3, 4, 5]), torch.tensor([1, 2, 3, 9]))
    assert (pair.common, pair.rest.tolist(), len(pair)) == (3, [9], 6)
    assert pair.positions().tolist() == [0, 1, 2, 3, 4, 3]
    assert pair.visible(6)[5].tolist() == [True, True, True, False, False, True]
    assert Pair.of(torch.tensor([1, 2]), torch.tensor([1, 2])).rest.tolist() == []


@settings(max_examples=60, deadline=None, derandomize=True, database=None)
@given(st.lists(st.integers(1, 400), min_size=1, max_size=24))
def test_groups_partition_the_rows_and_pad_each_to_its_longest(lengths: list[int]) -> None:
    groups = list(length_groups(lengths))
    assert sorted(row for rows, _ in groups for row in rows) == list(range(len(lengths)))
    for rows, longest in groups:
        assert rows == sorted(rows) and longest == max(lengths[row] for row in rows)
    computed = sum(len(rows) * longest for rows, longest in groups)
    assert sum(lengths) <= computed <= len(lengths) * max(lengths)
    for rows, longest in groups[:-1]:
        assert len(rows) * longest >= 256, "a group is closed only when it keeps the processor busy"


def test_rows_of_unlike_length_are_not_padded_to_each_other() -> None:
    """300 and 290 are within an eighth; 100 opens a second group, and 20 may join it."""
    assert list(length_groups([100, 300, 20, 290])) == [([1, 3], 300), ([0, 2], 100)]
    assert list(length_groups([30, 5, 20])) == [([0, 1, 2], 30)]
