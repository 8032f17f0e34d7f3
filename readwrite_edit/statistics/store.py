"""Statistics in files: a cache by content, and files that are handed from one command to another.

Both are safetensors files with the sums of each site as ``SITE.total`` and
``SITE.mean`` in float64, and the rest as JSON under ``statistics`` in the
metadata, a SHA-256 of each site's sums included.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from readwrite_edit.durable import whole_file
from readwrite_edit.errors import DataError
from readwrite_edit.statistics.moments import Moments, Statistics

_SCHEMA = 2
_REMEDY = "make it anew with readwrite-edit probe activations (or probe gradients)"
_UNREADABLE = (OSError, SafetensorError, KeyError, TypeError, ValueError, AttributeError)


def statistics_key(
    weights_hash: str, sequences: Sequence[Sequence[int]], sites: Iterable[str], **options: object
) -> str:
    """Name of a set of statistics, from everything that its numbers depend on.

    Centring is not in it: it is applied to the stored sums when they are used.

    Args:
        weights_hash: Hash of the model's weights.
        sequences: Token ids that were read.
        sites: Names of the sites.
        **options: Plain values of everything else: first positions, batch size, dtype, device.

    Returns:
        64 hexadecimal digits.
    """
    digest = hashlib.sha256()
    context = [_SCHEMA, weights_hash, sorted(set(sites)), options]
    digest.update(json.dumps(context, sort_keys=True).encode())
    for sequence in sequences:
        digest.update(json.dumps(list(sequence)).encode())
    return digest.hexdigest()


def write_statistics(path: Path, statistics: Statistics) -> None:
    """Write statistics as one file, whole or not at all."""
    tensors: dict[str, torch.Tensor] = {}
    fields = {}
    for name, moments in statistics.sites.items():
        tensors[f"{name}.total"] = moments.total.cpu().contiguous()
        tensors[f"{name}.mean"] = moments.mean.cpu().contiguous()
        fields[name] = {
            "count": moments.count,
            "first_position_share": moments.first_position_share,
            "overlap": {str(k): value for k, value in moments.overlap.items()},
            "sha256": _digest(moments),
        }
    meta = {"tokens": statistics.tokens, "origin": dict(statistics.origin), "sites": fields}
    with whole_file(path) as temporary:
        save_file(tensors, temporary, metadata={"statistics": json.dumps(meta)})


def open_statistics(path: Path | str, *, centred: bool = False) -> Statistics:
    """Open a statistics file; the sums of a site are read and checked when they are asked for.

    Args:
        path: As ``probe activations`` or ``probe gradients`` wrote it.
        centred: Whether :meth:`Statistics.second_moment` is to take the mean out.

    Returns:
        Statistics whose ``sites`` read the file; the file must stay where it is.

    Raises:
        DataError: The file is missing, cut short, no statistics file or empty; or, when a site is
            asked for, its sums are not those that were written.
    """
    place = Path(path)
    if not place.is_file():
        raise DataError(f"{path}: no such statistics file; {_REMEDY}")
    try:
        with safe_open(place, framework="pt") as file:
            meta = (file.metadata() or {}).get("statistics")
    except (OSError, SafetensorError) as error:
        raise DataError(f"{path} is not a whole safetensors file ({error}); {_REMEDY}") from error
    return _described(place, meta, centred)


class StatisticsStore:
    """A folder of statistics, one safetensors file a key.

    Args:
        folder: Where the files lie; made when something is first saved.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, key: str) -> Path:
        """File of a key."""
        return self.folder / f"{key}.safetensors"

    def load(self, key: str, *, centred: bool = False) -> Statistics | None:
        """The statistics of a key, or None where there are none that can be read.

        A file that was damaged counts as absent: it can always be made again.
        """
        try:
            found = open_statistics(self.path(key), centred=centred)
            return Statistics(dict(found.sites), found.tokens, centred, found.origin)
        except DataError:
            return None

    def save(self, key: str, statistics: Statistics) -> None:
        """Keep statistics under a key, whole or not at all."""
        write_statistics(self.path(key), statistics)


class _FileSites(Mapping[str, Moments]):
    """Sites of a file, each read and checked when it is asked for; none is kept."""

    def __init__(self, path: Path, fields: Mapping[str, Mapping[str, Any]]) -> None:
        self._path, self._fields = path, fields

    def __getitem__(self, site: str) -> Moments:
        fields = self._fields[site]
        try:
            with safe_open(self._path, framework="pt") as file:
                moments = _read(file, site, fields)
            intact = _digest(moments) == fields["sha256"]
        except _UNREADABLE as error:
            raise DataError(f"{self._path}: the sums of '{site}' can not be read ({error}); {_REMEDY}") from error
        if not intact:
            raise DataError(f"{self._path}: the sums of '{site}' are not those that were written; {_REMEDY}")
        return moments

    def digest(self, site: str) -> str:
        """The hash of a site's sums as the file records it; the sums are not read."""
        return str(self._fields[site].get("sha256"))

    def __contains__(self, site: object) -> bool:
        return site in self._fields

    def __iter__(self) -> Iterator[str]:
        return iter(self._fields)

    def __len__(self) -> int:
        return len(self._fields)


def digest_of(statistics: Statistics, site: str) -> str:
    """SHA-256 of a site's sums; what a file records of them is taken without reading them."""
    sites = statistics.sites
    return sites.digest(site) if isinstance(sites, _FileSites) else _digest(sites[site])


def _described(path: Path, meta: str | None, centred: bool) -> Statistics:
    """Statistics as a file's metadata describes them."""
    if meta is None:
        raise DataError(f"{path} is a safetensors file, but not of statistics: its metadata lacks them; {_REMEDY}")
    try:
        read = json.loads(meta)
        sites = {str(name): dict(fields) for name, fields in read["sites"].items()}
        origin = {str(name): str(value) for name, value in read.get("origin", {}).items()}
        tokens = int(read["tokens"])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DataError(f"{path}: the metadata of its statistics can not be read ({error!r}); {_REMEDY}") from error
    if not sites:
        raise DataError(f"{path} is an empty statistics store: it holds no site; {_REMEDY}")
    return Statistics(_FileSites(path, sites), tokens, centred, origin)


def _digest(moments: Moments) -> str:
    """SHA-256 over the sums: a flipped bit in a file must not become a basis."""
    digest = hashlib.sha256()
    for tensor in (moments.total, moments.mean):
        digest.update(f"{tensor.dtype}{tuple(tensor.shape)}".encode())
        digest.update(tensor.cpu().contiguous().numpy().tobytes())
    digest.update(str(moments.count).encode())
    return digest.hexdigest()


def _read(file: safe_open, name: str, fields: Mapping[str, Any]) -> Moments:
    """One site; ValueError where the tensors are not the moments of one vector."""
    total, mean, count = file.get_tensor(f"{name}.total"), file.get_tensor(f"{name}.mean"), fields["count"]
    if total.shape != (len(mean), len(mean)) or not total.is_floating_point():
        raise ValueError(f"Σ x xᵀ is {total.dtype} of shape {tuple(total.shape)}, Σ x of {tuple(mean.shape)}")
    if not isinstance(count, int) or count < 1:
        raise ValueError(f"they are of {count} tokens")
    overlap = {int(k): float(value) for k, value in fields["overlap"].items()}
    return Moments(total, mean, count, float(fields["first_position_share"]), overlap)
