"""The part of a run that can be exported: a finished, whole and certified adapter of the right base."""

from __future__ import annotations

import os.path
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from readwrite_edit.adapter.certify import read_adapter
from readwrite_edit.adapter.save import CONFIG, METADATA, WEIGHTS, read_metadata
from readwrite_edit.errors import AdapterError, ExportError
from readwrite_edit.models.source import base_model_id, parse_source
from readwrite_edit.report.record import RunRecord, read_record
from readwrite_edit.runs.reader import read_run
from readwrite_edit.runs.state import LIVE

ADAPTER_FILES = (CONFIG, WEIGHTS, METADATA)


@dataclass(frozen=True)
class FinishedRun:
    """A run whose adapter may leave the house.

    Attributes:
        path: Run folder.
        model: The recipe's section ``model``.
        metadata: The adapter's ``readwrite_edit.json``.
    """

    path: Path
    model: dict[str, Any]
    metadata: dict[str, Any]

    @property
    def adapter(self) -> Path:
        """Folder of the adapter."""
        return self.path / "adapter"


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
    _check_finite(path, tensors)
    _check_base(path, record, config)
    _check_certificate(path, record)
    return FinishedRun(path, record.section("model"), metadata)


def _check_ended(path: Path) -> None:
    status = read_run(path).status
    if status in LIVE:
        raise ExportError(f"{path} is still {status}: wait for its end, or stop it with a request and resume it later")
    if not (path / "adapter").is_dir():
        raise ExportError(f"{path} has no finished adapter (the run is {status}): readwrite-edit align --resume {path}")


def _check_finite(path: Path, tensors: dict[str, torch.Tensor]) -> None:
    bad = [name for name, tensor in tensors.items() if not bool(torch.isfinite(tensor).all())]
    if bad:
        raise ExportError(f"the adapter of {path} holds NaN or infinity in {bad[0]}: train again at a lower rate")


def _check_base(path: Path, record: RunRecord, config: dict[str, Any]) -> None:
    """Compare by name what has a name; a local base is compared by its weights when it is merged."""
    made_for = str(config.get("base_model_name_or_path"))
    if os.path.isabs(made_for) or Path(record.base_model).exists() or os.path.isabs(record.base_model):
        return
    expected = base_model_id(parse_source(record.base_model))
    if made_for != expected:
        raise ExportError(
            f"the adapter in {path} was made for {made_for}, the run's base is {expected}: put the run's own adapter"
            f" back, or resume the run: readwrite-edit align --resume {path}"
        )


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
