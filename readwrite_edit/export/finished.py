"""The part of a run that can be exported: a finished, whole and certified adapter of the right base."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from readwrite_edit.adapter.certify import read_adapter
from readwrite_edit.adapter.metadata import METADATA, read_metadata
from readwrite_edit.adapter.save import CONFIG, WEIGHTS
from readwrite_edit.errors import AdapterError, ExportError
from readwrite_edit.report.record import RunRecord, read_record
from readwrite_edit.runs.reader import read_run
from readwrite_edit.runs.state import LIVE

ADAPTER_FILES = (CONFIG, WEIGHTS, METADATA)


@dataclass(frozen=True)
class FinishedRun:
    """A run whose adapter may leave the house.

    Attributes:
        path: Run folder.
        metadata: The adapter's ``readwrite_edit.json``.
    """

    path: Path
    metadata: dict[str, Any]

    @property
    def adapter(self) -> Path:
        """Folder of the adapter."""
        return self.path / "adapter"

    @property
    def base(self) -> dict[str, Any]:
        """The base as the adapter records it: source, revision, weights_hash, dtype, quantization."""
        return dict(self.metadata["base"])


def finished_run(path: Path) -> FinishedRun:
    """Check that a run can be exported.

    Raises:
        DataError: It is no run folder, or a file of the run is damaged.
        ExportError: It is still running, has no adapter or no certificate, or
            its adapter is damaged or was made for another base.
    """
    record = read_record(path)
    _check_ended(path)
    try:
        config, tensors = read_adapter(path / "adapter")
        metadata = read_metadata(path / "adapter")
    except AdapterError as error:
        raise ExportError(f"{error}; resume the run to write it again: readwrite-edit align --resume {path}") from error
    _check_shape(path, config, metadata)
    _check_finite(path, tensors)
    _check_base(path, record, metadata)
    _check_certificate(path, record)
    return FinishedRun(path, metadata)


def _check_ended(path: Path) -> None:
    view = read_run(path)
    status = view.status
    if view.kind == "edit":
        raise ExportError(
            f"{path} is the run of an edit: readwrite-edit edit stack NAME --to DIR writes it from the ledger"
            " (readwrite-edit edit ls names them)"
        )
    if status in LIVE:
        raise ExportError(f"{path} is still {status}: wait for its end, or stop it with a request and resume it later")
    if not (path / "adapter").is_dir():
        raise ExportError(f"{path} has no finished adapter (the run is {status}): readwrite-edit align --resume {path}")


def _check_finite(path: Path, tensors: dict[str, torch.Tensor]) -> None:
    bad = [name for name, tensor in tensors.items() if not bool(torch.isfinite(tensor).all())]
    if bad:
        raise ExportError(f"the adapter of {path} holds NaN or infinity in {bad[0]}: train again at a lower rate")


def _check_base(path: Path, record: RunRecord, metadata: dict[str, Any]) -> None:
    expected, found = record.section("provenance").get("weights_sha256"), metadata["base"]["weights_hash"]
    if expected != found:
        raise ExportError(
            f"the adapter in {path} was made for another base than the run's (weights hash {str(found)[:12]},"
            f" the recipe records {str(expected)[:12]}): put the run's own adapter back, or write it again with"
            f" readwrite-edit align --resume {path}"
        )


def _check_shape(path: Path, config: Any, metadata: dict[str, Any]) -> None:
    base = metadata.get("base")
    whole = isinstance(base, dict) and base.keys() >= {"source", "revision", "weights_hash", "dtype", "quantization"}
    odd = None if whole else METADATA
    if not isinstance(config, dict):
        odd = CONFIG
    if odd is not None:
        raise ExportError(f"{path / 'adapter' / odd} is damaged: readwrite-edit align --resume {path}")


def _check_certificate(path: Path, record: RunRecord) -> None:
    certificate = record.summary.get("certificate")
    if not certificate:
        raise ExportError(f"{path} has no certificate: the run did not finish; readwrite-edit align --resume {path}")
    if not certificate.get("passed"):
        failed = [str(check.get("name")) for check in certificate.get("checks", []) if not check.get("passed")]
        raise ExportError(
            f"the adapter of {path} did not pass its certificate ({', '.join(failed)}) and is not exported;"
            f" see readwrite-edit verify {path / 'adapter'}"
        )
