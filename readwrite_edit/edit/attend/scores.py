"""Attention scores as the model itself computes them, whatever lies between its matrices and the softmax.

A score is read where the softmax reads it: after rotary embeddings, norms of
queries and keys, scaling, softcapping, ALiBi and the mask. Nothing about an
architecture is written down here, and the model runs with the attention
implementation that it was loaded with.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from transformers import PreTrainedModel

from readwrite_edit.errors import EditError
from readwrite_edit.interventions.forward import final_hidden, layers_of

_MASKED = -3e4  # no score is so low, and every mask is lower, that of float16 too
_SOFTMAX: tuple[Any, ...] = (torch.nn.functional.softmax, torch.softmax, Tensor.softmax)


def attention_scores(model: PreTrainedModel, input_ids: Tensor, layer: int, rows: Tensor | None = None) -> Tensor:
    """Scores of one layer before the softmax; what comes after them is not computed.

    Differentiable where gradients are enabled.

    Args:
        model: Bare model; hooks on it act.
        input_ids: Sequences of one length, shape (batch, time).
        layer: Which.
        rows: Query position of each sequence, shape (batch,); None takes all positions.

    Returns:
        Shape (batch, heads, time), or (batch, heads, time, time) for all rows; float32, −∞ where masked.

    Raises:
        EditError: The attention implementation shows no scores.
    """
    reader = _Reader(rows)
    with ExitStack() as hooks:
        hooks.callback(layers_of(model)[layer].register_forward_pre_hook(reader.enter).remove)
        hooks.enter_context(reader)
        try:
            final_hidden(model, input_ids)
        except _ReadError as read:
            return read.scores
    implementation = getattr(model.config, "_attn_implementation", "unknown")
    raise EditError(
        f"attention implementation {implementation!r} does not show its scores: "
        "load the model with model.attn_implementation eager or sdpa"
    )


class _ReadError(Exception):
    """The scores are read: the rest of the pass is not needed."""

    def __init__(self, scores: Tensor) -> None:
        super().__init__()
        self.scores = scores


class _Reader(TorchFunctionMode):
    """Takes the scores from the first softmax, or the first fused attention, inside a layer."""

    def __init__(self, rows: Tensor | None) -> None:
        super().__init__()
        self._rows, self._inside = rows, False

    def enter(self, *_given: Any) -> None:
        self._inside = True

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        named = dict(kwargs or {})
        scores = self._found(func, args, named) if self._inside else None
        if scores is not None:
            raise _ReadError(scores)
        return func(*args, **named)

    def _found(self, func: Callable[..., Any], args: Sequence[Any], named: Mapping[str, Any]) -> Tensor | None:
        if func is torch.nn.functional.scaled_dot_product_attention:
            return _of_fused(self._rows, *args, **named)
        if func not in _SOFTMAX:
            return None
        scores: Tensor = args[0] if args else named["input"]
        return _marked(_rows_of(scores, self._rows)) if scores.ndim == 4 else None


def _rows_of(by_position: Tensor, rows: Tensor | None) -> Tensor:
    """Entry of each sequence's row: (batch, heads, time, n) → (batch, heads, n)."""
    if rows is None:
        return by_position
    return by_position[torch.arange(len(rows), device=rows.device), :, rows]


def _marked(scores: Tensor) -> Tensor:
    wide = scores.float()
    return wide.masked_fill(wide <= _MASKED, -math.inf)


def _of_fused(
    rows: Tensor | None,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    *,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """The scores that PyTorch's fused attention computes and does not hand out, by its documented definition."""
    batch, heads, time, d_head = query.shape
    key = key.repeat_interleave(heads // key.shape[1], dim=1) if enable_gqa else key
    taken = query if rows is None else _rows_of(query, rows).unsqueeze(2)  # (batch, heads, rows, d_head)
    factor = 1 / math.sqrt(d_head) if scale is None else scale
    scores = (taken.float() * factor) @ key.float().transpose(2, 3)
    mask = attn_mask
    if is_causal:
        mask = torch.ones(time, key.shape[2], dtype=torch.bool, device=query.device).tril()
    if mask is not None:
        whole = mask.expand(batch, mask.shape[1] if mask.ndim == 4 else 1, time, key.shape[2])
        part = whole if rows is None else _rows_of(whole, rows).unsqueeze(2)
        scores = scores.masked_fill(~part, -math.inf) if part.dtype == torch.bool else scores + part
    return _marked(scores if rows is None else scores.squeeze(2))
