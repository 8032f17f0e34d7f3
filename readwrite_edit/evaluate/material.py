"""Everything that an evaluation needs and that can be checked without loading the weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from transformers import PreTrainedTokenizerBase

from readwrite_edit.align.beginning import check_rows
from readwrite_edit.align.preferences import data_hash, load_preferences, load_rows
from readwrite_edit.align.prepare import Preparation, prepare, shared_with_training
from readwrite_edit.align.tokenised import TokenisedPairs, pair_sequences, tokenise_pairs
from readwrite_edit.edit.settings.recipe import EditRecipe
from readwrite_edit.errors import DataError, ModelError
from readwrite_edit.evaluate.energy import Matrix
from readwrite_edit.evaluate.measured_texts import (
    TOKENS,
    MeasuredText,
    Reading,
    cut_to,
    given_texts,
    read_texts,
    with_both_formats,
)
from readwrite_edit.evaluate.overlap import MOST_SHARED
from readwrite_edit.evaluate.request import Request, read_prompts
from readwrite_edit.evaluate.subject import Subject, find_subject
from readwrite_edit.evaluate.updates import adapter_updates
from readwrite_edit.models.loading import check_device, load_config, load_tokenizer
from readwrite_edit.recipe import Recipe
from readwrite_edit.recipe.sections import PROMPTS

MAX_LENGTH = 512
BETA = 0.1
MAX_NEW_TOKENS = 48


@dataclass(frozen=True, kw_only=True)
class Rows:
    """Preference rows to score.

    Attributes:
        path: Where they are from.
        pairs: Tokenised.
        max_length: Tokens kept of each; None keeps all.
        beta: β of the margins.
        sha256: Of the rows as they were read.
    """

    path: str
    pairs: TokenisedPairs
    max_length: int | None
    beta: float
    sha256: str


@dataclass(frozen=True, kw_only=True)
class Material:
    """What is evaluated, and on what.

    Attributes:
        subject: Model or adapter, and its base.
        tokenizer: Of the model.
        rows: Preference rows; None where there are none.
        texts: At least one in prose, and one in the chat format where the tokenizer has it.
        prompts: To be answered.
        max_new_tokens: Longest answer.
        matrices: The updates of an adapter, for its price.
        first_position: Whether first positions count in the price.
        shared: Of ``rows`` and of each text by its name: the share of its tokens that the run was trained on or chose
            its basis by; empty where that is not known.
        notes: Sentences for the user.
    """

    subject: Subject
    tokenizer: PreTrainedTokenizerBase
    rows: Rows | None
    texts: tuple[MeasuredText, ...]
    prompts: tuple[str, ...]
    max_new_tokens: int
    matrices: tuple[Matrix, ...]
    first_position: bool = True
    shared: Mapping[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def gather(request: Request) -> Material:
    """Check and tokenise everything that a request names.

    Raises:
        ReadWriteEditError: Something is wrong, missing or malformed.
    """
    request.check()
    subject = find_subject(request.subject, root=request.root, base=request.base)
    check_device(request.device or subject.device)
    tokenizer = load_tokenizer(subject.model)
    _check_vocabulary(subject, tokenizer)
    matrices, notes = adapter_updates(subject)
    if not subject.compared:
        notes.append("no base was named (--base MODEL): nothing is compared, so there is no KL, margin or DPO loss")
    prepared, unread = _prepared(subject, request)
    rows, row_notes = _rows(request, subject, tokenizer, prepared)
    texts, text_notes = _texts(request, subject, tokenizer, prepared)
    shared = _shared(rows, texts, None if unread else prepared)
    prompts, most, prompt_notes = _prompts(request, subject)
    return Material(
        subject=subject,
        tokenizer=tokenizer,
        rows=rows,
        texts=tuple(texts),
        prompts=prompts,
        max_new_tokens=most,
        matrices=tuple(matrices),
        first_position=_first_position(subject),
        shared=shared,
        notes=(*notes, *unread, *row_notes, *text_notes, *prompt_notes, *_leaks(shared)),
    )


def _check_vocabulary(subject: Subject, tokenizer: PreTrainedTokenizerBase) -> None:
    """A model and its base must mean the same by a token."""
    if subject.base is None:
        return
    ours, theirs = (load_config(one).get_text_config().vocab_size for one in (subject.model, subject.base))
    if ours != theirs:
        raise ModelError(f"{subject.name} has {ours} tokens and {subject.base} has {theirs}: KL needs one vocabulary")
    if tokenizer.get_vocab() != load_tokenizer(subject.base).get_vocab():
        raise ModelError(f"{subject.name} and {subject.base} number their tokens differently: KL needs one vocabulary")


def _prepared(subject: Subject, request: Request) -> tuple[Preparation | None, list[str]]:
    """What the run of an alignment was prepared with, None for anything else; and why that is no longer at hand.

    Only ``--data`` goes without the run's own rows: its held-out rows are known by the split of all of them.
    """
    recipe = subject.recipe
    if not isinstance(recipe, Recipe):
        return None, []
    # nothing is trained here: loggers and optimisers of the machine that trained need not be installed
    quiet = {"report_to": ("none",), "optim": "adamw_torch", "activation_offloading": False}
    model = recipe.model.model_copy(update={"path": _path_of(subject), "revision": subject.model.revision})
    bare = recipe.model_copy(update={"model": model, "train": recipe.train.model_copy(update=quiet)})
    prepared = None
    try:
        prepared = prepare(bare)
        check_rows(recipe, prepared.data_hash)
    except DataError as error:
        if request.data is None and prepared is not None:
            raise DataError(f"{error}: put them back, or name rows with --data FILE") from error
        if request.data is None or (prepared is None and not request.protect):
            raise
        return prepared, [f"whether the run was trained on any of this is not known: {error}"]
    return prepared, []


def _path_of(subject: Subject) -> str:
    prefix = "bundled:" if subject.model.kind == "bundled" else ""
    return prefix + subject.model.location


def _rows(
    request: Request, subject: Subject, tokenizer: PreTrainedTokenizerBase, prepared: Preparation | None
) -> tuple[Rows | None, list[str]]:
    recipe = subject.recipe if isinstance(subject.recipe, Recipe) else None
    max_length = request.max_length or (recipe.train.max_length if recipe else MAX_LENGTH)
    beta = request.beta or (recipe.objective.beta if recipe else BETA)
    if request.data is not None:
        path, read = request.data, load_rows(request.data)
    elif recipe is not None and prepared is not None:
        path, read = recipe.data.eval_path or recipe.data.path, load_preferences(recipe.data).held_out
    else:
        return None, ["no preference rows: there is no loss, accuracy or margin; name rows with --data FILE"]
    pairs = tokenise_pairs(read, tokenizer, max_length=max_length)
    rows = Rows(path=path, pairs=pairs, max_length=max_length, beta=beta, sha256=data_hash(read))
    return rows, _row_notes(rows, recipe)


def _row_notes(rows: Rows, recipe: Recipe | None) -> list[str]:
    notes = []
    if rows.pairs.truncated:
        notes.append(f"{rows.pairs.truncated} of {len(rows.pairs.rows)} rows are cut at {rows.max_length} tokens")
    if rows.pairs.dropped:
        notes.append(f"{len(rows.pairs.dropped)} rows are dropped; the first: {rows.pairs.dropped[0].reason}")
    if recipe is not None:
        objective = recipe.objective
        plain = objective.loss_type == ("sigmoid",) and objective.ld_alpha is None and not objective.use_weighting
        if not plain or objective.f_divergence_type != "reverse_kl":
            notes.append("the run had another objective: loss and margin here are those of sigmoid DPO all the same")
    return notes


def _texts(
    request: Request, subject: Subject, tokenizer: PreTrainedTokenizerBase, prepared: Preparation | None
) -> tuple[list[MeasuredText], list[str]]:
    recipe = subject.recipe
    reading = _reading(request, recipe, tokenizer)
    notes: list[str] = []
    if request.protect:
        texts, notes = read_texts(given_texts(request.protect, reading.tokens), reading)
    elif prepared is not None:
        texts = _texts_of_run(prepared)
    elif isinstance(recipe, EditRecipe):
        texts, notes = read_texts(recipe.measure.texts, reading)
    else:
        texts = []
    texts, added = with_both_formats(texts, reading)
    return cut_to(texts, request.tokens), [*notes, *added]


def _reading(request: Request, recipe: Recipe | EditRecipe | None, tokenizer: PreTrainedTokenizerBase) -> Reading:
    """How new texts are read: as the run read its own, where there is one."""
    if isinstance(recipe, Recipe):
        options = recipe.evaluation
        return Reading(tokenizer, request.tokens or options.tokens, options.max_length, recipe.calibration.seed)
    tokens = recipe.measure.tokens if recipe is not None else 0
    return Reading(tokenizer, request.tokens or tokens or TOKENS)


def _texts_of_run(prepared: Preparation) -> list[MeasuredText]:
    """The texts that an alignment was measured on, those among them that it kept back of its protected texts."""
    recipe = prepared.recipe
    named = {text.name: text for text in recipe.evaluation.texts}
    kept = {f"{text.name}_protected" if text.name in named else text.name: text for text in recipe.calibration.protect}
    known = kept | named
    return [
        MeasuredText(name, known[name].path, known[name].format, sequences)
        for name, sequences in prepared.texts.items()
    ]


def _shared(rows: Rows | None, texts: Sequence[MeasuredText], prepared: Preparation | None) -> dict[str, float]:
    if prepared is None:
        return {}
    evaluated = {} if rows is None else {"rows": pair_sequences(rows.pairs.rows, None)}
    return shared_with_training(prepared, evaluated | {text.name: text.sequences for text in texts})


def _leaks(shared: Mapping[str, float]) -> list[str]:
    return [
        f"{share:.0%} of the tokens of '{name}' are in what the run was trained on or chose its basis by"
        for name, share in shared.items()
        if share >= MOST_SHARED
    ]


def _prompts(request: Request, subject: Subject) -> tuple[tuple[str, ...], int, list[str]]:
    recipe, notes = subject.recipe, []
    own: tuple[str, ...] = ()
    most = MAX_NEW_TOKENS
    if isinstance(recipe, Recipe):
        own, most = recipe.evaluation.generations, recipe.evaluation.max_new_tokens
    elif isinstance(recipe, EditRecipe):
        own, most = recipe.measure.generations, recipe.measure.max_new_tokens
    if request.max_new_tokens is not None:
        most = request.max_new_tokens
    prompts = read_prompts(request.prompts) if request.prompts is not None else own or PROMPTS
    if most and request.prompts is None and not own:
        notes.append(f"no prompts were named (--prompts FILE): the {len(PROMPTS)} built-in ones are answered")
    return tuple(prompts) if most else (), most, notes


def _first_position(subject: Subject) -> bool:
    recipe = subject.recipe
    if isinstance(recipe, EditRecipe):
        return recipe.statistics.first_position
    return recipe is None or recipe.calibration.first_position
