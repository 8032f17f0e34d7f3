"""The change of stored tensors, one pair at a time: neither model is built."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from readwrite_edit.errors import ModelError
from readwrite_edit.models.pathways import Projection, role_rows
from readwrite_edit.models.tensor_files import TensorFiles, row_blocks
from readwrite_edit.probe.delta.pairing import Pair

_BLOCK_NUMBERS = 1 << 20


def read_delta(base: TensorFiles, tuned: TensorFiles, pair: Pair) -> Tensor:
    """ΔW = W_tuned − W_base of a stored tensor, subtracted in the wider of both types and at least float32.

    Args:
        base: Files of the base.
        tuned: Files of the tuned checkpoint.
        pair: Which tensor.

    Returns:
        Shape (d_out, d_in) of the whole module, or (d_out,) of a bias.

    Raises:
        ModelError: One of the two holds NaN or infinity, or a file can not be read.
    """
    wide = torch.float64 if "F64" in (pair.base.dtype, pair.tuned.dtype) else torch.float32
    delta = torch.empty(pair.base.shape, dtype=wide)
    for start, stop in row_blocks(pair.base, _BLOCK_NUMBERS):
        ours = pair.base.as_tensor(base.read(pair.base, start, stop)).to(wide)
        theirs = pair.tuned.as_tensor(tuned.read(pair.tuned, start, stop)).to(wide)
        torch.sub(theirs, ours, out=delta[start:stop])
        if not bool(torch.isfinite(delta[start:stop]).all()):
            raise ModelError(_not_finite(pair, ours, theirs))
    return delta.T if pair.transposed else delta


def rows_of(delta: Tensor, projection: Projection) -> Tensor:
    """What of a module's change is of one role: its rows, (d_out, d_in), or entries of a bias."""
    return delta if projection.rows is None else delta[role_rows(projection)]


def changed_biases(base: TensorFiles, tuned: TensorFiles, pairs: Sequence[Pair]) -> list[str]:
    """Names of the biases that changed beside the matrices of pairs: small, and no part of a product B A."""
    chosen: dict[str, list[Projection]] = {}
    for projection in (found for pair in pairs for found in pair.projections):
        chosen.setdefault(f"{projection.module}.bias", []).append(projection)
    return [
        pair.name
        for pair in pairs
        if pair.name in chosen
        and any(bool(rows_of(read_delta(base, tuned, pair), projection).any()) for projection in chosen[pair.name])
    ]


def _not_finite(pair: Pair, ours: Tensor, theirs: Tensor) -> str:
    for stored, block in ((pair.base, ours), (pair.tuned, theirs)):
        if not bool(torch.isfinite(block).all()):
            return f"{stored.file}: {stored.name} holds NaN or infinity; the checkpoint is damaged"
    return f"{pair.tuned.file}: {pair.name} differs from the base's by more than its type can hold"
