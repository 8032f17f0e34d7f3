"""The certificate: what every adapter that leaves this project must satisfy.

The checks read the saved files, not the model in memory, and the logits come
from a fresh process that imports nothing but stock transformers and peft.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from readwrite_edit.adapter.install import changeable_rows
from readwrite_edit.adapter.logits import LogitsRecord, stock_logits
from readwrite_edit.adapter.metadata import read_metadata, require_record
from readwrite_edit.adapter.save import CONFIG, WEIGHTS, basis_hash
from readwrite_edit.errors import AdapterError
from readwrite_edit.geometry import LowRank

CONTAINMENT = 1e-6
CONFIG_KEYS = (
    "r",
    "lora_alpha",
    "rank_pattern",
    "alpha_pattern",
    "target_modules",
    "modules_to_save",
    "init_lora_weights",
)
_PREFIX = "base_model.model."


@dataclass(frozen=True)
class Check:
    """One line of a certificate."""

    name: str
    passed: bool
    detail: str


@dataclass(frozen=True)
class Certificate:
    """All checks of one adapter."""

    checks: tuple[Check, ...]

    @property
    def passed(self) -> bool:
        """Whether every check holds."""
        return all(check.passed for check in self.checks)

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {"passed": self.passed, "checks": [asdict(check) for check in self.checks]}


def certify_folder(
    folder: Path,
    base: str,
    base_hash: str,
    *,
    bases: Mapping[str, Tensor] | None = None,
    exact: bool = False,
) -> Certificate:
    """Check a saved adapter against its base.

    Args:
        folder: Adapter folder.
        base: Folder from which stock transformers loads the base.
        base_hash: Hash of the weights of that base.
        bases: Module to basis, (d_in, rank), as chosen before training; without
            them lora_A stands for the basis, once its hash has shown that it is.
        exact: Demand logits equal bit for bit, as on the machine that trained it;
            else a difference within the dtype's rounding passes and is reported.

    Returns:
        The certificate.

    Raises:
        AdapterError: A file is missing or damaged, the base is another one, or the adapter was written without a
            record of what it computes.
    """
    metadata = read_metadata(folder)
    config, tensors = read_adapter(folder)
    require_record(folder, metadata)
    if metadata["base"]["weights_hash"] != base_hash:
        raise AdapterError(
            f"the adapter in {folder} belongs to another base: its weights hash is "
            f"{metadata['base']['weights_hash'][:12]}, that of {base} is {base_hash[:12]}"
        )
    _check_modules(folder, metadata, config, tensors)
    record = LogitsRecord.from_dict(metadata["logits"])
    measured = stock_logits(base, folder, record.input_ids, base_fields=metadata["base"])
    checks = (
        _finite(tensors),
        _configuration(folder, config),
        _basis(metadata, tensors),
        _containment(metadata, tensors, bases or {}),
        _rows(metadata, tensors),
        record.check_reload(measured["adapter"], exact=exact),
        record.check_merge(
            measured["adapter"],
            measured.get("merged"),
            metadata["rounding_loss"],
            quantized=metadata["base"]["quantization"] is not None,
        ),
    )
    return Certificate(tuple(Check(*check) for check in checks))


def read_adapter(folder: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Configuration and tensors of an adapter folder.

    Raises:
        AdapterError: A file is missing, cut short or not what its name says.
    """
    try:
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        tensors = load_file(folder / WEIGHTS)
    except FileNotFoundError as error:
        raise AdapterError(f"{folder} is not an adapter: {Path(error.filename or WEIGHTS).name} is missing") from None
    except (OSError, SafetensorError, ValueError, RecursionError) as error:
        raise AdapterError(f"the adapter in {folder} is damaged or cut short: {error}") from None
    if not isinstance(config, dict) or not set(CONFIG_KEYS) <= set(config):
        raise AdapterError(f"{folder / CONFIG} is not the configuration of a LoRA adapter: it lacks some of its keys")
    return config, tensors


def _check_modules(
    folder: Path, metadata: Mapping[str, Any], config: Mapping[str, Any], tensors: Mapping[str, Tensor]
) -> None:
    expected = {_key(module, side) for module in metadata["modules"] for side in "AB"}
    if config.get("lora_bias"):
        expected |= {_key(module, "B", "bias") for module in metadata["modules"]}
    if expected != set(tensors):
        odd = sorted(expected ^ set(tensors))[0]
        raise AdapterError(f"the tensors of {folder / WEIGHTS} do not fit its metadata: '{odd}' is in only one of them")


def _finite(tensors: Mapping[str, Tensor]) -> tuple[str, bool, str]:
    bad = [name for name, tensor in tensors.items() if not bool(torch.isfinite(tensor).all())]
    return "finite", not bad, f"{len(tensors)} tensors" if not bad else f"NaN or infinity in {bad[0]}"


def _configuration(folder: Path, config: Mapping[str, Any]) -> tuple[str, bool, str]:
    problems = []
    if config["lora_alpha"] != config["r"] or config["rank_pattern"] != config["alpha_pattern"]:
        problems.append("lora_alpha differs from r")
    if config["r"] < max(config["rank_pattern"].values(), default=0):
        problems.append("r is not the largest rank")
    if config["modules_to_save"] is not None or config["init_lora_weights"] is not True:
        problems.append("modules_to_save or init_lora_weights is not the stock value")
    if config["target_modules"] != sorted(config["target_modules"]):
        problems.append("target_modules is not sorted")
    return "configuration", not problems, "; ".join(problems) or f"r = lora_alpha = {config['r']}, stock values"


def _basis(metadata: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> tuple[str, bool, str]:
    hashes = {name: module["basis_sha256"] for name, module in metadata["modules"].items()}
    frozen = {name: expected for name, expected in hashes.items() if expected is not None}
    if not frozen and metadata.get("edit"):
        return "basis", True, "an edit: lora_A is its own, there is no frozen basis to keep"
    if not frozen:
        return "basis", True, "plain LoRA: lora_A was trained, there is no basis to keep"
    moved = [name for name, expected in frozen.items() if basis_hash(tensors[_key(name, "A")]) != expected]
    if moved:
        return "basis", False, f"lora_A differs from the basis in {len(moved)} modules, first {moved[0]}"
    return "basis", True, f"lora_A equals the basis bit for bit in {len(frozen)} modules"


def _containment(
    metadata: Mapping[str, Any], tensors: Mapping[str, Tensor], bases: Mapping[str, Tensor]
) -> tuple[str, bool, str]:
    outside = []
    if metadata.get("edit") and all(module["basis_sha256"] is None for module in metadata["modules"].values()):
        return "containment", True, "an edit: there is no frozen basis to stay in"
    for name, module in metadata["modules"].items():
        if module["basis_sha256"] is not None:
            lora_a = tensors[_key(name, "A")]
            basis = bases.get(name, lora_a.T)
            outside.append(_outside(tensors[_key(name, "B")], lora_a, basis, whiten=metadata.get("whiten", False)))
    worst = math.nan if any(map(math.isnan, outside)) else max(outside, default=0.0)
    return "containment", worst <= CONTAINMENT, f"largest ‖ΔW(I − UUᵀ)‖/‖ΔW‖ is {worst:.1e} (limit {CONTAINMENT:.0e})"


def _outside(lora_b: Tensor, lora_a: Tensor, basis: Tensor, *, whiten: bool) -> float:
    """‖ΔW(I − UUᵀ)‖_F/‖ΔW‖_F, without forming ΔW.

    A basis that was whitened is not orthonormal, one stored in half precision
    not to this accuracy: there U spans the same columns.
    """
    scaled = whiten or basis.dtype != torch.float32
    orthonormal = torch.linalg.qr(basis.double())[0] if scaled else basis.double()
    update = LowRank(lora_b.double(), lora_a.double())
    norm = update.squared_norm().sqrt()
    left_over = LowRank(update.B, update.A - (update.A @ orthonormal) @ orthonormal.T)
    return float(left_over.squared_norm().sqrt() / norm) if norm != 0 else 0.0


def _rows(metadata: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> tuple[str, bool, str]:
    masked = {name: module["rows"] for name, module in metadata["modules"].items() if module["rows"] is not None}
    if not masked:
        return "rows", True, "no fused matrices"
    for name, rows in masked.items():
        found = [tensors[key] for key in (_key(name, "B"), _key(name, "B", "bias")) if key in tensors]
        if any(bool(tensor[~changeable_rows(rows, tensor.shape[0])].any()) for tensor in found):
            return "rows", False, f"rows of other projections changed in {name}"
    return "rows", True, f"other rows of lora_B are exactly zero in {len(masked)} fused matrices"


def _key(module: str, side: str, part: str = "weight") -> str:
    return f"{_PREFIX}{module}.lora_{side}.{part}"
