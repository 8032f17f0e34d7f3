"""A cache of statistics by content: the same weights, tokens and options are never summed twice."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from readwrite_edit.durable import whole_file
from readwrite_edit.statistics.moments import Moments, Statistics

_SCHEMA = 1


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
            with safe_open(self.path(key), framework="pt") as file:
                meta = json.loads(file.metadata()["statistics"])
                sites = {name: _read(file, name, fields) for name, fields in meta["sites"].items()}
                statistics = Statistics(sites, meta["tokens"], centred)
        except (OSError, SafetensorError, KeyError, TypeError, ValueError, AttributeError):
            return None
        return statistics if meta.get("sha256") == _digest(statistics) else None

    def save(self, key: str, statistics: Statistics) -> None:
        """Keep statistics under a key, whole or not at all."""
        tensors: dict[str, torch.Tensor] = {}
        fields = {}
        for name, moments in statistics.sites.items():
            tensors[f"{name}.total"] = moments.total.cpu().contiguous()
            tensors[f"{name}.mean"] = moments.mean.cpu().contiguous()
            fields[name] = {
                "count": moments.count,
                "first_position_share": moments.first_position_share,
                "overlap": {str(k): value for k, value in moments.overlap.items()},
            }
        meta = json.dumps({"tokens": statistics.tokens, "sites": fields, "sha256": _digest(statistics)})
        with whole_file(self.path(key)) as temporary:
            save_file(tensors, temporary, metadata={"statistics": meta})


def _digest(statistics: Statistics) -> str:
    """SHA-256 over the sums: a flipped bit in a cached file must not become a basis."""
    digest = hashlib.sha256()
    for name in sorted(statistics.sites):
        moments = statistics.sites[name]
        for tensor in (moments.total, moments.mean):
            digest.update(tensor.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def _read(file: safe_open, name: str, fields: dict) -> Moments:
    return Moments(
        total=file.get_tensor(f"{name}.total"),
        mean=file.get_tensor(f"{name}.mean"),
        count=fields["count"],
        first_position_share=fields["first_position_share"],
        overlap={int(k): value for k, value in fields["overlap"].items()},
    )
