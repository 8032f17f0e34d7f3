"""Logits of a trained adapter, recorded and asked for again in a fresh process."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from readwrite_edit.errors import AdapterError
from readwrite_edit.models.loading import quantization_options
from readwrite_edit.models.pathways import unwrap

_KEPT = 16
_RELATIVE_TOLERANCE = {"float64": 1e-4, "float32": 1e-4, "bfloat16": 2e-2, "float16": 5e-3}

CheckLine = tuple[str, bool, str]


@dataclass(frozen=True)
class LogitsRecord:
    """What a trained model said, small enough to travel with the adapter.

    Attributes:
        input_ids: Sequences of one length.
        sha256: Of the float32 bytes of all logits.
        top_ids: Per sequence and position the tokens of the largest logits.
        top_values: Their logits.
        dtype: Arithmetic of the model.
        device: Kind of device that computed them.
    """

    input_ids: list[list[int]]
    sha256: str
    top_ids: list[list[list[int]]]
    top_values: list[list[list[float]]]
    dtype: str
    device: str

    @classmethod
    def of(cls, model: nn.Module, input_ids: Sequence[Sequence[int]]) -> LogitsRecord:
        """Record the logits of a model in evaluation mode.

        The call goes below PEFT's wrapper: a trainer may have put autocast on
        it, and a fresh process computes without.
        """
        training = model.training
        model.eval()
        bare = unwrap(model)
        device = next(model.parameters()).device
        with torch.no_grad():
            logits = bare(input_ids=torch.tensor(input_ids, device=device), use_cache=False).logits.float().cpu()
        model.train(training)
        top = logits.topk(min(_KEPT, logits.shape[-1]), dim=-1)
        dtype = str(getattr(model, "dtype", torch.float32)).removeprefix("torch.")
        ids = [list(row) for row in input_ids]
        return cls(ids, _digest(logits), top.indices.tolist(), top.values.tolist(), dtype, device.type)

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> LogitsRecord:
        """Rebuild a record from JSON."""
        try:
            return cls(**fields)
        except TypeError as error:
            raise AdapterError(f"the adapter's record of logits is damaged: {error}") from None

    def check_reload(self, logits: Tensor, *, exact: bool) -> CheckLine:
        """Compare logits of a fresh process with the record; shape (sequences, time, vocabulary)."""
        if _digest(logits) == self.sha256:
            return "reload", True, "fresh process with stock transformers and peft: logits differ by 0"
        kept = torch.tensor(self.top_values)
        difference = float((logits.gather(-1, torch.tensor(self.top_ids)) - kept).abs().max())
        limit = self._tolerance(kept)
        passed = not exact and difference <= limit
        rule = "0 is demanded" if exact else f"limit {limit:.1e}"
        return "reload", passed, f"logits of a fresh process differ by up to {difference:.1e} ({rule})"

    def check_merge(
        self, adapter: Tensor, merged: Tensor | None, rounding_loss: float, *, quantized: bool
    ) -> CheckLine:
        """Compare the merged model's logits with the adapter's; into a quantised base nothing merges exactly.

        Args:
            adapter: Logits with the adapter, (sequences, time, vocabulary).
            merged: Those of the merged model; None where PEFT can not merge.
            rounding_loss: Share of the update that bfloat16 would alter.
            quantized: Whether the base is.
        """
        if quantized:
            return (
                "merge",
                True,
                "not compared: merging into a quantised base rounds to its grid; export de-quantises it",
            )
        if merged is None:
            return (
                "merge",
                True,
                "not possible: the adapter adds a constant (lora_bias) to matrices without a bias of their own; "
                "load it as an adapter",
            )
        difference, limit = float((adapter - merged).abs().max()), self._tolerance(adapter)
        detail = f"merged logits differ by up to {difference:.1e} (limit {limit:.1e}); "
        return (
            "merge",
            difference <= limit,
            detail + f"rounding merged weights to bfloat16 would alter the update by {rounding_loss:.0%} of its norm",
        )

    def _tolerance(self, logits: Tensor) -> float:
        return _RELATIVE_TOLERANCE[self.dtype] * float(logits.abs().max())


def stock_logits(
    base: str, folder: Path, input_ids: Sequence[Sequence[int]], *, base_fields: Mapping[str, Any]
) -> dict[str, Tensor]:
    """Logits with the adapter and with it merged, from a process without this package.

    Args:
        base: Folder of the base.
        folder: Adapter folder.
        input_ids: Sequences of one length.
        base_fields: The adapter's record of its base: ``dtype``, ``quantization``, ``device``,
            ``attn_implementation`` and ``tf32``.

    Returns:
        ``adapter`` and ``merged``, each (sequences, time, vocabulary), float32; no ``merged`` where a constant of
        the adapter has no bias to go into.

    Raises:
        AdapterError: The process failed; the message holds its last line.
    """
    script = Path(__file__).with_name("reload.py")
    with tempfile.TemporaryDirectory() as scratch:
        output = Path(scratch) / "logits.safetensors"
        order: dict[str, Any] = {"base": base, "adapter": str(folder), "input_ids": [list(row) for row in input_ids]}
        order |= {"output": str(output), "threads": torch.get_num_threads(), "device": base_fields["device"]}
        order |= {"dtype": base_fields["dtype"], "quantization": quantization_options(base_fields["quantization"])}
        order |= {"attn_implementation": base_fields["attn_implementation"], "tf32": base_fields["tf32"]}
        process = subprocess.run(
            [sys.executable, "-I", str(script)], input=json.dumps(order), capture_output=True, text=True, check=False
        )
        if process.returncode:
            last = (process.stderr.strip().splitlines() or ["no message"])[-1]
            raise AdapterError(f"stock transformers and peft can not load the adapter in {folder}: {last}")
        return load_file(output)


def _digest(logits: Tensor) -> str:
    return hashlib.sha256(logits.float().cpu().contiguous().numpy().tobytes()).hexdigest()
