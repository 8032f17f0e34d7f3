"""Prompts that are run again and again through one layer's attention, each time edited otherwise."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from readwrite_edit.edit.attend.scores import attention_scores
from readwrite_edit.edit.passes import TOKENS_PER_PASS, padded
from readwrite_edit.interventions.changes import Variant
from readwrite_edit.interventions.forward import copies, edited, layers_of, starting_at
from readwrite_edit.models.pathways import Projection, role_rows


class Sequences:
    """Token sequences before one layer; the layers below it are computed once.

    Shorter ones are filled up behind their end, which nothing in a causal model
    looks at, so no mask is needed.

    Args:
        model: Bare model in evaluation mode.
        sequences: Token ids.
        projection: Matrix of the layer whose scores are read.
    """

    def __init__(self, model: PreTrainedModel, sequences: Sequence[Sequence[int]], projection: Projection) -> None:
        self._model, self._projection = model, projection
        self._ids = padded(sequences).to(model.device)
        self.lengths = tuple(map(len, sequences))
        with torch.no_grad():
            self._base = _before(model, self._ids, projection)

    @property
    def dtype(self) -> torch.dtype:
        """What the model computes in."""
        return self._base.state.dtype

    @property
    def inputs(self) -> Tensor:
        """What the projection reads, (sequences, time, d_in), float64 on the CPU; what fills up is among it."""
        return self._base.inputs.double().cpu()

    def scores(
        self, variants: Sequence[Variant], rows: Sequence[int] | None = None, *, per_pass: int | None = None
    ) -> Tensor:
        """Scores of each variant before the softmax.

        Args:
            variants: Edits of any matrices, each alone.
            rows: Query position of each sequence; None takes all.
            per_pass: Most edits in one forward pass; None takes as many as is quick.

        Returns:
            Shape (variants, sequences, heads, time), or with all rows (…, time, time); float32 on the CPU.
        """
        at_once = per_pass or max(1, TOKENS_PER_PASS // self._ids.numel())
        parts = []
        with torch.no_grad():
            for start in range(0, len(variants), at_once):
                some = variants[start : start + at_once]
                parts.append(self._pass(some, rows).unflatten(0, (len(some), -1)).cpu())
        return torch.cat(parts)

    def slopes(
        self, variant: Variant, rows: Sequence[int], keys: Sequence[int], heads: Sequence[int], *, at: Sequence[int]
    ) -> tuple[Tensor, Tensor]:
        """Scores of one pair in each sequence, and how they follow what the projection puts out.

        Args:
            variant: Edit at which to take the derivative.
            rows: Query position of each sequence.
            keys: Key position of each.
            heads: Query heads.
            at: Position of each whose output is varied.

        Returns:
            Scores, (sequences, heads), and their derivative by the output, (sequences, heads, d_out); float64, CPU.
        """
        outputs: list[Tensor] = []

        def from_here(_module: object, _inputs: object, output: Tensor) -> Tensor:
            outputs.append(output.detach().requires_grad_())
            return outputs[0]

        module = self._model.get_submodule(self._projection.module)
        each = torch.arange(len(self._ids))
        with torch.enable_grad(), ExitStack() as hooks:
            hooks.enter_context(edited(self._model, [variant]))
            hooks.callback(module.register_forward_hook(from_here).remove)
            picked = self._pass([variant], rows, hooked=True)[each, :, list(keys)][:, list(heads)]
            found = [torch.autograd.grad(column.sum(), outputs[0], retain_graph=True)[0] for column in picked.T]
        own = role_rows(self._projection, self._ids.device)
        slopes = torch.stack([one[each, list(at)][:, own] for one in found], dim=1)
        return picked.detach().double().cpu(), slopes.double().cpu()

    def _pass(self, variants: Sequence[Variant], rows: Sequence[int] | None, *, hooked: bool = False) -> Tensor:
        layer, count = self._projection.layer, len(variants)
        wanted = None if rows is None else torch.tensor(rows, device=self._ids.device).repeat(count)
        lowest = min((change.projection.layer for variant in variants for change in variant), default=layer)
        with ExitStack() as acting:
            if not hooked:
                acting.enter_context(edited(self._model, variants))
            if lowest >= layer:
                state = copies(self._base.state, count)
                acting.enter_context(starting_at(self._model, layer, state, as_tuple=self._base.as_tuple))
            return attention_scores(self._model, copies(self._ids, count), layer, wanted)


@dataclass(frozen=True, eq=False)
class _Before:
    """What the layers below computed.

    Attributes:
        state: What enters the layer, (batch, time, d_model).
        inputs: What the projection reads, (batch, time, d_in).
        as_tuple: Whether layers return tuples; of no meaning where none lies below.
    """

    state: Tensor
    inputs: Tensor
    as_tuple: bool


def _before(model: PreTrainedModel, input_ids: Tensor, projection: Projection) -> _Before:
    """Run the model up to the scores of the projection's layer."""
    layers, layer = layers_of(model), projection.layer
    states: list[Tensor] = []
    inputs: list[Tensor] = []
    returned: list[Any] = []

    def enters(_module: object, given: tuple[Tensor, ...], named: dict[str, Any]) -> None:
        states.append(given[0] if given else named["hidden_states"])

    with ExitStack() as hooks:
        hooks.callback(layers[layer].register_forward_pre_hook(enters, with_kwargs=True).remove)
        module = model.get_submodule(projection.module)
        hooks.callback(module.register_forward_pre_hook(lambda _module, given: inputs.append(given[0])).remove)
        hooks.callback(layers[0].register_forward_hook(lambda _module, _given, output: returned.append(output)).remove)
        attention_scores(model, input_ids, layer)
    return _Before(states[0], inputs[0].view(*input_ids.shape, -1), bool(returned) and isinstance(returned[0], tuple))
