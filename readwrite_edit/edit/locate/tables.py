"""A causal trace as tables."""

from __future__ import annotations

import math
from collections.abc import Iterator

import pandas as pd
import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from readwrite_edit.edit.locate.trace import PLACES, Trace, place_of


def trace_table(trace: Trace, tokenizer: PreTrainedTokenizerBase) -> pd.DataFrame:
    """One row a restored output: prompt, kind, layer and position, and its effect."""
    rows = []
    for cell in trace.cells:
        traced = trace.prompts[cell.prompt]
        rows.append(
            {
                "prompt": cell.prompt,
                "kind": cell.kind,
                "layer": cell.layer,
                "position": cell.position,
                "token": tokenizer.decode([traced.prompt.ids[cell.position]]),
                "place": place_of(traced.prompt, cell.position),
                "effect": float(cell.effect.mean()),
                "standard_error": standard_error(cell.effect),
                "probability": float((traced.corrupted.probability + cell.effect).mean()),
                "kl_effect": float(cell.kl_effect.mean()),
                "kl_standard_error": standard_error(cell.kl_effect),
            }
        )
    return pd.DataFrame(rows)


def prompts_table(trace: Trace, tokenizer: PreTrainedTokenizerBase) -> pd.DataFrame:
    """One row a prompt: what is followed, and its probability without and with noise."""
    return pd.DataFrame(
        {
            "prompt": index,
            "text": traced.prompt.text,
            "subject": tokenizer.decode(list(traced.prompt.ids[slice(*traced.prompt.subject_positions)])),
            "target": tokenizer.decode(list(traced.target)),
            "given": bool(traced.prompt.target),
            "clean_probability": traced.clean,
            "corrupted_probability": float(traced.corrupted.probability.mean()),
            "corrupted_kl": traced.kl,
        }
        for index, traced in enumerate(trace.prompts)
    )


def layers_table(trace: Trace) -> pd.DataFrame:
    """One row a kind, layer and class of positions: effects averaged over the positions, then over prompts."""
    rows = []
    for (kind, layer, place), by_prompt in _grouped(trace):
        values = next(iter(by_prompt.values()))
        if len(by_prompt) > 1:
            values = torch.stack([means.mean(dim=1) for means in by_prompt.values()], dim=1)  # (2, prompts)
        (effect, kl_effect), (error, kl_error) = values.mean(dim=1).tolist(), map(standard_error, values)
        kl = sum(trace.prompts[index].kl for index in by_prompt) / len(by_prompt)
        rows.append(
            {
                "kind": kind,
                "layer": layer,
                "place": place,
                "n_prompts": len(by_prompt),
                "effect": effect,
                "standard_error": error,
                "kl_effect": kl_effect,
                "kl_standard_error": kl_error,
                "recovered_fraction": kl_effect / kl if kl > 0 else math.nan,
            }
        )
    return pd.DataFrame(rows)


def standard_error(values: Tensor) -> float:
    """Of a mean; NaN of a single value."""
    return float(values.std()) / math.sqrt(len(values)) if len(values) > 1 else math.nan


def _grouped(trace: Trace) -> Iterator[tuple[tuple[str, int, str], dict[int, Tensor]]]:
    """Kind, layer and place; and for each prompt both effects' means over its positions there, (2, samples)."""
    found: dict[tuple[str, int, str], dict[int, list[Tensor]]] = {}
    for cell in trace.cells:
        key = cell.kind, cell.layer, place_of(trace.prompts[cell.prompt].prompt, cell.position)
        both = torch.stack([cell.effect, cell.kl_effect])
        found.setdefault(key, {}).setdefault(cell.prompt, []).append(both)
    kinds = list(dict.fromkeys(cell.kind for cell in trace.cells))
    for key in sorted(found, key=lambda key: (kinds.index(key[0]), key[1], PLACES.index(key[2]))):
        yield key, {index: torch.stack(parts).mean(dim=0) for index, parts in found[key].items()}
