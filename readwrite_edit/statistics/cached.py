"""Statistics from the cache where it has them, else collected now and kept."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from transformers import PreTrainedModel

from readwrite_edit.models.pathways import Projection
from readwrite_edit.progress import Progress, progress_bar
from readwrite_edit.statistics.collect import collect_token_statistics
from readwrite_edit.statistics.moments import Statistics
from readwrite_edit.statistics.store import StatisticsStore, statistics_key

Say = Callable[[str], None]


def cached_statistics(
    model: PreTrainedModel,
    sequences: Sequence[Sequence[int]],
    projections: Sequence[Projection],
    store: StatisticsStore,
    *,
    weights_hash: str,
    title: str,
    rank: int,
    batch_size: int = 8,
    centred: bool = False,
    first_position: bool = True,
    unit_norm: bool = False,
    say: Say,
    progress: Progress | None = None,
) -> Statistics:
    """Second moments of the inputs of projections over a text; see ``collect_token_statistics``.

    Args:
        model: Bare model.
        sequences: Token ids of the text.
        projections: Those whose inputs to measure.
        store: Where statistics are kept.
        weights_hash: Of the model.
        title: What the text is, for the user.
        rank: Dimension in whose neighbourhood the agreement of two halves is reported.
        batch_size: Sequences in a forward pass.
        centred: Whether the statistics take the mean out of C.
        first_position: Whether the first position of each sequence counts.
        unit_norm: Whether each input is scaled to norm 1 first.
        say: Tells the user what happens.
        progress: Called with (tokens done, tokens in all) in place of a bar; it may raise to end the pass.
    """
    key = statistics_key(
        weights_hash,
        sequences,
        (projection.site for projection in projections),
        first_position=first_position,
        unit_norm=unit_norm,
        batch_size=batch_size,
        dtype=str(model.dtype),
        device=model.device.type,
    )
    statistics = store.load(key, centred=centred)
    cached = statistics is not None
    if statistics is None:
        with progress_bar(f"statistics of the {title}", "tok") as advance:
            statistics = collect_token_statistics(
                model,
                sequences,
                projections,
                batch_size=batch_size,
                centred=centred,
                first_position=first_position,
                unit_norm=unit_norm,
                progress=progress or advance,
            )
        store.save(key, statistics)
    say(_summary(title, statistics, rank, cached))
    return statistics


def _summary(title: str, statistics: Statistics, rank: int, cached: bool) -> str:
    overlap = statistics.smallest_overlap(rank)
    agreement = "halves not compared: too few tokens"
    if overlap is not None:
        k, share = overlap
        agreement = f"the top {k} directions of two halves agree to {share:.2f} or better"
    origin = "from the cache" if cached else "collected"
    return (
        f"statistics of the {title}: {statistics.tokens} tokens, {len(statistics.sites)} sites, {origin}; {agreement}"
    )
