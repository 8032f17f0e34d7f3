"""What an update adds to the outputs of its matrices, summed while the base reads a text: its price on that text."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from peft import PeftModel
from torch import Tensor, nn

from readwrite_edit.geometry import LowRank
from readwrite_edit.models.pathways import Projection, unwrap

Matrix = tuple[Projection, LowRank]


@dataclass
class Energy:
    """Running sum of ‖ΔW x‖² over the tokens of a text."""

    total: float = 0.0
    tokens: int = 0

    @property
    def mean(self) -> float:
        """A token; NaN without any."""
        return self.total / self.tokens if self.tokens else math.nan


@contextmanager
def added_energy(model: PeftModel, matrices: Sequence[Matrix], *, first_position: bool) -> Iterator[list[Energy]]:
    """Sum what each update would add to its matrix' output while the base, the adapter off, reads a text.

    The mean is tr(ΔW C ΔWᵀ) with C = E[x xᵀ] of the tokens read, without C:
    no sum of size (d_in, d_in) is kept.

    Args:
        model: With LoRA layers on the matrices.
        matrices: With their updates.
        first_position: Whether the first position of each sequence counts, as in the statistics.

    Yields:
        One sum a matrix, filled by the passes inside the block; padding is left out.
    """
    counted: list[Tensor] = []

    def note_mask(_module: nn.Module, _given: tuple[Any, ...], named: dict[str, Any]) -> None:
        mask = named["attention_mask"].bool().clone()
        mask[:, 0] &= first_position
        counted[:] = [mask]

    sums = [Energy() for _ in matrices]
    bare = unwrap(model)
    with ExitStack() as hooks:
        hooks.callback(bare.base_model.register_forward_pre_hook(note_mask, with_kwargs=True).remove)
        for (projection, update), energy in zip(matrices, sums, strict=True):
            module = bare.get_submodule(projection.module)
            hooks.callback(module.register_forward_hook(_adding(energy, update, counted)).remove)
        yield sums


def _adding(energy: Energy, update: LowRank, counted: Sequence[Tensor]) -> Any:
    triangle = torch.linalg.qr(update.B.double())[1]
    factor = (triangle @ update.A.to(triangle)).float()  # ‖B A x‖ = ‖R A x‖ with B = Q R

    def hook(module: Any, inputs: tuple[Tensor, ...], _output: Tensor) -> None:
        if not module.disable_adapters:
            return
        x = inputs[0][counted[0].to(inputs[0].device)].float()
        energy.total += float((x @ factor.to(x.device).T).double().square().sum())
        energy.tokens += len(x)

    return hook
