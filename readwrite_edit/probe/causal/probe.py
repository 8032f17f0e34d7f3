"""The causal probe: what rank-1 edits along principal directions do to predictions, beside matched controls."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from readwrite_edit.cache import cache_folder
from readwrite_edit.job.result import Result
from readwrite_edit.job.session import Session
from readwrite_edit.models.fingerprint import weights_hash
from readwrite_edit.models.loading import load_model, load_tokenizer
from readwrite_edit.models.pathways import Pathways, Projection, find_pathways
from readwrite_edit.probe.causal.blocks import Blocks, measured_outcomes
from readwrite_edit.probe.causal.effects import EffectMeter, SuffixGain, speedup
from readwrite_edit.probe.causal.matrices import build_matrices, check_directions, neighbour_of
from readwrite_edit.probe.causal.plan import PRINCIPAL, Matrix, trials_of
from readwrite_edit.probe.causal.tables import controls_table, dose_table, effects_table, figures, verdict
from readwrite_edit.probe.causal.texts import evaluation_sequences, refuse_seen_text, target_token
from readwrite_edit.probe.checkpoint import parse_model
from readwrite_edit.probe.settings.causal import CausalSettings
from readwrite_edit.probe.texts import probe_sequences
from readwrite_edit.statistics import StatisticsStore
from readwrite_edit.statistics.cached import cached_statistics

_NORM_AFTER_BLOCK = ("olmo2", "gemma2", "gemma3", "gemma3_text")
_RARE = 0.05


@dataclass(frozen=True, eq=False)
class _Ready:
    """Checked input of the probe."""

    settings: CausalSettings
    model: PreTrainedModel
    pathways: Pathways
    calibration: Sequence[Sequence[int]]
    evaluation: Sequence[Sequence[int]]
    projections: Sequence[Projection]
    target: int | None


def probe_causal(model: str, **options: Any) -> Result:
    """Measure rank-1 edits of read and write matrices against matched controls.

    On a read matrix (``q_proj``, ``k_proj``, …) ΔW = ε û aᵀ, a a principal
    direction of its input; on a write matrix (``o_proj``, ``down_proj``)
    ΔW = ε p kᵀ, p a direction of the prediction subspace and k a principal
    direction of its input. The effect is KL(base ‖ edited) on text that chose
    neither.

    Args:
        model: As ``readwrite-edit probe causal`` takes it.
        **options: Fields of ``CausalSettings``.

    Returns:
        Tables ``effects``, ``controls`` and ``dose``; ``docs/probe.md`` documents their columns.

    Raises:
        RecipeError: An option is wrong.
        ModelError: The model can not be loaded, or lacks a layer or a matrix.
        DataError: A text is missing, or measured and calibration text are not disjoint.
    """
    return prepare(CausalSettings.checked({"model": model, **options}))(Session())


def prepare(settings: CausalSettings) -> Callable[[Session], Result]:
    """Load the model and the texts, and refuse what can not be measured.

    Raises:
        ModelError: The model can not be loaded, or lacks a layer or a matrix.
        DataError: A text is missing, or measured and calibration text are not disjoint.
    """
    source = parse_model(settings.model)
    tokenizer = load_tokenizer(source)
    calibration, evaluation = _texts(settings, tokenizer)
    model = load_model(source, dtype=settings.dtype, device=settings.device)
    pathways = find_pathways(model)
    projections = pathways.select(settings.modules, settings.layers or default_layers(pathways.n_layers))
    target = None if settings.target is None else target_token(settings.target, tokenizer)
    check_directions(pathways, projections, settings)
    ready = _Ready(settings, model, pathways, calibration, evaluation, projections, target)
    return lambda session: _measure(ready, session)


def default_layers(n_layers: int) -> tuple[int, ...]:
    """The layers at a quarter, half and three quarters of a model's depth."""
    return tuple(sorted({n_layers * quarter // 4 for quarter in (1, 2, 3)}))


def _texts(settings: CausalSettings, tokenizer: PreTrainedTokenizerBase) -> tuple[list[list[int]], list[list[int]]]:
    """Calibration and evaluation sequences, checked to be disjoint."""
    evaluation = evaluation_sequences(settings, tokenizer)
    calibration = probe_sequences(settings, tokenizer)
    refuse_seen_text(calibration, evaluation, settings)
    return calibration, evaluation


def _measure(ready: _Ready, session: Session) -> Result:
    settings = ready.settings
    fingerprint = weights_hash(ready.model)
    matrices = _matrices(ready, session, fingerprint)
    edited = {matrix.projection for matrix in matrices} | {m.neighbour.projection for m in matrices if m.neighbour}
    meter = EffectMeter(ready.model, ready.evaluation, tuple(edited), target=ready.target)
    gains = _check_suffixes(meter, matrices, settings)
    session.say(_said_gain(gains))
    outcomes = measured_outcomes(meter, matrices, settings, Blocks(session.folder, fingerprint), session)
    controls = controls_table(outcomes)
    dose, effects = dose_table(controls), effects_table(outcomes, settings.reference_dose, seed=settings.seed)
    return Result(
        main="effects",
        tables={"effects": effects, "controls": controls, "dose": dose},
        verdict=verdict(effects),
        figures={**figures(effects, dose), "suffix_speedup": speedup(gains)},
        notes=tuple(_notes(ready, gains)),
    )


def _matrices(ready: _Ready, session: Session, fingerprint: str) -> list[Matrix]:
    """The tested matrices, with statistics of every site that they or their neighbours read."""
    settings = ready.settings
    near = [neighbour_of(projection, ready.pathways) for projection in ready.projections]
    statistics = cached_statistics(
        ready.model,
        ready.calibration,
        [*ready.projections, *(projection for projection in near if projection is not None)],
        StatisticsStore(cache_folder() / "statistics"),
        weights_hash=fingerprint,
        title="calibration text",
        rank=settings.k,
        batch_size=settings.batch_size,
        first_position=settings.first_position,
        say=session.say,
    )
    return build_matrices(ready.model, ready.pathways, ready.projections, statistics, settings, target=ready.target)


def _check_suffixes(meter: EffectMeter, matrices: Sequence[Matrix], settings: CausalSettings) -> list[SuffixGain]:
    """Try each matrix once from its layer on and once whole; one that differs makes all passes whole."""
    gains = []
    for matrix in matrices:
        edits = [trial.edit for trial in trials_of(matrix, PRINCIPAL, settings)][: settings.edits]
        gains.append(meter.check_suffix(edits))
    return gains


def _said_gain(gains: Sequence[SuffixGain]) -> str:
    if not all(gain.exact for gain in gains):
        return "passes from the edited layer on differ from whole ones here: every pass is whole"
    return f"passes from the edited layer on give what whole ones give, {speedup(gains):.1f} times as fast"


def _notes(ready: _Ready, gains: Sequence[SuffixGain]) -> Iterator[str]:
    """What the reader must know of this run."""
    settings, pathways = ready.settings, ready.pathways
    yield (
        f"Effects are on {len(ready.evaluation)} sequences of {settings.length} tokens of {settings.measured_text}, "
        f"directions from {settings.text}; tests are at ‖ΔW‖/‖W‖ = {settings.reference_dose:g}."
    )
    smallest = 1 / (settings.controls + 1)
    yield f"With {settings.controls} random controls the smallest p-value that can be reached is {smallest:.3g}."
    if smallest * len(ready.projections) * settings.directions > _RARE:
        yield "One matrix alone can not reach q ≤ 0.05 among so many: several must stand out, or raise --controls."
    if any(p.role in ("k_proj", "v_proj") for p in ready.projections) and pathways.n_kv_heads < pathways.n_heads:
        served = pathways.n_heads // pathways.n_kv_heads
        yield f"A key or value head here serves {served} query heads: an edit of its rows acts on all of them."
    if pathways.model_type in _NORM_AFTER_BLOCK:
        yield "This architecture normalises a block's output before adding it: p is only near to what is added."
    yield _said_gain(gains)[0].upper() + _said_gain(gains)[1:] + "."
