"""Principal directions of an input, kept in the cache where they are dear."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from readwrite_edit.cache import cache_folder
from readwrite_edit.durable import whole_file
from readwrite_edit.geometry import eigh_descending
from readwrite_edit.statistics import Statistics
from readwrite_edit.statistics.store import digest_of

DEAR = 1024


def principal_directions(
    statistics: Statistics, site: str, dim: int, columns: int, *, device: str = "cpu"
) -> tuple[Tensor, Tensor]:
    """Eigenvalues of a site's second moment and its leading eigenvectors.

    A decomposition takes 46 s at width 4096 on two cores, so above width 1024
    it is kept in the cache by the sums' own hash, and what is there is used
    without reading the sums.

    Args:
        statistics: With the site.
        site: Whose input.
        dim: Width d of the input.
        columns: How many eigenvectors.
        device: Where to decompose.

    Returns:
        All eigenvalues, largest first, (d,), float64, none negative; and vectors (d, columns), float32.
    """
    if dim <= DEAR:
        return _decompose(statistics.second_moment(site), columns, device)
    key = f"{digest_of(statistics, site)}{'-centred' if statistics.centred else ''}"
    return kept_directions(key, lambda: statistics.second_moment(site), dim, columns, device=device)


def kept_directions(
    key: str, moment: Callable[[], Tensor], dim: int, columns: int, *, device: str = "cpu"
) -> tuple[Tensor, Tensor]:
    """Eigenvalues and leading eigenvectors of a matrix, from the cache where it has them.

    Args:
        key: Of the matrix' content; part of a file name.
        moment: Gives the matrix, (dim, dim), where it is needed.
        dim: Its width.
        columns: How many eigenvectors.
        device: Where to decompose.
    """
    place = cache_folder() / "bases" / f"{key}-{columns}.safetensors"
    found = _load(place, dim, columns)
    if found is None:
        found = _decompose(moment(), columns, device)
        with whole_file(place) as temporary:
            save_file({"values": found[0], "vectors": found[1]}, temporary)
    return found


def _decompose(moment: Tensor, columns: int, device: str) -> tuple[Tensor, Tensor]:
    values, vectors = eigh_descending(moment.to(device))
    return values.cpu().clamp_min(0), vectors[:, :columns].float().cpu().contiguous()


def _load(place: Path, dim: int, columns: int) -> tuple[Tensor, Tensor] | None:
    """What an earlier probe kept; None where there is nothing that can be read."""
    try:
        with safe_open(place, framework="pt") as file:
            values, vectors = file.get_tensor("values"), file.get_tensor("vectors")
    except (OSError, SafetensorError):
        return None
    sound = values.shape == (dim,) and vectors.shape == (dim, columns) and bool(torch.isfinite(vectors).all())
    return (values, vectors) if sound else None
