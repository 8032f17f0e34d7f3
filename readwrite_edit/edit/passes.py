"""Final hidden states of fixed sequences under many edits, no layer computed twice that no edit reaches.

Sequences of different lengths are padded on the right and no mask is given:
attention is causal, so no position sees what follows it, padding included.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedModel

from readwrite_edit.interventions.changes import Variant
from readwrite_edit.interventions.forward import Unedited, copies, edited, final_hidden, starting_at, unedited
from readwrite_edit.models.language_head import language_model_head
from readwrite_edit.models.pathways import find_pathways

TOKENS_PER_PASS = 2048  # the quickest of 288 to 4608 on the bundled model and a CPU
_TOKENS_ON_GPU = 16384
PADDING = 1.25  # a group of sequences is computed together while padding adds no more than a quarter
_LITTLE = 1.05  # under many variants passes are large enough whatever the group: hardly any padding pays
_TOLERANCE = 1e-4
_ROWS = 128  # positions in a product with the unembedding


@dataclass(frozen=True)
class Asked:
    """A sequence, and the positions whose hidden states are wanted.

    Attributes:
        ids: Its tokens.
        places: Positions, from 0.
    """

    ids: tuple[int, ...]
    places: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class _Group:
    """Sequences that are computed together.

    Attributes:
        ids: Padded on the right, (sequences, time).
        picks: Positions wanted, in the flattened (sequences · time).
        slots: Where they stand in the answer.
        base: The unedited pass.
    """

    ids: Tensor
    picks: Tensor
    slots: Tensor
    base: Unedited


def padded_groups(
    lengths: Sequence[int], *, tokens: int = TOKENS_PER_PASS, padding: float = PADDING
) -> list[list[int]]:
    """Indices of sequences to compute together: of like length, and not too many.

    Args:
        lengths: Of the sequences, in tokens.
        tokens: Most tokens in a group, padding included; a single sequence may have more.
        padding: Most tokens in a group relative to those of its sequences.
    """
    groups: list[list[int]] = []
    real = 0
    for index in sorted(range(len(lengths)), key=lambda i: lengths[i], reverse=True):
        if groups:
            padded = lengths[groups[-1][0]] * (len(groups[-1]) + 1)
            if padded <= min(tokens, padding * (real + lengths[index])):
                groups[-1].append(index)
                real += lengths[index]
                continue
        groups.append([index])
        real = lengths[index]
    return groups


def padded(sequences: Sequence[Sequence[int]]) -> Tensor:
    """Sequences as rows; each ends in copies of its last token, which its own positions never see."""
    longest = max(map(len, sequences))
    return torch.tensor([[*row, *[row[-1]] * (longest - len(row))] for row in sequences])


class EditedPasses:
    """Runs fixed sequences through a model under variants of it.

    Layers below the lowest edited one are not computed again, where a pass from
    that layer on was found to give what a whole one gives.

    Args:
        model: Bare model in evaluation mode, as it is to be compared with.
        asked: Sequences with the positions that are wanted.
        per_pass: Most variants in one forward pass; None takes as many as is quick.
    """

    def __init__(self, model: PreTrainedModel, asked: Sequence[Asked], *, per_pass: int | None = None) -> None:
        self._model, self._per_pass, self._exact = model, per_pass, dict[int, bool]()
        starts = [0, *itertools.accumulate(len(one.places) for one in asked)]
        self._count = starts[-1]
        with torch.no_grad():
            self._groups = [
                self._group([asked[row] for row in rows], [starts[row] for row in rows])
                for rows in padded_groups([len(one.ids) for one in asked], padding=_LITTLE)
            ]

    def base(self) -> Tensor:
        """Without an edit, shape (positions, d_model), in the order in which the positions were asked for."""
        return self._in_order([group.base.hidden.flatten(0, 1)[group.picks].unsqueeze(0) for group in self._groups])[0]

    def run(self, variants: Sequence[Variant]) -> Tensor:
        """Under each variant, shape (variants, positions, d_model)."""
        with torch.no_grad():
            found = [
                torch.cat([self._picked(group, part) for part in self._parts(group, variants)])
                for group in self._groups
            ]
        return self._in_order(found)

    def skips_layers_below(self, layer: int) -> bool:
        """Whether edits from a layer on were found to need no pass through the layers below it."""
        return self._exact.get(layer, False)

    def _group(self, asked: Sequence[Asked], starts: Sequence[int]) -> _Group:
        ids = padded([one.ids for one in asked]).to(self._model.device)
        time = ids.shape[1]
        picks = [row * time + place for row, one in enumerate(asked) for place in one.places]
        slots = [start + offset for start, one in zip(starts, asked, strict=True) for offset in range(len(one.places))]
        readers = {projection.layer: projection for projection in find_pathways(self._model).projections}
        base = unedited(self._model, ids, tuple(readers.values()))
        # what matrices read is not needed again, and would be the largest part of what is kept
        kept = Unedited(base.hidden, base.states, {}, base.as_tuple)
        return _Group(ids, torch.tensor(picks, device=ids.device), torch.tensor(slots), kept)

    def _parts(self, group: _Group, variants: Sequence[Variant]) -> Iterator[Sequence[Variant]]:
        tokens = TOKENS_PER_PASS if group.ids.device.type == "cpu" else _TOKENS_ON_GPU
        size = self._per_pass or max(1, tokens // group.ids.numel())
        for start in range(0, len(variants), size):
            yield variants[start : start + size]

    def _picked(self, group: _Group, variants: Sequence[Variant]) -> Tensor:
        """(variants, positions of the group, d_model)."""
        layers = [change.projection.layer for variant in variants for change in variant]
        start = min(layers, default=0)
        if start > 0 and start not in self._exact:
            self._check(group, variants[:1], start)
        hidden = self._hidden(group, variants, start if self.skips_layers_below(start) else 0)
        return hidden.unflatten(0, (len(variants), -1)).flatten(1, 2)[:, group.picks]

    def _check(self, group: _Group, variants: Sequence[Variant], layer: int) -> None:
        whole, suffix = (self._hidden(group, variants, start).float() for start in (0, layer))
        self._exact[layer] = bool((whole - suffix).abs().max() <= _TOLERANCE * whole.abs().max())

    def _hidden(self, group: _Group, variants: Sequence[Variant], layer: int) -> Tensor:
        ids = copies(group.ids, len(variants))
        with edited(self._model, variants):
            if layer == 0:
                return final_hidden(self._model, ids)
            state = copies(group.base.states[layer], len(variants))
            with starting_at(self._model, layer, state, as_tuple=group.base.as_tuple):
                return final_hidden(self._model, ids)

    def _in_order(self, found: Sequence[Tensor]) -> Tensor:
        """Positions of all groups in the order in which they were asked for."""
        out = found[0].new_empty(len(found[0]), self._count, found[0].shape[-1])
        for group, part in zip(self._groups, found, strict=True):
            out[:, group.slots.to(out.device)] = part
        return out


def logits_in_parts(model: PreTrainedModel, hidden: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Logits of hidden states (n, d_model), some rows at a time, so that no (n, vocabulary) is ever held.

    Yields:
        Indices of rows, and their logits in float32.
    """
    head = language_model_head(model)
    for rows in torch.arange(len(hidden), device=hidden.device).split(_ROWS):
        yield rows, head.logits(hidden[rows])
