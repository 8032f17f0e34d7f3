"""Statistics from the cache where it has them, else collected now and kept, each site for itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

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
    sites = dict.fromkeys(projection.site for projection in projections)
    how: Any = {"batch_size": batch_size, "first_position": first_position, "unit_norm": unit_norm}
    place = {"dtype": str(model.dtype), "device": model.device.type}
    # a site has a file of its own: sets of sites that overlap collect only what they lack
    keys = {site: statistics_key(weights_hash, sequences, [site], **how, **place) for site in sites}
    parts = {site: found for site, key in keys.items() if (found := store.load(key)) is not None}
    cached = len(parts)
    lacking = [projection for projection in projections if projection.site not in parts]
    if lacking:
        with progress_bar(f"statistics of the {title}", "tok") as advance:
            found = collect_token_statistics(model, sequences, lacking, **how, progress=progress or advance)
        for site, moments in found.sites.items():
            parts[site] = Statistics({site: moments}, found.tokens)
            store.save(keys[site], parts[site])
    tokens = max((part.tokens for part in parts.values()), default=0)
    statistics = Statistics({site: parts[site].sites[site] for site in sites}, tokens, centred)
    say(_summary(title, statistics, rank, cached))
    return statistics


def _summary(title: str, statistics: Statistics, rank: int, cached: int) -> str:
    overlap = statistics.smallest_overlap(rank)
    agreement = "halves not compared: too few tokens"
    if overlap is not None:
        k, share = overlap
        agreement = f"the top {k} directions of two halves agree to {share:.2f} or better"
    sites = len(statistics.sites)
    origin = "collected" if not cached else "from the cache" if cached == sites else f"{cached} of them from the cache"
    return f"statistics of the {title}: {statistics.tokens} tokens, {sites} sites, {origin}; {agreement}"
