"""Statistics for a run: from the cache where it has them, else in one pass with a progress bar."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tqdm import tqdm
from transformers import PreTrainedModel

from readwrite_edit.align.prepare import Preparation
from readwrite_edit.statistics import Statistics, StatisticsStore, collect_token_statistics, mix, statistics_key

Say = Callable[[str], None]


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
    store = StatisticsStore(cache)
    alignment = _collect(model, prepared, prepared.calibration, "alignment text", weights_hash, store, say)
    parts = [
        (_collect(model, prepared, sequences, f"protected text '{name}'", weights_hash, store, say), weight)
        for name, (weight, sequences) in prepared.protect.items()
    ]
    return alignment, mix(parts) if parts else None


def _collect(
    model: PreTrainedModel,
    prepared: Preparation,
    sequences: Sequence[Sequence[int]],
    name: str,
    weights_hash: str,
    store: StatisticsStore,
    say: Say,
) -> Statistics:
    options = prepared.recipe.calibration
    sites = prepared.pathways.sites(prepared.projections)
    key = statistics_key(
        weights_hash,
        sequences,
        sites,
        first_position=options.first_position,
        batch_size=options.batch_size,
        dtype=str(model.dtype),
        device=model.device.type,
    )
    statistics = store.load(key, centred=options.centred)
    cached = statistics is not None
    if statistics is None:
        with progress_bar(f"statistics of the {name}", "tok") as advance:
            statistics = collect_token_statistics(
                model,
                sequences,
                prepared.projections,
                batch_size=options.batch_size,
                centred=options.centred,
                first_position=options.first_position,
                progress=advance,
            )
        store.save(key, statistics)
    say(_summary(name, statistics, prepared, cached))
    return statistics


def _summary(name: str, statistics: Statistics, prepared: Preparation, cached: bool) -> str:
    rank = prepared.recipe.adapter.rank or prepared.recipe.geometry.k
    overlap = statistics.smallest_overlap(rank)
    agreement = "halves not compared: too few tokens"
    if overlap is not None:
        k, share = overlap
        agreement = f"the top {k} directions of two halves agree to {share:.2f} or better"
    origin = "from the cache" if cached else "collected"
    return f"statistics of the {name}: {statistics.tokens} tokens, {len(statistics.sites)} sites, {origin}; {agreement}"


@contextmanager
def progress_bar(title: str, unit: str) -> Iterator[Callable[[int, int], None]]:
    """A bar on a terminal, nothing elsewhere; yields a function of (done, total)."""
    with tqdm(desc=title, unit=unit, file=sys.stderr, disable=not sys.stderr.isatty(), leave=False) as bar:

        def advance(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        yield advance
