"""The gradients probe: how the gradient that reaches a matrix's output is spread, objective by objective.

The write side of any update inherits the shape of these second moments. The
same rows are put under each objective, with one forward pass for all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from readwrite_edit.align.preferences import load_preferences
from readwrite_edit.align.tokenised import TokenisedPairs, tokenise_pairs
from readwrite_edit.errors import DataError, ModelError
from readwrite_edit.job.result import Result
from readwrite_edit.job.session import Session
from readwrite_edit.models.architectures import READ_ROLES, WRITE_ROLES
from readwrite_edit.models.fingerprint import weights_hash
from readwrite_edit.models.loading import build_meta_model, load_model, load_tokenizer
from readwrite_edit.models.pathways import Pathways, Projection, find_pathways
from readwrite_edit.models.source import ModelSource
from readwrite_edit.models.unembedding import model_prediction_basis
from readwrite_edit.probe.checkpoint import parse_model
from readwrite_edit.probe.gradients.losses import Batch, Scores, pair_batches
from readwrite_edit.probe.gradients.outputs import (
    OutputGradients,
    collect_output_gradients,
    output_moment,
    output_site,
    score_batches,
)
from readwrite_edit.probe.gradients.tables import gradient_result
from readwrite_edit.probe.settings.gradients import GradientsSettings
from readwrite_edit.recipe.objective import Objective
from readwrite_edit.recipe.sections import Data
from readwrite_edit.statistics import Statistics, write_statistics

__all__ = ["gradients_file", "output_moment", "output_site", "prepare", "probe_gradients"]


def probe_gradients(model: str, **options: Any) -> Result:
    """Second moments of the gradient at the outputs of a model's matrices.

    Args:
        model: Hub id (``owner/name@revision``), folder, .gguf file or ``bundled:NAME``.
        **options: Fields of :class:`GradientsSettings`; ``objective`` is a list.

    Returns:
        Tables ``layers`` (main), ``comparison``, ``spectra`` and ``curves``.

    Raises:
        ReadWriteEditError: Wrong input.
    """
    return prepare(GradientsSettings.checked({"model": model, **options}))(Session())


def gradients_file(objective: str) -> str:
    """Name of the file in the run folder that holds an objective's output moments."""
    return f"gradients_{objective}.safetensors"


@dataclass(frozen=True)
class _Prepared:
    """What was found and tokenised."""

    source: ModelSource
    reference: ModelSource | None
    tokenizer: PreTrainedTokenizerBase
    pathways: Pathways
    projections: tuple[Projection, ...]
    pairs: TokenisedPairs


def prepare(settings: GradientsSettings) -> Callable[[Session], Result]:
    """Check the models and the data; returns what measures.

    Raises:
        ModelError: A model is not found or of an unknown architecture, or lacks the role or layer; a reference
            with another tokenizer.
        DataError: The data are missing or malformed, or too few.
    """
    source = parse_model(settings.model)
    tokenizer = load_tokenizer(source)
    pathways = find_pathways(build_meta_model(source))
    prepared = _Prepared(
        source=source,
        reference=_reference(settings, tokenizer),
        tokenizer=tokenizer,
        pathways=pathways,
        projections=pathways.select(settings.modules, settings.layers),
        pairs=_pairs(settings, tokenizer),
    )
    return lambda session: _measure(settings, prepared, session)


def _reference(settings: GradientsSettings, tokenizer: PreTrainedTokenizerBase) -> ModelSource | None:
    if settings.reference is None:
        return None
    source = parse_model(settings.reference)
    if load_tokenizer(source).get_vocab() != tokenizer.get_vocab():
        raise ModelError(f"{source} has another tokenizer than {settings.model}: name a reference of the same family")
    return source


def _pairs(settings: GradientsSettings, tokenizer: PreTrainedTokenizerBase) -> TokenisedPairs:
    """Tokenised rows; one row is held out, as the loader wants it, and not used."""
    data = load_preferences(
        Data(path=settings.data, split=settings.split, eval_rows=1, limit=settings.rows, seed=settings.seed)
    )
    pairs = tokenise_pairs(data.train, tokenizer, max_length=settings.max_length)
    if not pairs.rows:
        raise DataError(f"no row of {settings.data} is left to measure on; raise --max-length")
    return pairs


def _measure(settings: GradientsSettings, prepared: _Prepared, session: Session) -> Result:
    batches = pair_batches(
        prepared.pairs.rows,
        pad_token_id=int(prepared.tokenizer.pad_token_id),
        batch_size=settings.batch_size,
        max_length=settings.max_length,
    )
    references = _reference_scores(prepared.reference, settings, batches)
    model = load_model(prepared.source, device=settings.device)
    session.say(_size_in_words(prepared.projections, len(settings.objective)))
    prediction = _prediction(model, prepared)
    gradients, inputs = collect_output_gradients(
        model,
        batches,
        prepared.projections,
        {name: _objective(settings, loss) for name, loss in settings.losses.items()},
        references=references,
        input_sites=_input_sites(prepared.projections, all_inputs=settings.all_inputs),
        completions_only=settings.positions == "completion",
        bases=_followed(prediction, settings.k, model),
        progress=lambda done, total: session.advance(done, total, "batch"),
    )
    _keep(gradients, settings, prepared, model, session)
    return gradient_result(
        gradients,
        inputs,
        prepared.projections,
        prediction,
        k=settings.k,
        curve=settings.curve,
        device=str(model.device),
        notes=_notes(settings, prepared),
    )


def _objective(settings: GradientsSettings, loss: str) -> Objective:
    return Objective.model_validate(
        {"loss_type": [loss], "beta": settings.beta, "label_smoothing": settings.label_smoothing}
    )


def _reference_scores(
    source: ModelSource | None, settings: GradientsSettings, batches: Sequence[Batch]
) -> list[Scores] | None:
    """Scores of a reference of its own; the policy's own serve where there is none."""
    if source is None:
        return None
    return score_batches(load_model(source, device=settings.device), batches)


def _prediction(model: PreTrainedModel, prepared: _Prepared) -> Tensor | None:
    """All directions of the prediction subspace in their order, (d_model, d_model)."""
    writers = [projection for projection in prepared.projections if projection.role in WRITE_ROLES]
    return model_prediction_basis(model, prepared.pathways, writers[0].d_out) if writers else None


def _followed(prediction: Tensor | None, k: int, model: PreTrainedModel) -> dict[str, Tensor]:
    if prediction is None:
        return {}
    return dict.fromkeys(WRITE_ROLES, prediction[:, :k].float().to(model.device))


def _input_sites(projections: Sequence[Projection], *, all_inputs: bool) -> list[str]:
    return list(dict.fromkeys(p.site for p in projections if all_inputs or p.role in READ_ROLES))


def _keep(
    gradients: Mapping[str, OutputGradients],
    settings: GradientsSettings,
    prepared: _Prepared,
    model: PreTrainedModel,
    session: Session,
) -> None:
    """Write one file of output moments an objective into the run folder."""
    if session.folder is None:
        return
    origin = {
        "kind": "output_gradients",
        "model": str(prepared.source),
        "weights_sha256": weights_hash(model),
        "text": settings.data,
        "positions": settings.positions,
    }
    for name, found in gradients.items():
        path = Path(session.folder) / gradients_file(name)
        statistics = found.statistics
        described = {**origin, "objective": name, "loss_type": settings.losses[name]}
        write_statistics(path, Statistics(statistics.sites, statistics.tokens, origin=described))
        session.say(f"output gradients under {name}: {path}, for probe delta --gradients")


def _size_in_words(projections: Sequence[Projection], objectives: int) -> str:
    size = sum(8 * p.d_out * p.d_out + 4 * p.d_out * p.d_in for p in projections) * objectives
    return (
        f"sums of {len(projections)} matrices under {objectives} objectives take {size / 2**30:.1f} GiB; "
        "fewer with --layers or --modules"
    )


def _notes(settings: GradientsSettings, prepared: _Prepared) -> tuple[str, ...]:
    pairs = prepared.pairs
    notes = [f"{len(pairs.rows)} pairs, each objective with one gradient of all of them, no step taken"]
    if pairs.truncated:
        notes.append(f"{pairs.truncated} of {len(pairs.rows)} rows are cut at {settings.max_length} tokens")
    if pairs.dropped:
        notes.append(f"{len(pairs.dropped)} rows are dropped; the first: {pairs.dropped[0].reason}")
    preference = [name for name, loss in settings.losses.items() if loss != "sft"]
    if preference and prepared.reference is None:
        notes.append(
            f"{', '.join(preference)} at the reference itself: there δ at each token is that of cross-entropy times "
            "one factor a pair and side, and D can not see its sign; what sets the objectives apart is what cancels "
            "in the sum of a pair, which G and the pair sums show"
        )
    return tuple(notes)
