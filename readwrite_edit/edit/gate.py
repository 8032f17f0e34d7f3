"""The reading half of a rank-1 edit: a row that is 1 where a pattern is, and costs least elsewhere."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from readwrite_edit.edit.metric import Metric
from readwrite_edit.errors import EditError


@dataclass(frozen=True, eq=False)
class Gate:
    """a with aᵀk = 1, k the mean input at a pattern: the factor A of a rank-1 edit.

    Attributes:
        reads: a = C⁻¹k/(kᵀC⁻¹k), shape (d_in,), float64: of all a with aᵀk = 1 the one with the least aᵀCa.
        usual: √(aᵀCa) = 1/√(kᵀC⁻¹k), the root mean square of aᵀx over the statistics' text: 1 at the pattern should
            stand out from it.
    """

    reads: Tensor
    usual: float

    def at(self, inputs: Tensor) -> Tensor:
        """aᵀx of inputs, (…, d_in) → (…)."""
        return inputs.to(self.reads) @ self.reads


def gate_at(keys: Tensor, metric: Metric) -> Gate:
    """The gate of a pattern: k is the mean of what a matrix reads there.

    Args:
        keys: Its input at the pattern's position in each prompt, shape (prompts, d_in).
        metric: C of the same input.

    Raises:
        EditError: The mean input is zero.

    Source: Meng et al., arXiv 2202.05262, eq. 2; C may be shrunk, see :func:`metric_of`.
    """
    key = keys.to(metric.second_moment).mean(dim=0)
    solved = metric.solve(key.unsqueeze(1)).squeeze(1)
    strength = float(key @ solved)
    if not strength > 0:
        raise EditError("the mean input at the pattern is zero: nothing there tells it from other positions")
    return Gate(solved / strength, strength**-0.5)
