"""Low-rank changes in the forward pass: no weight is written, no model copied.

A change ΔW = B A of a matrix adds B (A x) to its output, so a hook on the module
computes (W + ΔW) x literally, whatever follows: rotary embeddings, norms of
queries and keys, grouped heads. Several variants share one pass, each on its own
copy of the batch, and layers below the lowest changed one are not computed again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from readwrite_edit.interventions.changes import Change, Variant
from readwrite_edit.models.architectures import ARCHITECTURES
from readwrite_edit.models.pathways import Projection, output_width, role_rows, unwrap


@contextmanager
def edited(model: nn.Module, variants: Sequence[Variant]) -> Iterator[None]:
    """Apply each variant to its own copy of the batch.

    In the block the model expects ``len(variants)`` copies of a batch one after
    the other (see :func:`copies`); the first variant acts on the first copy.
    Variants may change different matrices, and none at all.

    Args:
        model: Bare model.
        variants: What each copy of the batch is computed with.
    """
    with ExitStack() as hooks:
        for name, members in _by_module(variants).items():
            module = unwrap(model).get_submodule(name)
            hooks.callback(module.register_forward_hook(_adding(module, members, len(variants))).remove)
        yield


def copies(batch: Tensor, count: int) -> Tensor:
    """A batch repeated along its first dimension, copy after copy."""
    return batch.repeat(count, *(1,) * (batch.ndim - 1))


_Member = tuple[int, Change]  # which variant, and its change


def _by_module(variants: Sequence[Variant]) -> dict[str, list[_Member]]:
    found: dict[str, list[_Member]] = {}
    for index, variant in enumerate(variants):
        for change in variant:
            found.setdefault(change.projection.module, []).append((index, change))
    return found


def _adding(module: nn.Module, members: Sequence[_Member], count: int) -> Callable[..., Tensor]:
    """Hook that adds B (A x) + bias to the rows of each role, variant by variant."""
    A, B = _stacked(module, members, count)
    constant = _constants(module, members, count)

    def hook(_module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        x = inputs[0].reshape(count, -1, A.shape[2]).float()
        added = (x @ A.transpose(1, 2)) @ B.transpose(1, 2)  # (variants, tokens, width)
        if constant is not None:
            added = added + constant
        return output + added.view(output.shape).to(output.dtype)

    return hook


def _stacked(module: nn.Module, members: Sequence[_Member], count: int) -> tuple[Tensor, Tensor]:
    """A, (variants, r, d_in), and B, (variants, width, r), of all changes of a module; short ones end in zeros."""
    device = next(module.parameters()).device
    ranks = [sum(len(change.update.A) for index, change in members if index == variant) for variant in range(count)]
    A = torch.zeros(count, max(ranks), members[0][1].projection.d_in, device=device)
    B = torch.zeros(count, output_width(module), max(ranks), device=device)
    used = [0] * count
    for index, change in members:
        span = slice(used[index], used[index] + len(change.update.A))
        A[index, span] = change.update.A.to(device, torch.float32)
        B[index, role_rows(change.projection, device), span] = change.update.B.to(device, torch.float32)
        used[index] = span.stop
    return A, B


def _constants(module: nn.Module, members: Sequence[_Member], count: int) -> Tensor | None:
    """What each variant adds to the module's output whatever it reads, (variants, 1, width); None for nothing."""
    if all(change.bias is None for _, change in members):
        return None
    constant = torch.zeros(count, 1, output_width(module), device=next(module.parameters()).device)
    for index, change in members:
        if change.bias is not None:
            constant[index, 0, role_rows(change.projection, constant.device)] += change.bias.to(constant)
    return constant


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
