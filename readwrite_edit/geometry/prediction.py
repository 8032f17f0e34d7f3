"""The prediction subspace: output directions that move the next-token distribution."""

from __future__ import annotations

import torch
from torch import Tensor

from readwrite_edit.geometry.bases import principal_basis

_BLOCK = 8192


def unembedding_gram(unembedding: Tensor, gain: Tensor | None = None, *, centred: bool = True) -> Tensor:
    """Gram matrix of the unembedding, streamed over the vocabulary.

    Centred over the vocabulary because the softmax ignores a shift common to
    all logits; the final norm's gain is folded in because the residual stream
    passes through it on its way to the logits.

    Args:
        unembedding: Rows are tokens, shape (vocabulary, d_model).
        gain: Multiplier of the final norm, shape (d_model,), or None.
        centred: Take the mean row out.

    Returns:
        Shape (d_model, d_model), float64, divided by the vocabulary's size.
    """
    size, dim = unembedding.shape
    gram = torch.zeros(dim, dim, dtype=torch.float64, device=unembedding.device)
    total = torch.zeros(dim, dtype=torch.float64, device=unembedding.device)
    for block in unembedding.split(_BLOCK):
        rows = block.double()
        gram += rows.T @ rows
        total += rows.sum(dim=0)
    gram /= size
    if centred:
        mean = total / size
        gram -= torch.outer(mean, mean)
    if gain is not None:
        scale = gain.double()
        gram *= torch.outer(scale, scale)
    return gram


def prediction_basis(unembedding: Tensor, k: int, gain: Tensor | None = None, *, centred: bool = True) -> Tensor:
    """Top eigenvectors V_k of the unembedding's Gram matrix.

    Args:
        unembedding: Shape (vocabulary, d_model).
        k: Number of columns.
        gain: Final norm's multiplier, shape (d_model,), or None.
        centred: Take the mean over the vocabulary out.

    Returns:
        Orthonormal columns, shape (d_model, k), float64.

    Source: arXiv 2605.16600; centring and gain are this project's.
    """
    return principal_basis(unembedding_gram(unembedding, gain, centred=centred), k)
