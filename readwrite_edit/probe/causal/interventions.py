"""Rank-1 edits in the forward pass: no weight is written, no model copied.

An edit ε u vᵀ of a matrix adds ε (vᵀx) u to its output, so a hook on the
module computes (W + ΔW) x literally, whatever follows: rotary embeddings,
norms of queries and keys, grouped heads. Several edits share one pass, each on
its own copy of the batch, and layers below the edited one are not computed
again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from readwrite_edit.errors import ShapeError
from readwrite_edit.models.architectures import ARCHITECTURES
from readwrite_edit.models.pathways import Projection


@dataclass(frozen=True, eq=False)
class Edit:
    """ΔW = ε u vᵀ of one matrix.

    Attributes:
        projection: The matrix.
        epsilon: ε, the Frobenius norm of the edit; negative for the opposite sign.
        reads: Unit input direction v, shape (d_in,).
        writes: Unit output direction u, shape (d_out,), in the order of the role's own rows.
    """

    projection: Projection
    epsilon: float
    reads: Tensor
    writes: Tensor

    def __post_init__(self) -> None:
        found = (len(self.writes), len(self.reads))
        if found != (self.projection.d_out, self.projection.d_in):
            raise ShapeError(
                f"an edit of shape {found} does not fit layer {self.projection.layer} {self.projection.role} of shape "
                f"{(self.projection.d_out, self.projection.d_in)}"
            )

    def delta_w(self) -> Tensor:
        """The update itself, shape (d_out, d_in)."""
        return self.epsilon * torch.outer(self.writes, self.reads)


@contextmanager
def edited(model: nn.Module, edits: Sequence[Edit]) -> Iterator[None]:
    """Apply each edit to its own copy of the batch.

    In the block the model expects ``len(edits)`` copies of a batch one after
    the other (see :func:`copies`); the first edit acts on the first copy.

    Args:
        model: Bare model.
        edits: Of one and the same matrix.

    Raises:
        ShapeError: They are of several matrices.
    """
    projection = edits[0].projection
    if any(edit.projection != projection for edit in edits):
        raise ShapeError("edits of several matrices can not share a pass: give those of one matrix")
    module = model.get_submodule(projection.module)
    handle = module.register_forward_hook(_adding(edits, next(module.parameters()).device))
    try:
        yield
    finally:
        handle.remove()


def copies(batch: Tensor, count: int) -> Tensor:
    """A batch repeated along its first dimension, copy after copy."""
    return batch.repeat(count, *(1,) * (batch.ndim - 1))


def _adding(edits: Sequence[Edit], device: torch.device) -> Callable[..., Tensor]:
    """Hook that adds ε (vᵀx) u to the rows of the role, edit by edit."""
    projection, count = edits[0].projection, len(edits)
    v = torch.stack([edit.reads for edit in edits]).float().to(device)  # (edits, d_in)
    u = torch.stack([edit.epsilon * edit.writes for edit in edits]).float().to(device)  # (edits, d_out)
    spans = projection.rows or ((0, projection.d_out),)
    parts = u.split([stop - start for start, stop in spans], dim=1)

    def hook(_module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        x = inputs[0].reshape(count, -1, projection.d_in)
        strength = torch.bmm(x.float(), v.unsqueeze(2))  # (edits, tokens, 1)
        changed = output.clone()
        rows = changed.view(count, -1, changed.shape[-1])
        for (start, stop), part in zip(spans, parts, strict=True):
            rows[..., start:stop] += (strength * part.unsqueeze(1)).to(rows.dtype)
        return changed

    return hook


def layers_of(model: PreTrainedModel) -> Sequence[nn.Module]:
    """The layers of a model of a known architecture, in order."""
    layers: Any = model.get_submodule(ARCHITECTURES[model.config.model_type].layers)
    return list(layers)


@dataclass(frozen=True, eq=False)
class Unedited:
    """What an unedited pass computed.

    Attributes:
        hidden: Final hidden states, shape (batch, time, d_model).
        states: Layer to the hidden state that entered it, shape (batch, time, d_model).
        inputs: Module name to what it read, shape (batch · time, d_in).
        as_tuple: Whether this architecture's layers return a tuple that starts with the hidden state.
    """

    hidden: Tensor
    states: Mapping[int, Tensor]
    inputs: Mapping[str, Tensor]
    as_tuple: bool


def unedited(model: PreTrainedModel, input_ids: Tensor, projections: Sequence[Projection]) -> Unedited:
    """Run the model as it is, and keep what entered some matrices and their layers.

    Args:
        model: Bare model in evaluation mode.
        input_ids: Sequences of one length, shape (batch, time).
        projections: The matrices.
    """
    layers = layers_of(model)
    states: dict[int, Tensor] = {}
    inputs: dict[str, Tensor] = {}
    returned: list[Any] = []

    def at_layer(index: int) -> Callable[..., None]:
        def hook(_module: nn.Module, given: tuple[Any, ...], named: dict[str, Any], output: Any) -> None:
            states[index] = given[0] if given else named["hidden_states"]
            returned.append(output)

        return hook

    def at_module(name: str) -> Callable[..., None]:
        def hook(_module: nn.Module, given: tuple[Tensor, ...]) -> None:
            inputs[name] = given[0].reshape(-1, given[0].shape[-1])

        return hook

    with ExitStack() as hooks:
        for index in {projection.layer for projection in projections}:
            hooks.callback(layers[index].register_forward_hook(at_layer(index), with_kwargs=True).remove)
        for name in {projection.module for projection in projections}:
            hooks.callback(model.get_submodule(name).register_forward_pre_hook(at_module(name)).remove)
        hidden = final_hidden(model, input_ids)
    return Unedited(hidden, states, inputs, isinstance(returned[0], tuple))


def final_hidden(model: PreTrainedModel, input_ids: Tensor) -> Tensor:
    """Final hidden states, shape (batch, time, d_model), without the language-model head."""
    output: Tensor = model.base_model(input_ids=input_ids, use_cache=False).last_hidden_state
    return output


@contextmanager
def starting_at(model: PreTrainedModel, layer: int, state: Tensor, *, as_tuple: bool) -> Iterator[None]:
    """Let the layers before one hand on a given hidden state instead of computing theirs.

    The model's own forward pass stays in charge of masks, positions and the
    final norm, so nothing about an architecture is written down twice. What a
    layer might hand on beside its hidden state is lost: check against a whole
    pass before trusting it.

    Args:
        model: Bare model.
        layer: First layer to compute.
        state: What enters it, shape (batch, time, d_model).
        as_tuple: Whether layers return tuples.
    """

    def hand_on(*_inputs: Any, **_named: Any) -> Any:
        return (state,) if as_tuple else state

    with ExitStack() as undo:
        for skipped in layers_of(model)[:layer]:
            undo.callback(_restore_forward, skipped, skipped.__dict__.get("forward"))
            skipped.forward = hand_on  # type: ignore[method-assign]
        yield


def _restore_forward(module: nn.Module, forward: Any) -> None:
    if forward is None:
        del module.forward
    else:
        module.forward = forward  # type: ignore[method-assign]
