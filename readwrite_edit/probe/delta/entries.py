"""Sums over the single entries of a delta: norm, entries changed, entries no larger than a rounding step."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

_MANTISSA_BITS = {torch.float64: 23, torch.float32: 23, torch.bfloat16: 7, torch.float16: 10}
_EXPONENT = 0x7F800000
_SMALLEST_HALF = 2.0**-24
_PIECE = 1 << 16
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
        squared, base_squared = _product(delta, delta), _product(base, base)
        self.count += delta.numel()
        if not math.isfinite(squared + base_squared):
            self.not_finite += _odd(base, delta)
            return
        self.squared_norm += squared
        self.base_squared += base_squared
        self.changed += int(torch.count_nonzero(delta))
        self.product += _product(base, delta)
        small = delta * (delta.abs() <= rounding_step(base, step_dtype))
        self.under_step += _product(small, small)

    def add_same(self, base: Tensor) -> None:
        """Count a block that is equal in both, in its stored type."""
        wide = base.float()
        squared = _product(wide, wide)
        self.count += base.numel()
        if math.isfinite(squared):
            self.base_squared += squared
        else:
            self.not_finite += _odd(wide)

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


def _product(first: Tensor, second: Tensor) -> float:
    """Sum of products of entries, piece by piece: one float32 sum over a whole block would be off by 1e-5."""
    pieces = zip(first.flatten().split(_PIECE), second.flatten().split(_PIECE), strict=True)
    return sum(float(torch.dot(*pair)) for pair in pieces)


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
