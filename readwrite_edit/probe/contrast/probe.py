"""The graded control: the same start, rows, steps and optimiser, from cross-entropy to a preference loss."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from readwrite_edit.align.preferences import data_hash, load_preferences
from readwrite_edit.align.tokenised import TokenisedPairs, pair_sequences, tokenise_pairs
from readwrite_edit.cache import cache_folder
from readwrite_edit.durable import write_json, write_text
from readwrite_edit.errors import DataError, ModelError
from readwrite_edit.job.result import Result
from readwrite_edit.job.session import Session
from readwrite_edit.models.architectures import WRITE_ROLES
from readwrite_edit.models.fingerprint import weights_hash
from readwrite_edit.models.loading import build_meta_model, load_model, load_tokenizer, model_folder
from readwrite_edit.models.pathways import Pathways, Projection, find_pathways
from readwrite_edit.models.source import ModelSource
from readwrite_edit.models.unembedding import model_prediction_basis
from readwrite_edit.probe.checkpoint import parse_model
from readwrite_edit.probe.contrast.arms import Arm, ArmRecord, ArmTrainer, StartWeights
from readwrite_edit.probe.contrast.tables import contrast_result
from readwrite_edit.probe.delta.subspaces import Subspaces
from readwrite_edit.probe.settings.base import TextSettings
from readwrite_edit.probe.settings.contrast import ContrastSettings
from readwrite_edit.probe.texts import probe_sequences
from readwrite_edit.recipe.sections import Data
from readwrite_edit.statistics import StatisticsStore, take_tokens
from readwrite_edit.statistics.cached import cached_statistics

_MODULES = ("q_proj", "k_proj", "o_proj", "down_proj")
_STATISTICS_BATCH = 8


@dataclass(frozen=True)
class _Ready:
    """What was checked and tokenised before anything is loaded."""

    settings: ContrastSettings
    source: ModelSource
    tokenizer: PreTrainedTokenizerBase
    pathways: Pathways
    projections: tuple[Projection, ...]
    train: TokenisedPairs
    held_out: TokenisedPairs
    text: list[list[int]]
    data_hash: str


def probe_contrast(model: str, *, data: str, **options: Any) -> Result:
    """Train the arms and compare their deltas; see ``readwrite-edit probe contrast --help`` for the options.

    Args:
        model: Where the start is.
        data: Preference rows.
        **options: Fields of ``ContrastSettings``.

    Raises:
        ReadWriteEditError: Wrong input, or training met a loss that is not finite.
    """
    return prepare(ContrastSettings.checked({"model": model, "data": data, **options}))(Session())


def prepare(settings: ContrastSettings) -> Callable[[Session], Result]:
    """Check model, data and text; returns what trains and measures.

    Raises:
        ModelError: The model is not found, damaged or of an unknown architecture, or has no such matrix.
        DataError: Data or text is missing, malformed, or empty after truncation.
    """
    source = parse_model(settings.model)
    tokenizer = load_tokenizer(source)
    pathways = find_pathways(build_meta_model(source))
    modules = settings.modules or [role for role in _MODULES if role in pathways.roles]
    projections = pathways.select(modules, settings.layers)
    rows = load_preferences(Data(path=settings.data, split=settings.split, eval_rows=settings.eval_rows))
    train, held_out = (
        tokenise_pairs(part, tokenizer, max_length=settings.max_length) for part in (rows.train, rows.held_out)
    )
    for name, pairs in (("training", train), ("held-out", held_out)):
        if not pairs.rows:
            raise DataError(f"{settings.data}: no {name} row is left; raise --max-length or --eval-rows")
    model_folder(source)
    ready = _Ready(
        settings,
        source,
        tokenizer,
        pathways,
        projections,
        train,
        held_out,
        _text(settings, tokenizer, train),
        data_hash([*rows.train, *rows.held_out]),
    )
    return lambda session: _measure(ready, session)


def _text(settings: ContrastSettings, tokenizer: PreTrainedTokenizerBase, train: TokenisedPairs) -> list[list[int]]:
    """The text of the read bases: one of its own, or the training rows as the arms read them."""
    if settings.text is None:
        sequences = pair_sequences(train.rows, settings.max_length)
        return take_tokens(sequences, settings.tokens, seed=settings.data_seed)
    named = TextSettings(
        text=settings.text,
        text_format=settings.text_format,
        tokens=settings.tokens,
        max_length=settings.max_length,
        seed=settings.data_seed,
    )
    return probe_sequences(named, tokenizer)


def _measure(ready: _Ready, session: Session) -> Result:
    settings = ready.settings
    notes = _row_notes(ready)
    for note in notes:
        session.say(note)
    model = load_model(ready.source, dtype="float32", device=settings.device)
    start_hash = weights_hash(model)
    _check_unchanged(session.folder, {"weights_sha256": start_hash, "data_sha256": ready.data_hash}, ready)
    start = StartWeights(
        model, ready.pathways, ready.projections, _subspaces(ready, model, start_hash, session), settings.k
    )
    trainer = ArmTrainer(
        start,
        settings,
        ready.tokenizer,
        ready.train.rows,
        ready.held_out.rows,
        start_hash,
        None if session.folder is None else session.folder / "arms",
    )
    arms = [Arm(grade, seed) for seed in settings.seeds for grade in sorted(settings.grades)]
    records = [_carried_out(trainer, arm, place, len(arms), session) for place, arm in enumerate(arms)]
    return contrast_result(records, settings, notes)


def _subspaces(ready: _Ready, model: PreTrainedModel, start_hash: str, session: Session) -> Subspaces:
    settings = ready.settings
    readers = [projection for projection in ready.projections if projection.role not in WRITE_ROLES]
    statistics = None
    if readers:
        statistics = cached_statistics(
            model,
            ready.text,
            readers,
            StatisticsStore(cache_folder() / "statistics"),
            weights_hash=start_hash,
            title="training rows" if settings.text is None else settings.text,
            rank=settings.k,
            batch_size=_STATISTICS_BATCH,
            centred=settings.centred,
            first_position=settings.first_position,
            say=session.say,
        )
    prediction = model_prediction_basis(model, ready.pathways, settings.k)
    return Subspaces(statistics, prediction, curve=settings.k)


def _carried_out(trainer: ArmTrainer, arm: Arm, place: int, count: int, session: Session) -> ArmRecord:
    """One arm, trained now or read from its file; its rows are logged either way, the newer line holds."""
    steps = trainer.settings.steps
    before, total = place * steps, count * steps

    def on_step(step: int, values: Mapping[str, float]) -> None:
        session.log_metrics(before + step, values)
        session.advance(before + step, total)

    path = None if session.folder is None else session.folder / "arms" / f"{arm.name}.json"
    record = None if path is None else _recorded(path)
    if record is None:
        session.say(f"arm {place + 1} of {count}: {arm.name}")
        record = trainer.train(arm, on_step)
        if path is not None:
            write_text(path, json.dumps(record.as_dict(), allow_nan=False))  # unsorted: columns keep their order
    _log(record, before + steps, session)
    return record


def _log(record: ArmRecord, step: int, session: Session) -> None:
    figures = {f"held_out_{name}": value for name, value in record.held_out.items() if value is not None}
    session.log_metrics(
        step,
        {"grade": record.grade, "seed": record.seed, "delta_norm": record.norm, **figures},
        kind="eval",
    )
    session.log_geometry(step, record.geometry)


def _recorded(path: Path) -> ArmRecord | None:
    """A finished arm of an earlier segment; a file that can not be read is made again."""
    try:
        return ArmRecord(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def _check_unchanged(folder: Path | None, found: dict[str, str], ready: _Ready) -> None:
    """Refuse to mix arms of another start or other rows with those of this run."""
    if folder is None:
        return
    path = folder / "arms" / "start.json"
    if not path.is_file():
        write_json(path, found)
        return
    recorded = json.loads(path.read_text(encoding="utf-8"))
    if recorded.get("weights_sha256") != found["weights_sha256"]:
        raise ModelError(f"the weights of {ready.settings.model} are no longer those that the probe began with")
    if recorded.get("data_sha256") != found["data_sha256"]:
        raise DataError(f"the rows of {ready.settings.data} are no longer those that the probe began with")


def _row_notes(ready: _Ready) -> list[str]:
    settings, train = ready.settings, ready.train
    notes = []
    for name, pairs in (("training", train), ("held-out", ready.held_out)):
        if pairs.dropped:
            notes.append(
                f"{len(pairs.dropped)} of {len(pairs.dropped) + len(pairs.rows)} {name} rows are dropped at "
                f"--max-length {settings.max_length}; the first: {pairs.dropped[0].reason}"
            )
        if pairs.truncated:
            notes.append(f"{pairs.truncated} of {len(pairs.rows)} {name} rows are cut at --max-length")
    needed = settings.steps * settings.batch_size
    if needed > len(train.rows):
        notes.append(f"{needed} rows are needed an arm and there are {len(train.rows)}: they are taken again in turn")
    return notes
