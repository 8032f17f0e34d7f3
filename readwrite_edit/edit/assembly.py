"""Changes put together into the factors of LoRA layers: one pair (A, B) a module, whatever the module holds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from readwrite_edit.adapter import Target
from readwrite_edit.errors import EditError
from readwrite_edit.interventions.changes import Change
from readwrite_edit.models.pathways import Projection, module_of, output_width, role_rows


@dataclass(frozen=True, eq=False)
class Assembled:
    """The whole change of one module.

    Attributes:
        target: The module, the projections in it that change, and the rank.
        A: Shape (rank, d_in), float64.
        B: Shape (width of the module, rank), float64; zero outside the rows that change.
        bias: Constant added to the output, shape (width,), float64; None for none.
    """

    target: Target
    A: Tensor
    B: Tensor
    bias: Tensor | None


def assembled(model: nn.Module, changes: Sequence[Change]) -> tuple[Assembled, ...]:
    """One pair of factors a module: ranks of several changes add, the B of each is put into its own rows.

    Changes of different projections of a fused module that read by the same A
    share it: an A that Q and K have in common is not stored twice.

    Args:
        model: Bare model, with or without weights.
        changes: In the order in which their ranks are to lie.

    Returns:
        In the order in which modules first occur.

    Raises:
        EditError: A number is not finite, or nothing changes.
    """
    by_module: dict[str, list[Change]] = {}
    for change in changes:
        _check_finite(change)
        by_module.setdefault(change.projection.module, []).append(change)
    if not by_module:
        raise EditError("the edit changes no matrix: there is nothing to write")
    return tuple(_assemble(model, members) for members in by_module.values())


@dataclass(eq=False)
class _Block:
    """Ranks that read by one A."""

    A: Tensor
    B: Tensor
    projections: set[Projection] = field(default_factory=set)


def _assemble(model: nn.Module, members: Sequence[Change]) -> Assembled:
    width = output_width(module_of(model, members[0].projection))
    blocks: list[_Block] = []
    for change in members:
        block = _block_for(change, blocks, width)
        block.B[role_rows(change.projection)] = change.update.B.double().cpu()
        block.projections.add(change.projection)
    A, B = torch.cat([block.A for block in blocks]), torch.cat([block.B for block in blocks], dim=1)
    if len(A) == 0:  # a constant alone: LoRA has no rank 0
        A, B = torch.zeros(1, A.shape[1], dtype=A.dtype), torch.zeros(width, 1, dtype=B.dtype)
    projections = tuple(dict.fromkeys(change.projection for change in members))
    return Assembled(Target(projections, len(A), None, float("nan")), A, B, _constant(members, width))


def _block_for(change: Change, blocks: list[_Block], width: int) -> _Block:
    """The block that holds the change's A, if another projection brought it; else a new one."""
    A = change.update.A.double().cpu()
    for block in blocks:
        if change.projection not in block.projections and torch.equal(block.A, A):
            return block
    blocks.append(_Block(A, torch.zeros(width, len(A), dtype=torch.float64)))
    return blocks[-1]


def _constant(members: Sequence[Change], width: int) -> Tensor | None:
    if all(change.bias is None for change in members):
        return None
    constant = torch.zeros(width, dtype=torch.float64)
    for change in members:
        if change.bias is not None:
            constant[role_rows(change.projection)] += change.bias.double().cpu()
    return constant


def _check_finite(change: Change) -> None:
    parts = [change.update.A, change.update.B, *([] if change.bias is None else [change.bias])]
    if not all(bool(torch.isfinite(part).all()) for part in parts):
        where = f"layer {change.projection.layer} {change.projection.role}"
        raise EditError(f"the edit of {where} holds NaN or infinity: check the statistics and the strength asked for")
