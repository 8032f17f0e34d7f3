"""The prediction subspace: output directions that move the next-token distribution."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain

import torch
from torch import Tensor

from readwrite_edit.errors import ShapeError
from readwrite_edit.geometry.bases import principal_basis

_BLOCK = 2048


def unembedding_gram(
    unembedding: Tensor | Iterable[Tensor],
    gain: Tensor | None = None,
    *,
    centred: bool = True,
    token_weights: Tensor | None = None,
) -> Tensor:
    """Gram matrix of the unembedding, streamed over the vocabulary.

    Computes Σ_v p_v (w_v − w̄)(w_v − w̄)ᵀ with w̄ = Σ_v p_v w_v; p_v is 1/vocabulary,
    or the given weights over their sum. Centred over the vocabulary because the
    softmax ignores a shift common to all logits; the final norm's gain is folded in
    because the residual stream passes through it on its way to the logits.

    Args:
        unembedding: Rows are tokens, shape (vocabulary, d_model); or its blocks of rows, in order.
        gain: Multiplier of the final norm, shape (d_model,), or None.
        centred: Take the mean row out.
        token_weights: How much each token counts (its frequency in a text), shape (vocabulary,),
            at least 0; None counts every token alike.

    Returns:
        Shape (d_model, d_model), float64.

    Raises:
        ShapeError: No rows; blocks of different widths; weights of another length, negative or all zero.
    """
    rows = _row_blocks(unembedding)
    weights = None if token_weights is None else _checked_weights(token_weights)
    first = next(rows, None)
    if first is None:
        raise ShapeError("the unembedding has no rows, expected one for each token")
    dim = first.shape[1]
    gram = torch.zeros(dim, dim, dtype=torch.float64, device=first.device)
    total = torch.zeros(dim, dtype=torch.float64, device=first.device)
    size = _accumulate(gram, total, chain([first], rows), weights)
    mass = size if weights is None else float(weights.sum())
    gram /= mass
    if centred:
        mean = total / mass
        gram -= torch.outer(mean, mean)
    if gain is not None:
        scale = gain.double()
        gram *= torch.outer(scale, scale)
    return gram


def prediction_basis(
    unembedding: Tensor | Iterable[Tensor],
    k: int,
    gain: Tensor | None = None,
    *,
    centred: bool = True,
    token_weights: Tensor | None = None,
) -> Tensor:
    """Top eigenvectors V_k of the unembedding's Gram matrix.

    Args:
        unembedding: Shape (vocabulary, d_model), or its blocks of rows, in order.
        k: Number of columns.
        gain: Final norm's multiplier, shape (d_model,), or None.
        centred: Take the mean over the vocabulary out.
        token_weights: How much each token counts, shape (vocabulary,); None counts every token alike.

    Returns:
        Orthonormal columns, shape (d_model, k), float64.

    Source: arXiv 2605.16600; centring, gain and weights are this project's.
    """
    return principal_basis(unembedding_gram(unembedding, gain, centred=centred, token_weights=token_weights), k)


def _accumulate(gram: Tensor, total: Tensor, blocks: Iterable[Tensor], weights: Tensor | None) -> int:
    """Adds Σ p w wᵀ and Σ p w in place; returns the number of rows."""
    size = 0
    for block in blocks:
        if block.shape[1] != len(total):
            raise ShapeError(f"a block of the unembedding has {block.shape[1]} columns, the first had {len(total)}")
        rows = block.double()
        size += len(rows)
        weighted = rows
        if weights is not None:
            weighted = rows * _weights_of(weights, size - len(rows), size).to(rows.device)
        gram += rows.T @ weighted
        total += weighted.sum(dim=0)
    if weights is not None and len(weights) != size:
        raise ShapeError(f"{len(weights)} token weights for an unembedding of {size} tokens: give one for each")
    return size


def _weights_of(weights: Tensor, start: int, end: int) -> Tensor:
    if end > len(weights):
        raise ShapeError(f"{len(weights)} token weights for an unembedding of {end} tokens or more: give one for each")
    return weights[start:end, None]


def _checked_weights(weights: Tensor) -> Tensor:
    wide = weights.double()
    if wide.ndim != 1 or not bool((wide >= 0).all()) or not 0 < float(wide.sum()) < float("inf"):
        raise ShapeError("token weights must be a vector of finite numbers of at least 0, not all of them 0")
    return wide


def _row_blocks(unembedding: Tensor | Iterable[Tensor]) -> Iterator[Tensor]:
    blocks = [unembedding] if isinstance(unembedding, Tensor) else unembedding
    return (rows for block in blocks for rows in block.split(_BLOCK) if len(rows))
