"""Statistics that a run needs: of its alignment text and of the texts it protects."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from transformers import PreTrainedModel

from readwrite_edit.align.prepare import Preparation
from readwrite_edit.statistics import Statistics, StatisticsStore, mix
from readwrite_edit.statistics.cached import Say, cached_statistics


def measure(
    model: PreTrainedModel, prepared: Preparation, weights_hash: str, cache: Path, say: Say
) -> tuple[Statistics, Statistics | None]:
    """Second moments of the alignment text, and of the protected texts mixed by weight.

    Args:
        model: Bare model.
        prepared: Names the sites and holds the tokens.
        weights_hash: Of the model.
        cache: Folder of statistics.
        say: Tells the user what happens.

    Returns:
        Statistics of the alignment text, and of the protected texts (None where there are none).
    """
    options = prepared.recipe.calibration

    def collect(sequences: Sequence[Sequence[int]], title: str) -> Statistics:
        return cached_statistics(
            model,
            sequences,
            prepared.projections,
            StatisticsStore(cache),
            weights_hash=weights_hash,
            title=title,
            rank=prepared.recipe.adapter.rank or prepared.recipe.geometry.k,
            batch_size=options.batch_size,
            centred=options.centred,
            first_position=options.first_position,
            say=say,
        )

    alignment = collect(prepared.calibration, "alignment text")
    parts = [
        (collect(sequences, f"protected text '{name}'"), weight)
        for name, (weight, sequences) in prepared.protect.items()
    ]
    return alignment, mix(parts) if parts else None
