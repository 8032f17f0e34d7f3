"""Log-probabilities of the reference policy: computed once, kept by content.

The reference is the base model, that is the policy with its adapter switched
off. What it says of a row depends on the base's weights and arithmetic, the
row's tokens, where they are cut and how TRL sums them (``ld_alpha``), and on
nothing else: those are the key.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from readwrite_edit.align.tokenised import row_length
from readwrite_edit.align.trl_names import REFERENCE_COLUMNS
from readwrite_edit.durable import whole_file

_SCHEMA = 1

Row = Mapping[str, Any]
Scorer = Callable[[Sequence[Row]], tuple[Tensor, ...]]
Progress = Callable[[int, int], None]


def reference_key(rows: Sequence[Row], **context: Any) -> str:
    """Key of a list of tokenised rows under everything else their scores depend on.

    Args:
        rows: With ``prompt_ids``, ``chosen_ids`` and ``rejected_ids``.
        **context: Plain values: weights hash, dtype, truncation, ld_alpha.

    Returns:
        64 hexadecimal digits.
    """
    digest = hashlib.sha256(json.dumps([_SCHEMA, context], sort_keys=True).encode())
    for row in rows:
        digest.update(json.dumps([row["prompt_ids"], row["chosen_ids"], row["rejected_ids"]]).encode())
    return digest.hexdigest()


class ReferenceStore:
    """A folder of reference log-probabilities, one safetensors file a key.

    Args:
        folder: Made when something is first saved.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def load(self, key: str) -> tuple[Tensor, Tensor] | None:
        """Chosen and rejected log-probabilities, (rows,) each; None where absent or damaged."""
        try:
            tensors = load_file(self.folder / f"{key}.safetensors")
            return tensors[REFERENCE_COLUMNS[0]], tensors[REFERENCE_COLUMNS[1]]
        except (OSError, SafetensorError, KeyError):
            return None

    def save(self, key: str, chosen: Tensor, rejected: Tensor) -> None:
        """Keep both, whole or not at all."""
        with whole_file(self.folder / f"{key}.safetensors") as temporary:
            save_file(dict(zip(REFERENCE_COLUMNS, (chosen, rejected), strict=True)), temporary)


def score_rows(
    rows: Sequence[Row], scorer: Scorer, *, batch_size: int, columns: int = 2, progress: Progress | None = None
) -> tuple[Tensor, ...]:
    """Score rows in batches of like length.

    Args:
        rows: Tokenised rows.
        scorer: Gives the columns of a batch: the chosen and rejected log-probabilities, of one model or of several.
        batch_size: Rows in a batch.
        columns: How many there are.
        progress: Called with (rows done, rows in all).

    Returns:
        The columns in the order of the rows, (rows,) each, float64, on the CPU.
    """
    order = sorted(range(len(rows)), key=lambda index: -row_length(rows[index]))
    found = tuple(torch.empty(len(rows), dtype=torch.float64) for _ in range(columns))
    for start in range(0, len(order), batch_size):
        indices = order[start : start + batch_size]
        scored = scorer([rows[index] for index in indices])
        for target, values in zip(found, scored, strict=True):
            target[indices] = values.double().cpu()
        if progress:
            progress(min(start + batch_size, len(order)), len(order))
    return found
