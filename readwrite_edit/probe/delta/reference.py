"""What a delta is measured against: bases from the base model's inputs and from its unembedding."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from readwrite_edit.cache import cache_folder
from readwrite_edit.errors import DataError
from readwrite_edit.geometry import principal_basis
from readwrite_edit.job.session import Session
from readwrite_edit.models.architectures import WRITE_ROLES
from readwrite_edit.models.fingerprint import weights_hash
from readwrite_edit.models.loading import default_device, load_model, load_tokenizer
from readwrite_edit.models.pathways import Projection
from readwrite_edit.models.source import ModelSource
from readwrite_edit.models.tensor_files import TensorFiles
from readwrite_edit.probe.checkpoint import Checkpoint, parse_model
from readwrite_edit.probe.delta.anatomy import Anatomy
from readwrite_edit.probe.delta.comparison import Comparison
from readwrite_edit.probe.delta.principal import DEAR, kept_directions
from readwrite_edit.probe.delta.subspaces import Subspaces, curve_length
from readwrite_edit.probe.delta.unembedding import stored_unembedding
from readwrite_edit.probe.settings.base import TextSettings
from readwrite_edit.probe.settings.delta import DeltaSettings
from readwrite_edit.probe.texts import probe_sequences
from readwrite_edit.statistics import Statistics, StatisticsStore
from readwrite_edit.statistics.cached import cached_statistics
from readwrite_edit.statistics.store import open_statistics

Collect = Callable[[Session], Statistics]
Reference = Callable[[Session], Subspaces]


def prepare_statistics(settings: DeltaSettings, source: ModelSource, selected: Sequence[Projection]) -> Collect:
    """Open the statistics that the settings name, or get ready to collect them.

    Raises:
        DataError: The file is missing, damaged, empty or of another model; or the text is.
    """
    if settings.statistics is not None:
        given = open_statistics(settings.statistics, centred=settings.centred)
        check_sites(settings.statistics, given, selected)

        def tell(session: Session) -> Statistics:
            text, model = (given.origin.get(name, "unnamed") for name in ("text", "model"))
            session.say(f"statistics of {settings.statistics}: {given.tokens} tokens of text {text}, model {model}")
            return given

        return tell
    readers = [p for p in selected if settings.all_inputs or p.role not in WRITE_ROLES]
    return prepare_collection(
        settings, source, readers, rank=settings.k, centred=settings.centred, unit_norm=settings.unit_norm
    )


def prepare_collection(
    settings: TextSettings,
    source: ModelSource,
    projections: Sequence[Projection],
    *,
    rank: int,
    centred: bool = False,
    unit_norm: bool = False,
) -> Collect:
    """Tokenise the settings' text; the returned function loads the model and collects, through the cache."""
    sequences = probe_sequences(settings, load_tokenizer(source)) if projections else []

    def collect(session: Session) -> Statistics:
        if not projections:
            return Statistics({}, 0)
        model = load_model(source, device=settings.device)
        return cached_statistics(
            model,
            sequences,
            projections,
            StatisticsStore(cache_folder() / "statistics"),
            weights_hash=weights_hash(model),
            title=f"text {settings.text}",
            rank=rank,
            batch_size=settings.batch_size,
            centred=centred,
            first_position=settings.first_position,
            unit_norm=unit_norm,
            say=session.say,
            progress=lambda done, total: session.advance(done, total, "tok"),
        )

    return collect


def check_sites(name: str, statistics: Statistics, selected: Sequence[Projection]) -> None:
    """Require that statistics fit the matrices to measure.

    Raises:
        DataError: They hold none of the inputs, or one of another width.
    """
    found = [projection for projection in selected if projection.site in statistics.sites]
    if not found and any(projection.role not in WRITE_ROLES for projection in selected):
        held = ", ".join(sorted(statistics.sites)[:2])
        raise DataError(f"{name}: statistics of none of this model's inputs (they hold {held}, …); of another model?")
    for projection in found[:1]:
        width = statistics.sites[projection.site].mean.shape[0]
        if width != projection.d_in:
            raise DataError(
                f"{name}: {projection.site} has width {width}, expected {projection.d_in}; of another model?"
            )


def stored_prediction_basis(
    files: TensorFiles, anatomy: Anatomy, settings: DeltaSettings, token_weights: Tensor | None
) -> Tensor | None:
    """Prediction subspace from the stored unembedding, streamed; None where the files do not hold it.

    Args:
        files: Of the base model.
        anatomy: Of the base model.
        settings: Centring, gain and length of the curve.
        token_weights: Frequency of each token, (vocabulary,), or None.

    Returns:
        Orthonormal columns, (d_model, K).
    """
    unembedding = stored_unembedding(files, anatomy, gain=settings.gain)
    if unembedding is None:
        return None
    dim, centred = unembedding.d_model, settings.centred_unembedding
    columns = curve_length(dim, settings.curve, settings.k)

    def gram() -> Tensor:
        return unembedding.gram(centred=centred, token_weights=token_weights)

    if dim <= DEAR:
        return principal_basis(gram(), columns)
    key = unembedding.digest(centred=centred, token_weights=token_weights)
    return kept_directions(key, gram, dim, columns)[1]


def token_frequencies(settings: DeltaSettings, source: ModelSource, vocabulary: int) -> Tensor | None:
    """How often each token occurs in the text that the settings name, (vocabulary,); None without one."""
    if settings.frequency is None:
        return None
    form = settings.text_format if settings.frequency == settings.text else None
    named = settings.model_copy(update={"text": settings.frequency, "text_format": form})
    counts = torch.zeros(vocabulary, dtype=torch.float64)
    for sequence in probe_sequences(named, load_tokenizer(source)):
        counts += torch.bincount(torch.tensor(sequence), minlength=vocabulary)
    return counts


def prepare_output_moments(path: str | None) -> Callable[[Projection], Tensor | None]:
    """Second moments of output gradients from a file of ``probe gradients``; of none without a file.

    Raises:
        DataError: The file is damaged, or holds no output gradients.
    """
    if path is None:
        return lambda _projection: None
    from readwrite_edit.probe.gradients.outputs import output_moment

    statistics = open_statistics(path)
    return lambda projection: output_moment(statistics, projection)


def check_given_files(settings: DeltaSettings) -> None:
    """Look at the statistics files before anything that takes longer.

    Raises:
        DataError: One is missing, damaged or empty.
    """
    for path in (settings.statistics, settings.gradients):
        if path is not None:
            open_statistics(path)


def foreign_statistics(settings: DeltaSettings, checkpoint: Checkpoint) -> list[str]:
    """A sentence for each given file whose statistics say that they are of a model of another name."""
    found, model = [], str(parse_model(checkpoint.name))
    for path in (settings.statistics, settings.gradients):
        named = None if path is None else open_statistics(path).origin.get("model")
        if named is not None and named != model:
            found.append(f"{path} says that it is of {named}, not of {model}: make sure that both are the same weights")
    return found


def prepare_reference(settings: DeltaSettings, comparison: Comparison) -> Reference:
    """Check statistics and texts; the returned function makes the subspaces of the comparison's model.

    Raises:
        DataError: A statistics file or a text is missing, damaged, empty or of another model.
    """
    source, anatomy = comparison.model.source, comparison.anatomy
    collect = prepare_statistics(settings, source, comparison.selected)
    vocabulary = anatomy.shapes[anatomy.unembedding][0]
    frequencies = token_frequencies(settings, source, vocabulary)
    output_moments = prepare_output_moments(settings.gradients)

    def subspaces(session: Session) -> Subspaces:
        return Subspaces(
            collect(session),
            stored_prediction_basis(comparison.base, anatomy, settings, frequencies),
            output_moment=output_moments,
            k=settings.k,
            curve=settings.curve,
            device=settings.device or default_device(),
        )

    return subspaces
