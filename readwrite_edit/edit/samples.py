"""What a model computes on prompts: inputs and outputs of matrices and the residual stream, token by token."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from readwrite_edit.interventions.forward import layers_of
from readwrite_edit.models.early_end import EnoughError, until_enough
from readwrite_edit.models.pathways import Projection, role_rows
from readwrite_edit.statistics import token_batches

Positions = Literal["last", "all"]


@dataclass(frozen=True)
class Place:
    """Something to look at.

    Attributes:
        what: ``input`` of a matrix, its ``output`` (its bias included), or the residual ``stream`` after its layer.
        projection: The matrix.
    """

    what: Literal["input", "output", "stream"]
    projection: Projection

    @property
    def key(self) -> tuple[str, str]:
        """Equal for places where the same is computed."""
        own = {"input": self.projection.site, "output": f"{self.projection.module} {self.projection.role}"}
        return self.what, own.get(self.what, str(self.projection.layer))


@dataclass(frozen=True, eq=False)
class Samples:
    """What was found, one row a token.

    Attributes:
        rows: :attr:`Place.key` to the vectors there, shape (n, d), float32 on the CPU.
        owners: Index of the sequence that each row is of, shape (n,).
    """

    rows: Mapping[tuple[str, str], Tensor]
    owners: Tensor

    def at(self, place: Place) -> Tensor:
        """The vectors at a place, shape (n, d), float64."""
        return self.rows[place.key].double()


def sample(
    model: PreTrainedModel,
    sequences: Sequence[Sequence[int]],
    places: Sequence[Place],
    *,
    positions: Positions = "last",
    batch_size: int = 8,
) -> Samples:
    """Run a model over sequences and keep what it computes at some places.

    Layers behind the last place are not computed. Edits that are in force (see
    :func:`readwrite_edit.interventions.forward.edited`) are seen.

    Args:
        model: Bare model in evaluation mode.
        sequences: Token ids, none empty.
        places: Where to look.
        positions: The last token of each sequence, or all.
        batch_size: Sequences in a pass.
    """
    order = sorted(range(len(sequences)), key=lambda index: len(sequences[index]), reverse=True)
    found: dict[tuple[str, str], list[Tensor]] = {place.key: [] for place in places}
    owners: list[Tensor] = []
    kept: list[Tensor] = []  # flat positions that are kept of the batch under way
    with ExitStack() as hooks, torch.no_grad():
        for place in {place.key: place for place in places}.values():
            hooks.callback(_watch(model, place, found[place.key], kept).remove)
        deepest = layers_of(model)[max(place.projection.layer for place in places)]
        hooks.callback(deepest.register_forward_hook(_stop).remove)
        batches = token_batches([sequences[index] for index in order], batch_size)
        for number, (input_ids, mask) in enumerate(batches):
            chosen = mask.bool() if positions == "all" else _last(mask)
            kept[:] = [chosen.flatten().nonzero().squeeze(1)]
            owners.append(chosen.nonzero()[:, 0] + number * batch_size)
            _run(model, input_ids.to(model.device), mask.to(model.device))
    owner = torch.tensor(order)[torch.cat(owners)]
    sorting = owner.argsort(stable=True)
    return Samples({key: torch.cat(parts)[sorting] for key, parts in found.items()}, owner[sorting])


def _last(mask: Tensor) -> Tensor:
    """The last token of each row of a right-padded mask."""
    chosen = torch.zeros_like(mask, dtype=torch.bool)
    chosen[torch.arange(len(mask)), mask.sum(dim=1) - 1] = True
    return chosen


def _watch(model: PreTrainedModel, place: Place, found: list[Tensor], kept: list[Tensor]) -> Any:
    """Hook that keeps the rows of one place; their values are copied at once, as Falcon adds to outputs in place."""

    def keep(tensor: Tensor) -> None:
        rows = tensor.reshape(-1, tensor.shape[-1])
        found.append(rows[kept[0].to(rows.device)].float().cpu())

    module = model.get_submodule(place.projection.module)
    if place.what == "input":
        return module.register_forward_pre_hook(lambda _module, inputs: keep(inputs[0]))
    if place.what == "stream":
        return layers_of(model)[place.projection.layer].register_forward_hook(
            lambda _module, _inputs, output: keep(output[0] if isinstance(output, tuple) else output)
        )
    own = role_rows(place.projection)
    return module.register_forward_hook(lambda _module, _inputs, output: keep(output[..., own.to(output.device)]))


def _stop(_module: nn.Module, _inputs: Any, _output: Any) -> None:
    raise EnoughError


def _run(model: PreTrainedModel, input_ids: Tensor, mask: Tensor) -> None:
    with until_enough():
        model.base_model(input_ids=input_ids, attention_mask=mask, use_cache=False)
