"""What an update costs on a text, in closed form."""

from __future__ import annotations

from torch import Tensor

from readwrite_edit.errors import ShapeError
from readwrite_edit.geometry.fractions import LowRank, Update


def output_energy(delta_w: Update, second_moment: Tensor) -> Tensor:
    """Mean squared change of a matrix's output over a text.

    Computes tr(ΔW C ΔWᵀ)/d_out. With the second moment of a protected text this
    is the *price* of the update; with that of the alignment text its effect.

    Args:
        delta_w: Update ΔW, shape (d_out, d_in), or its factors.
        second_moment: C = E[x xᵀ] of the text, shape (d_in, d_in).

    Returns:
        Scalar, in squared units of the output.

    Raises:
        ShapeError: C has another dimension than the update's input.
    """
    d_out, d_in = delta_w.shape
    if second_moment.shape != (d_in, d_in):
        raise ShapeError(f"C of shape {tuple(second_moment.shape)} does not fit an update of {d_in} inputs")
    if isinstance(delta_w, LowRank):
        inner = delta_w.A @ second_moment @ delta_w.A.T
        return ((delta_w.B.T @ delta_w.B) * inner).sum() / d_out
    return ((delta_w @ second_moment) * delta_w).sum() / d_out
