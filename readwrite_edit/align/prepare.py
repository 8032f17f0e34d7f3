"""Everything a run needs that can be checked without loading the weights.

A wrong recipe, model, data set or text is found here, before a run folder
exists. A dry run ends here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase

from readwrite_edit.align.optional import check_installed
from readwrite_edit.align.preferences import data_hash, load_preferences
from readwrite_edit.align.texts import load_text, supports_chat
from readwrite_edit.align.tokenised import TokenisedPairs, pair_sequences, tokenise_pairs
from readwrite_edit.errors import DataError, ModelError
from readwrite_edit.evaluate.overlap import shared_fraction
from readwrite_edit.models.loading import build_meta_model, load_tokenizer
from readwrite_edit.models.pathways import Pathways, Projection, find_pathways
from readwrite_edit.models.source import ModelSource, parse_source
from readwrite_edit.recipe import Recipe
from readwrite_edit.recipe.sections import ProtectedText
from readwrite_edit.statistics import chat_sequences, take_tokens

BUILTIN = "builtin:"
_LONGEST_TEMPLATE = 1024


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
        texts: Name to token sequences of each text to measure KL on: those of the
            recipe, and of each protected text a part that no basis is chosen by.
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
    check_installed(recipe)
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
    protect, kept_back, skipped = _protected_texts(recipe, tokenizer)
    texts, unmeasured = _measured_texts(recipe, tokenizer)
    texts |= {f"{name}_protected" if name in texts else name: sequences for name, sequences in kept_back.items()}
    _check_measurable(texts)
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
        texts=texts,
        data_hash=data_hash([*data.train, *data.held_out]),
        notes=(*_row_notes("training", train), *_row_notes("held-out", held_out), *skipped, *unmeasured),
    )


def shared_with_training(
    prepared: Preparation, evaluated: Mapping[str, Sequence[Sequence[int]]] | None = None
) -> dict[str, float]:
    """Of each evaluated text the share that is trained on or chooses the basis, see ``evaluate.overlap``.

    Args:
        prepared: Of the run.
        evaluated: Name to token sequences; by default the run's texts, and its held-out ``rows``.
    """
    if evaluated is None:
        evaluated = {"rows": pair_sequences(prepared.held_out.rows, None), **prepared.texts}
    protected = [one for _, text in prepared.protect.values() for one in text]
    seen = [*pair_sequences(prepared.train.rows, None), *prepared.calibration, *protected]
    special, template = frozenset(prepared.tokenizer.all_special_ids), _empty_chat(prepared.tokenizer)
    return {
        name: shared_fraction(sequences, seen, special=special, template=template)
        for name, sequences in evaluated.items()
    }


def _empty_chat(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """What a chat template adds of its own."""
    messages = [{"role": "user", "content": ""}, {"role": "assistant", "content": ""}]
    found = chat_sequences([messages], tokenizer, max_length=_LONGEST_TEMPLATE) if supports_chat(tokenizer) else []
    return found[0] if found else []


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


def _protected_texts(
    recipe: Recipe, tokenizer: PreTrainedTokenizerBase
) -> tuple[dict[str, tuple[float, list[list[int]]]], dict[str, list[list[int]]], list[str]]:
    """Protected texts with their weights, the parts of them kept back for measuring, and notes.

    A built-in text has a held-out twin of its own and is protected whole.
    """
    protect, kept_back, notes = {}, {}, []
    options = recipe.calibration
    for text in options.protect:
        if _unreadable(text, tokenizer):
            notes.append(f"{text.path} is left out: the tokenizer has no chat template")
            continue
        extra = 0 if text.path.startswith(BUILTIN) else min(recipe.evaluation.tokens, text.tokens // 2)
        sequences = load_text(
            text, tokenizer, tokens=text.tokens + extra, max_length=options.max_length, seed=options.seed
        )
        held, used = _kept_back(sequences, extra)
        protect[text.name] = (text.weight, used)
        if held:
            kept_back[text.name] = held
    return protect, kept_back, notes


def _kept_back(sequences: list[list[int]], tokens: int) -> tuple[list[list[int]], list[list[int]]]:
    """The first sequences with about so many tokens, at most a third of all, and the rest."""
    limit = min(tokens, sum(map(len, sequences)) // 3)
    count = held = 0
    while count < len(sequences) - 1 and held + len(sequences[count]) <= limit:
        held += len(sequences[count])
        count += 1
    return sequences[:count], sequences[count:]


def _measured_texts(recipe: Recipe, tokenizer: PreTrainedTokenizerBase) -> tuple[dict[str, list[list[int]]], list[str]]:
    """Token sequences of the texts that the recipe names for KL and perplexity, and notes."""
    texts, notes = {}, []
    options = recipe.evaluation
    for text in options.texts:
        if _unreadable(text, tokenizer):
            notes.append(f"{text.path} is left out: the tokenizer has no chat template")
            continue
        tokens = min(options.tokens, text.tokens)
        texts[text.name] = load_text(
            text, tokenizer, tokens=tokens, max_length=options.max_length, seed=recipe.calibration.seed
        )
    return texts, notes


def _check_measurable(texts: dict[str, list[list[int]]]) -> None:
    for name, sequences in texts.items():
        if max(map(len, sequences), default=0) < 2:
            raise DataError(f"the text '{name}' has no two tokens in a row to predict; raise evaluation.tokens")


def _unreadable(text: ProtectedText, tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether a built-in chat meets a model without a chat template; a text of the user's is an error there."""
    return text.format == "chat" and text.path.startswith(BUILTIN) and not supports_chat(tokenizer)


def _row_notes(name: str, pairs: TokenisedPairs) -> list[str]:
    notes = []
    if pairs.truncated:
        notes.append(f"{pairs.truncated} of {len(pairs.rows)} {name} rows are cut at train.max_length")
    by_kind: dict[str, list[str]] = {}
    for dropped in pairs.dropped:
        by_kind.setdefault(dropped.reason.partition(" (")[0], []).append(dropped.reason)
    notes += [f"{len(reasons)} {name} rows are dropped; the first: {reasons[0]}" for reasons in by_kind.values()]
    return notes
