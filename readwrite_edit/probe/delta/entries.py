"""Sums over the single entries of a delta: norm, entries changed, entries no larger than a rounding step."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

_MANTISSA_BITS = {torch.float64: 23, torch.float32: 23, torch.bfloat16: 7, torch.float16: 10}
_EXPONENT = 0x7F800000
_SMALLEST_HALF = 2.0**-24
_LARGEST = 1e16


@dataclass
class EntrySums:
    """Running sums; float64 across blocks.

    Attributes:
        count: Entries seen.
        changed: Entries that differ.
        squared_norm: ‖ΔW‖².
        under_step: The part of ‖ΔW‖² in entries that changed by no more than one rounding step.
        base_squared: ‖W_base‖².
        product: ⟨W_base, ΔW⟩.
        not_finite: Entries of either checkpoint that are NaN, infinite or too large to be squared.
    """

    count: int = 0
    changed: int = 0
    squared_norm: float = 0.0
    under_step: float = 0.0
    base_squared: float = 0.0
    product: float = 0.0
    not_finite: int = 0

    def add(self, base: Tensor, delta: Tensor, step_dtype: torch.dtype) -> None:
        """Add a block; base and delta float32, of the same shape."""
        base, delta = _rows(base), _rows(delta)
        squared, base_squared = _squared_norm(delta), _squared_norm(base)
        self.count += delta.numel()
        if not math.isfinite(squared + base_squared):
            self.not_finite += _odd(base, delta)
            return
        self.squared_norm += squared
        self.base_squared += base_squared
        self.changed += int(torch.count_nonzero(delta))
        self.product += float(torch.linalg.vecdot(base, delta).double().sum())
        # 1 or 0 in place of a mask: on a CPU boolean tensors cost twice as much
        small = delta.abs().le_(rounding_step(base, step_dtype)).mul_(delta)
        self.under_step += _squared_norm(small)

    def add_same(self, base: Tensor) -> None:
        """Count a block that is equal in both, in its stored type."""
        squared = _squared_norm(_rows(base))
        self.count += base.numel()
        if math.isfinite(squared):
            self.base_squared += squared
        else:
            self.not_finite += _odd(base.float())

    @property
    def norm(self) -> float:
        """‖ΔW‖, Frobenius."""
        return math.sqrt(self.squared_norm)

    @property
    def base_norm(self) -> float:
        """‖W_base‖."""
        return math.sqrt(self.base_squared)

    @property
    def cosine(self) -> float:
        """Of W_base and W_tuned as vectors; NaN where one is zero."""
        tuned_squared = self.base_squared + 2 * self.product + self.squared_norm
        scale = math.sqrt(max(0.0, self.base_squared * tuned_squared))
        return (self.base_squared + self.product) / scale if scale else math.nan

    @property
    def changed_fraction(self) -> float:
        """Share of entries that differ."""
        return self.changed / self.count if self.count else math.nan

    @property
    def under_step_fraction(self) -> float:
        """Share of ‖ΔW‖² under the rounding step; NaN for a zero delta."""
        return self.under_step / self.squared_norm if self.squared_norm else math.nan


def _rows(block: Tensor) -> Tensor:
    """The block as a matrix."""
    return block.reshape(-1, block.shape[-1]) if block.dim() > 1 else block.reshape(1, -1)


def _squared_norm(rows: Tensor) -> float:
    """Sum of squares, row by row: one float32 sum over a whole block would be off by 1e-5."""
    norms = torch.linalg.vector_norm(rows, dim=1, dtype=torch.promote_types(rows.dtype, torch.float32))
    return float(norms.double().square().sum())


def _odd(*blocks: Tensor) -> int:
    """How many entries spoil a sum of squares, at least one."""
    return max(1, int(torch.stack([~(block.abs() < _LARGEST) for block in blocks]).any(dim=0).sum()))


def rounding_step(weight: Tensor, dtype: torch.dtype) -> Tensor:
    """Distance of neighbouring numbers of a type at the size of each weight.

    Args:
        weight: float32, any shape.
        dtype: Storage type.

    Returns:
        2^(⌊log₂|w|⌋ − mantissa bits), float32, the shape of ``weight``; for float16 at least its smallest number.
    """
    power = (weight.view(torch.int32) & _EXPONENT).view(torch.float32)
    step = power.mul_(2.0 ** -_MANTISSA_BITS[dtype])
    return step.clamp_min_(_SMALLEST_HALF) if dtype == torch.float16 else step
