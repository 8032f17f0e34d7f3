"""Final hidden states of a batch of sequences, at as few token positions as can be.

Two savings, neither of which changes what is computed. Rows run in groups of
like length, so that padding costs little. And where the two halves of a batch
are the chosen and the rejected answers of the same rows, a row's two sequences
run as one: their common beginning p, then what is left of either, a and b. The
positions of b go on from the end of p, and the attention mask hides a from b.
What is at a position then sees what it sees in a sequence of its own. That is
done where it is cheaper: matrix products shrink with the tokens, but attention
runs over the whole square of a sequence, where a causal one of its own is half.

Source: prefix sharing for DPO, arXiv 2410.20305.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedConfig, PreTrainedModel

_SMALLEST_GROUP_TOKENS = 256
_PRODUCTS_OF_A_TOKEN = 5  # as many as attention to so many times d_model positions costs; measured, and 5.3 in theory
# Causal attention over everything before, at positions that the caller may give.
_SHARING = frozenset(
    {"llama", "mistral", "qwen2", "qwen3", "qwen3_moe", "mixtral", "phi3", "olmo2", "gpt2", "gpt_neox", "opt"}
)
_MASKS = ("eager", "sdpa")
_ROPE_OF_THE_LONGEST = ("dynamic", "longrope")  # the longest sequence of a pass decides on the frequencies of all


@dataclass(frozen=True)
class Pair:
    """A row's two sequences as one: the first whole, then what the second has after their common beginning.

    Attributes:
        first: Token ids.
        rest: Token ids of the second from position ``common`` on.
        common: Tokens of the common beginning.
    """

    first: Tensor
    rest: Tensor
    common: int

    def __len__(self) -> int:
        return len(self.first) + len(self.rest)

    @classmethod
    def of(cls, first: Tensor, second: Tensor) -> Pair:
        """Lay two sequences out."""
        shortest = min(len(first), len(second))
        common = int((first[:shortest] == second[:shortest]).cumprod(dim=0).sum())
        return cls(first, second[common:], common)

    def positions(self) -> Tensor:
        """Of each token in its own sequence."""
        return torch.cat([torch.arange(len(self.first)), torch.arange(len(self.rest)) + self.common])

    def visible(self, length: int) -> Tensor:
        """Which columns a row may look at, shape (length, length); padding comes last and looks wherever it likes."""
        index, end = torch.arange(length), len(self.first)
        of_first = (index >= self.common) & (index < end)
        return (index[:, None] >= index) & ~((index[:, None] >= end) & of_first)

    def separate(self, states: Tensor) -> tuple[Tensor, Tensor]:
        """What either sequence would have had, from states of shape (≥ len(self), d_model)."""
        end = len(self.first)
        return states[:end], torch.cat([states[: self.common], states[end : len(self)]])


def hidden_rows(model: PreTrainedModel, input_ids: Tensor, attention_mask: Tensor) -> list[Tensor]:
    """Final hidden states of the tokens of each row.

    Args:
        model: Bare model on a CPU.
        input_ids: Right-padded, shape (batch, time).
        attention_mask: 1 at tokens, likewise.

    Returns:
        For each row, shape (its tokens, d_model).
    """
    rows = [ids[:length] for ids, length in zip(input_ids, attention_mask.sum(dim=1).tolist(), strict=True)]
    if len(rows) % 2 == 0 and can_share(model.config):
        half = len(rows) // 2
        pairs = [Pair.of(*both) for both in zip(rows[:half], rows[half:], strict=True)]
        if is_cheaper(list(map(len, pairs)), list(map(len, rows)), model.config.hidden_size):
            return _shared(model, pairs)
    return _apart(model, rows)


def can_share(config: PreTrainedConfig) -> bool:
    """Whether a model takes masks and positions of our own, and looks at everything before."""
    windows = getattr(config, "sliding_window", None) is not None and getattr(config, "use_sliding_window", True)
    return (
        config.model_type in _SHARING
        and not windows
        and (getattr(config, "rope_parameters", None) or {}).get("rope_type") not in _ROPE_OF_THE_LONGEST
        and set(getattr(config, "layer_types", None) or ["full_attention"]) == {"full_attention"}
        and config._attn_implementation in _MASKS
    )


def is_cheaper(shared: Sequence[int], apart: Sequence[int], d_model: int) -> bool:
    """Whether pairs cost less than their sequences: n (1 + n/5d) each, against n (1 + n/10d).

    Args:
        shared: Tokens of each pair.
        apart: Tokens of each sequence.
        d_model: Width of the model.
    """
    whole = _PRODUCTS_OF_A_TOKEN * d_model
    return sum(n * (1 + n / whole) for n in shared) < sum(n * (1 + n / (2 * whole)) for n in apart)


def _apart(model: PreTrainedModel, rows: Sequence[Tensor]) -> list[Tensor]:
    states: dict[int, Tensor] = {}
    for group, longest in length_groups(list(map(len, rows))):
        attended = _padded([torch.ones_like(rows[row]) for row in group], longest)
        found = model.base_model(
            input_ids=_padded([rows[row] for row in group], longest), attention_mask=attended, use_cache=False
        ).last_hidden_state
        states |= {row: found[place, : len(rows[row])] for place, row in enumerate(group)}
    return [states[row] for row in range(len(rows))]


def _shared(model: PreTrainedModel, pairs: Sequence[Pair]) -> list[Tensor]:
    states: dict[int, tuple[Tensor, Tensor]] = {}
    for group, longest in length_groups(list(map(len, pairs))):
        own = [pairs[pair] for pair in group]
        visible = torch.stack([pair.visible(longest) for pair in own]).unsqueeze(1)
        found = model.base_model(
            input_ids=_padded([torch.cat([pair.first, pair.rest]) for pair in own], longest),
            position_ids=_padded([pair.positions() for pair in own], longest),
            attention_mask=_as_mask(visible, model),
            use_cache=False,
        ).last_hidden_state
        states |= {pair: pairs[pair].separate(found[place]) for place, pair in enumerate(group)}
    first, second = zip(*(states[pair] for pair in range(len(pairs))), strict=True)
    return [*first, *second]


def _as_mask(visible: Tensor, model: PreTrainedModel) -> Tensor:
    """What attention adds to its scores, in the type of these.

    A footgun: of a boolean mask sdpa makes this anew in every layer, and keeps each for the backward pass.
    """
    dtype = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else model.dtype
    return torch.zeros(visible.shape, dtype=dtype).masked_fill_(~visible, torch.finfo(dtype).min)


def _padded(rows: Sequence[Tensor], length: int) -> Tensor:
    """Rows with zeros behind, shape (rows, length)."""
    padded = rows[0].new_zeros(len(rows), length)
    for place, row in enumerate(rows):
        padded[place, : len(row)] = row
    return padded


def length_groups(lengths: Sequence[int]) -> Iterator[tuple[list[int], int]]:
    """Split a right-padded batch into groups of like length.

    Greedy over the rows by falling length: a row opens a new group when joining
    would waste over an eighth of its own length and the group is large enough
    to keep the processor busy.

    Args:
        lengths: Real tokens of each row.

    Yields:
        Rows of a group in rising order and its longest length.
    """
    order = sorted(range(len(lengths)), key=lambda row: -lengths[row])
    group: list[int] = []
    for row in order:
        longest = lengths[group[0]] if group else 0
        full = len(group) * longest >= _SMALLEST_GROUP_TOKENS
        if full and (longest - lengths[row]) * 8 > longest:
            yield sorted(group), longest
            group = []
        group.append(row)
    if group:
        yield sorted(group), lengths[group[0]]
