"""Directions in a file: .safetensors with one tensor ``direction``."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from readwrite_edit.errors import DataError, EditError
from readwrite_edit.terminal import printable

FILE_TENSOR = "direction"


def read_direction_file(file: Path) -> Tensor:
    """Rows of a direction file: .safetensors with one tensor ``direction``, shape (d,) or (k, d).

    Returns:
        Shape (k, d), float64.

    Raises:
        DataError: The file is missing, damaged, or has no such tensor.
        EditError: The tensor has another number of dimensions, is empty, zero or not finite.
    """
    if not file.is_file():
        raise DataError(printable(f"{file}: no such file; expected a .safetensors file with a tensor '{FILE_TENSOR}'"))
    try:
        with safe_open(file, framework="pt") as tensors:
            names = list(tensors.keys())
            rows = tensors.get_tensor(FILE_TENSOR) if FILE_TENSOR in names else None
    except (SafetensorError, OSError) as error:
        raise DataError(printable(f"{file}: not a whole .safetensors file ({error})")) from error
    if rows is None:
        raise DataError(printable(f"{file}: no tensor '{FILE_TENSOR}'; it holds {', '.join(sorted(names)) or 'none'}"))
    if rows.ndim not in (1, 2) or rows.numel() == 0:
        raise EditError(printable(f"{file}: '{FILE_TENSOR}' has shape {tuple(rows.shape)}; expected (d,) or (k, d)"))
    rows = rows.double().reshape(-1, rows.shape[-1])
    if not bool(torch.isfinite(rows).all()):
        raise EditError(printable(f"{file}: '{FILE_TENSOR}' is not finite; expected numbers without NaN and infinity"))
    if not bool(rows.any(dim=1).all()):
        raise EditError(printable(f"{file}: '{FILE_TENSOR}' has a row of zeros, which is no direction; leave it out"))
    return rows
