"""The activations probe: how concentrated the inputs of a model's matrices are.

The read side of any update inherits the shape of these second moments. What is
reported of each is how few directions hold its energy, how much of that is the
mean and the first position, and whether the text was long enough to tell.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from readwrite_edit.geometry import effective_rank, eigh_descending, participation_ratio, subspace_overlap
from readwrite_edit.job.result import Result
from readwrite_edit.job.session import Session
from readwrite_edit.models.architectures import SITE_OF_ROLE
from readwrite_edit.models.fingerprint import weights_hash
from readwrite_edit.models.loading import build_meta_model, load_model, load_tokenizer
from readwrite_edit.models.pathways import Pathways, Projection, find_pathways
from readwrite_edit.models.source import ModelSource
from readwrite_edit.probe.checkpoint import parse_model
from readwrite_edit.probe.settings.activations import ActivationsSettings
from readwrite_edit.probe.texts import probe_sequences
from readwrite_edit.statistics import Moments, RunningMoments, Statistics, collect_token_statistics, write_statistics
from readwrite_edit.statistics.moments import OVERLAP_RANKS

STATISTICS_FILE = "statistics.safetensors"
_HELD = (1, 16)
_AGREED = 0.9


def probe_activations(model: str, **options: Any) -> Result:
    """Spectra of a model's inputs, layer by layer.

    Args:
        model: Hub id (``owner/name@revision``), folder, .gguf file or ``bundled:NAME``.
        **options: Fields of :class:`ActivationsSettings`.

    Returns:
        Tables ``layers`` (main), ``spectra`` and ``convergence``.

    Raises:
        ReadWriteEditError: Wrong input.
    """
    return prepare(ActivationsSettings.checked({"model": model, **options}))(Session())


def prepare(settings: ActivationsSettings) -> Callable[[Session], Result]:
    """Check the model and the text; returns what measures.

    Raises:
        ModelError: The model is not found or of an unknown architecture, or lacks the layer or site.
        DataError: The text is missing or empty.
    """
    source = parse_model(settings.model)
    tokenizer = load_tokenizer(source)
    projections = projections_of_sites(find_pathways(build_meta_model(source)), settings.sites, settings.layers)
    sequences = probe_sequences(settings, tokenizer)
    return lambda session: _measure(settings, source, projections, sequences, session)


def projections_of_sites(
    pathways: Pathways, sites: Sequence[str], layers: Sequence[int] | None = None
) -> tuple[Projection, ...]:
    """One projection of each layer and site, in the order of the layers.

    Args:
        pathways: Of the model.
        sites: Kinds of inputs, such as ``attention_input``.
        layers: From 0; None takes all.

    Raises:
        ModelError: No such layer, or nothing in the model reads such an input.
    """
    readers = {site: [role for role, of in SITE_OF_ROLE.items() if of == site] for site in sites}
    roles = [next((role for role in members if role in pathways.roles), members[0]) for members in readers.values()]
    return pathways.select(roles, layers)


@dataclass(frozen=True)
class SiteSpectrum:
    """Eigenvalues of one second moment and its leading directions.

    Attributes:
        tokens: Tokens it is of.
        eigenvalues: Largest first, shape (d,), float64.
        directions: The leading columns, shape (d, ≤ 64), float32.
    """

    tokens: int
    eigenvalues: Tensor
    directions: Tensor


def spectrum_of(moment: Tensor, tokens: int) -> SiteSpectrum:
    """Decompose a second moment, (d, d)."""
    values, vectors = eigh_descending(moment)
    return SiteSpectrum(tokens, values.clamp_min(0).cpu(), vectors[:, : max(OVERLAP_RANKS)].float().cpu())


class _Snapshots:
    """Spectra of all sites each time a share of the text has been read."""

    def __init__(self, shares: Sequence[float], total: int, *, centred: bool) -> None:
        self._due = sorted(math.ceil(share * total) for share in set(shares) if 0 < share < 1)
        self._centred = centred
        self.taken: list[Mapping[str, SiteSpectrum]] = []

    def watch(self, done: int, sums: Mapping[str, RunningMoments]) -> None:
        """Take one where the text has come so far; one batch that passes two shares counts once."""
        if not self._due or done < self._due[0]:
            return
        self._due = [tokens for tokens in self._due if tokens > done]
        self.taken.append(
            {site: spectrum_of(running.moment(centred=self._centred), done) for site, running in sums.items()}
        )


def _measure(
    settings: ActivationsSettings,
    source: ModelSource,
    projections: Sequence[Projection],
    sequences: Sequence[Sequence[int]],
    session: Session,
) -> Result:
    model = load_model(source, device=settings.device)
    snapshots = _Snapshots(settings.shares, sum(map(len, sequences)), centred=settings.centred)
    collected = collect_token_statistics(
        model,
        sequences,
        projections,
        batch_size=_batch_size(settings, sum(map(len, sequences))),
        centred=settings.centred,
        first_position=settings.first_position,
        progress=lambda done, total: session.advance(done, total, "tok"),
        watch=snapshots.watch,
        shuffle=settings.seed,
    )
    origin = {"kind": "inputs", "model": str(source), "weights_sha256": weights_hash(model), "text": settings.text}
    statistics = Statistics(collected.sites, collected.tokens, settings.centred, origin)
    _keep(statistics, settings, session)
    return activation_tables(statistics, projections, snapshots.taken, device=model.device, leading=settings.spectrum)


def _batch_size(settings: ActivationsSettings, tokens: int) -> int:
    """Sequences in a batch: few enough that no batch passes two of the shares."""
    shares = sorted({0.0, 1.0, *settings.shares})
    gap = min(after - before for before, after in pairwise(shares))
    return max(1, min(settings.batch_size, int(gap * tokens) // settings.max_length))


def _keep(statistics: Statistics, settings: ActivationsSettings, session: Session) -> None:
    """Write the statistics into the run folder, and where the user wants them."""
    if session.folder is not None:
        write_statistics(session.folder / STATISTICS_FILE, statistics)
        session.say(f"statistics: {session.folder / STATISTICS_FILE}, for probe delta --statistics")
    if settings.save is not None:
        write_statistics(Path(settings.save).expanduser(), statistics)


def activation_tables(
    statistics: Statistics,
    projections: Sequence[Projection],
    snapshots: Sequence[Mapping[str, SiteSpectrum]] = (),
    *,
    device: torch.device | str = "cpu",
    leading: int = 256,
) -> Result:
    """Tables of what statistics say about the inputs.

    Args:
        statistics: Of the inputs.
        projections: One of each site.
        snapshots: Spectra of earlier parts of the text, by site.
        device: Where eigenvectors are computed.
        leading: Eigenvalues of each site in the table ``spectra``.
    """
    layers, spectra, convergence = [], [], []
    for projection in projections:
        site = projection.site
        place = {"site": site.rpartition(".")[2], "layer": projection.layer}
        last = spectrum_of(statistics.second_moment(site).to(device), statistics.sites[site].count)
        layers.append({**place, **_layer(statistics.sites[site], last)})
        spectra += [{**place, **row} for row in _spectrum(last.eigenvalues, leading)]
        earlier = [snapshot[site] for snapshot in snapshots if site in snapshot]
        convergence += [{**place, **_agreement(taken, last)} for taken in (*earlier, last)]
    tables = {"layers": layers, "spectra": spectra, "convergence": convergence}
    frames = {name: pd.DataFrame(rows) for name, rows in tables.items()}
    verdict, figures = _summary(frames["layers"], statistics.tokens)
    return Result("layers", frames, verdict, figures, _notes(frames["layers"]))


def _layer(moments: Moments, spectrum: SiteSpectrum) -> dict[str, Any]:
    values = spectrum.eigenvalues
    total = float(moments.total.trace()) / moments.count
    return {
        "d": len(values),
        "tokens": moments.count,
        "trace": float(values.sum()),
        "effective_rank": effective_rank(values),
        "participation_ratio": participation_ratio(values),
        **{f"energy_top_{k}": _held(values, k) for k in _HELD},
        "mean_share": float(moments.mean.square().sum()) / total if total else math.nan,
        "first_position_share": moments.first_position_share,
        **{f"halves_overlap_{k}": moments.overlap.get(k, math.nan) for k in OVERLAP_RANKS},
    }


def _spectrum(values: Tensor, leading: int) -> list[dict[str, Any]]:
    cumulative = values.cumsum(0) / values.sum()
    pairs = zip(values[:leading].tolist(), cumulative[:leading].tolist(), strict=True)
    return [{"index": index, "eigenvalue": value, "cumulative": share} for index, (value, share) in enumerate(pairs, 1)]


def _agreement(taken: SiteSpectrum, last: SiteSpectrum) -> dict[str, Any]:
    """How near an earlier spectrum is to the last; k must leave room beside it."""
    ranks = {k: k < len(last.eigenvalues) for k in OVERLAP_RANKS}
    overlaps = {
        f"overlap_{k}": subspace_overlap(taken.directions[:, :k], last.directions[:, :k]) if fits else math.nan
        for k, fits in ranks.items()
    }
    return {
        "tokens": taken.tokens,
        "effective_rank": effective_rank(taken.eigenvalues),
        **{f"energy_top_{k}": _held(taken.eigenvalues, k) for k in _HELD},
        **overlaps,
    }


def _held(values: Tensor, k: int) -> float:
    return float(values[:k].sum() / values.sum())


def _summary(layers: pd.DataFrame, tokens: int) -> tuple[str, dict[str, float]]:
    """What is seen, in one sentence, and its numbers: means over the layers, site by site."""
    figures: dict[str, float] = {"tokens": tokens}
    parts = []
    for site, rows in layers.groupby("site", sort=False):
        held = rows["energy_top_16"].mean()
        isotropic = (16 / rows["d"]).clip(upper=1).mean()
        ranks = rows["effective_rank"]
        for name in ("effective_rank", "participation_ratio", "energy_top_1", "energy_top_16", "mean_share"):
            figures[f"{site}_{name}"] = float(rows[name].mean())
        figures[f"{site}_first_position_share"] = float(rows["first_position_share"].mean())
        parts.append(
            f"{site}: effective rank {ranks.min():.0f} to {ranks.max():.0f} of {rows['d'].iloc[0]}, its first 16 "
            f"directions hold {held:.2f} of the energy, {held / isotropic:.1f} times 16/d (means of {len(rows)} layers)"
        )
    return "; ".join(parts), figures


def _notes(layers: pd.DataFrame) -> tuple[str, ...]:
    agreed = layers["halves_overlap_16"].dropna()
    if agreed.empty:
        return ("the halves of the text are not compared: it has a single batch or too few tokens",)
    worst = layers.loc[agreed.idxmin()]
    if worst["halves_overlap_16"] >= _AGREED:
        return ()
    return (
        f"the top 16 directions of two halves of the text agree to {worst['halves_overlap_16']:.2f} only in layer "
        f"{worst['layer']} ({worst['site']}): directions that far down depend on the text; raise --tokens",
    )
