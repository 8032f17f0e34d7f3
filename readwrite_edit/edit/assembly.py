"""Changes put together into the factors of LoRA layers: one pair (A, B) a module, whatever the module holds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from readwrite_edit.adapter import Target
from readwrite_edit.errors import EditError
from readwrite_edit.interventions.changes import Change
from readwrite_edit.models.pathways import Projection, module_of, output_width, role_rows

ASK_LESS = "ask for less (a smaller strength, change, factor or margin)"
_STORED = torch.float32  # what an adapter is stored in


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
        EditError: A number is not finite in the type that adapters are stored in, or nothing changes.
    """
    by_module: dict[str, list[Change]] = {}
    for change in changes:
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
    part = Assembled(Target(projections, len(A), None, float("nan")), A, B, _constant(members, width))
    _require_finite(part)
    return part


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


def _require_finite(part: Assembled) -> None:
    """Refuse what would be no finite number in the adapter's file."""
    values = {"A": part.A, "B": part.B} | ({} if part.bias is None else {"its constant": part.bias})
    for name, value in values.items():
        if not bool(value.to(_STORED).isfinite().all()):
            members = part.target.projections
            where = f"layer {members[0].layer} {', '.join(member.role for member in members)}"
            raise EditError(f"the edit of {where}: {name} {_worst(value)}")


def _worst(value: Tensor) -> str:
    """The number that is not finite once stored, and what to do."""
    largest = float(value.abs().max())  # NaN where any is
    if math.isnan(largest):
        return f"holds NaN: check the statistics, or {ASK_LESS}"
    return f"reaches {largest:.3g}, and an adapter's float32 holds {torch.finfo(_STORED).max:.3g} at most: {ASK_LESS}"
