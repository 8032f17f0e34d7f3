"""Everything a run needs that can be checked without loading the weights.

A wrong recipe, model, data set or text is found here, before a run folder
exists. A dry run ends here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase

from readwrite_edit.align.preferences import data_hash, load_preferences
from readwrite_edit.align.texts import load_text, supports_chat
from readwrite_edit.align.tokenised import TokenisedPairs, pair_sequences, tokenise_pairs
from readwrite_edit.errors import DataError, ModelError
from readwrite_edit.models.loading import build_meta_model, load_tokenizer
from readwrite_edit.models.pathways import Pathways, Projection, find_pathways
from readwrite_edit.models.source import ModelSource, parse_source
from readwrite_edit.recipe import Recipe
from readwrite_edit.recipe.sections import ProtectedText
from readwrite_edit.statistics import take_tokens


@dataclass(frozen=True)
class Preparation:
    """What was found and tokenised.

    Attributes:
        recipe: As resolved.
        source: Where the model comes from.
        tokenizer: Of the model.
        pathways: Of the model, found on the meta device.
        projections: The matrices to adapt.
        train: Tokenised training rows, and what was dropped.
        held_out: Tokenised held-out rows, and what was dropped.
        calibration: Token sequences of the alignment text.
        protect: Name to weight and token sequences of each protected text.
        texts: Name to token sequences of each text to measure KL on.
        data_hash: Of the rows as they were read.
        notes: Sentences for the user about what was left out and why.
    """

    recipe: Recipe
    source: ModelSource
    tokenizer: PreTrainedTokenizerBase
    pathways: Pathways
    projections: tuple[Projection, ...]
    train: TokenisedPairs
    held_out: TokenisedPairs
    calibration: list[list[int]]
    protect: dict[str, tuple[float, list[list[int]]]]
    texts: dict[str, list[list[int]]]
    data_hash: str
    notes: tuple[str, ...]


def prepare(recipe: Recipe) -> Preparation:
    """Check and tokenise everything that a recipe names.

    Raises:
        ModelError: The model is not found or of an unknown architecture, or has no such layer or matrix.
        DataError: Data or a text is missing, malformed, or empty after truncation.
    """
    source = parse_source(recipe.model.path, recipe.model.revision)
    tokenizer = load_tokenizer(source)
    pathways = find_pathways(build_meta_model(source))
    projections = pathways.select(recipe.adapter.modules, _layers(recipe))
    _check_rank(recipe, projections)
    data = load_preferences(recipe.data)
    train, held_out = (
        tokenise_pairs(rows, tokenizer, max_length=recipe.train.max_length) for rows in (data.train, data.held_out)
    )
    _check_rows(train, held_out, recipe)
    protect, skipped = _texts(recipe.calibration.protect, recipe, tokenizer, tokens=None)
    texts, unmeasured = _texts(recipe.evaluation.texts, recipe, tokenizer, tokens=recipe.evaluation.tokens)
    return Preparation(
        recipe=recipe,
        source=source,
        tokenizer=tokenizer,
        pathways=pathways,
        projections=projections,
        train=train,
        held_out=held_out,
        calibration=_calibration(recipe, tokenizer, train),
        protect=protect,
        texts={name: sequences for name, (_, sequences) in texts.items()},
        data_hash=data_hash([*data.train, *data.held_out]),
        notes=(*_row_notes("training", train), *_row_notes("held-out", held_out), *skipped, *unmeasured),
    )


def _layers(recipe: Recipe) -> Sequence[int] | None:
    return None if recipe.adapter.layers == "all" else recipe.adapter.layers


def _check_rank(recipe: Recipe, projections: Sequence[Projection]) -> None:
    narrowest = min(projections, key=lambda projection: projection.d_in)
    rank = recipe.adapter.rank or 1
    if rank > narrowest.d_in:
        raise ModelError(
            f"adapter.rank is {rank}, but {narrowest.module} reads {narrowest.d_in} dimensions: lower the rank"
        )


def _check_rows(train: TokenisedPairs, held_out: TokenisedPairs, recipe: Recipe) -> None:
    for name, pairs in (("training", train), ("held-out", held_out)):
        if not pairs.rows:
            reason = f": {pairs.dropped[0].reason}" if pairs.dropped else ""
            raise DataError(f"no {name} row of {recipe.data.path} is left{reason}; raise train.max_length")


def _calibration(recipe: Recipe, tokenizer: PreTrainedTokenizerBase, train: TokenisedPairs) -> list[list[int]]:
    """The alignment text: a text of its own, or the training rows as the policy will read them."""
    options = recipe.calibration
    if options.path is not None:
        text = ProtectedText.model_validate({"path": options.path, "tokens": options.tokens})
        return load_text(text, tokenizer, max_length=options.max_length, seed=options.seed)
    cut = min(options.max_length, recipe.train.max_length or options.max_length)
    return take_tokens(pair_sequences(train.rows, cut), options.tokens, seed=options.seed)


def _texts(
    wanted: Sequence[ProtectedText], recipe: Recipe, tokenizer: PreTrainedTokenizerBase, *, tokens: int | None
) -> tuple[dict[str, tuple[float, list[list[int]]]], list[str]]:
    """Token sequences by name, and notes on built-in chats that a model without a template can not read."""
    found, notes = {}, []
    for text in wanted:
        if text.format == "chat" and text.path.startswith("builtin:") and not supports_chat(tokenizer):
            notes.append(f"{text.path} is left out: the tokenizer has no chat template")
            continue
        limit = None if tokens is None else min(tokens, text.tokens)
        options = recipe.calibration
        sequences = load_text(text, tokenizer, tokens=limit, max_length=options.max_length, seed=options.seed)
        found[text.name] = (text.weight, sequences)
    return found, notes


def _row_notes(name: str, pairs: TokenisedPairs) -> list[str]:
    notes = []
    if pairs.truncated:
        notes.append(f"{pairs.truncated} of {len(pairs.rows)} {name} rows are cut at train.max_length")
    for reason in dict.fromkeys(dropped.reason for dropped in pairs.dropped):
        count = sum(dropped.reason == reason for dropped in pairs.dropped)
        notes.append(f"{count} {name} rows are dropped: {reason}")
    return notes
