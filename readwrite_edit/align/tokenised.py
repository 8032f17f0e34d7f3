"""Preference rows as token ids: exactly TRL's, with every dropped row accounted for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, Literal

from jinja2 import TemplateError
from transformers import PreTrainedTokenizerBase
from transformers.utils import logging

from readwrite_edit.align.messages import short
from readwrite_edit.align.preference_rows import is_chat
from readwrite_edit.align.records import first_line
from readwrite_edit.align.trl_names import DPOTrainer
from readwrite_edit.errors import DataError
from readwrite_edit.terminal import printable

TruncationMode = Literal["keep_start", "keep_end"]
_IDS = ("prompt_ids", "chosen_ids", "rejected_ids")
_MARKS = "⟦{}⟧"
_BETWEEN = "│"


@dataclass(frozen=True)
class Dropped:
    """A row that can not be trained on.

    Attributes:
        row: Its index in the rows that were given, from 0.
        reason: In words.
    """

    row: int
    reason: str


@dataclass(frozen=True)
class TokenisedPairs:
    """Tokenised preference rows, not truncated: the collator truncates.

    Attributes:
        rows: Dictionaries of prompt_ids, chosen_ids and rejected_ids.
        dropped: The rows that are not among them.
        truncated: How many of ``rows`` the collator will cut.
    """

    rows: list[dict[str, list[int]]]
    dropped: tuple[Dropped, ...]
    truncated: int


def tokenise_pairs(
    rows: Sequence[dict[str, Any]],
    tokenizer: PreTrainedTokenizerBase,
    *,
    max_length: int | None,
    truncation_mode: TruncationMode = "keep_start",
) -> TokenisedPairs:
    """Tokenise rows by TRL's own code.

    Args:
        rows: Rows with prompt, chosen and rejected.
        tokenizer: Of the model.
        max_length: Longest sequence in tokens, or None.
        truncation_mode: Which end of a sequence stays.

    Raises:
        DataError: Chats without a chat template, a template that refuses a row, or no row is left.
    """
    _check_tokenizer(rows, tokenizer)
    tokenised = _as_trl_does(rows, tokenizer)
    kept: list[dict[str, list[int]]] = []
    dropped: list[Dropped] = []
    for index, row in enumerate(tokenised):
        reason = _reason_to_drop(row, max_length, truncation_mode)
        if reason is None:
            kept.append(row)
        else:
            dropped.append(Dropped(index, reason))
    if rows and not kept:
        raise DataError(
            f"no row is left of {len(rows)}: the first one's {dropped[0].reason}; raise train.max_length or shorten it"
        )
    longer = sum(max_length is not None and _length(row) > max_length for row in kept)
    return TokenisedPairs(kept, tuple(dropped), longer)


def pair_sequences(rows: Sequence[Mapping[str, list[int]]], max_length: int | None) -> list[list[int]]:
    """Both sequences of each tokenised row, prompt with chosen and prompt with rejected.

    Args:
        rows: Tokenised rows.
        max_length: Tokens kept of the start of each sequence; None keeps all.

    Returns:
        Twice as many sequences as rows.
    """
    return [(row["prompt_ids"] + row[side])[:max_length] for row in rows for side in ("chosen_ids", "rejected_ids")]


def row_length(row: Mapping[str, Any]) -> int:
    """Tokens of a tokenised row's longer sequence."""
    return len(row["prompt_ids"]) + max(len(row["chosen_ids"]), len(row["rejected_ids"]))


def render_sample(
    row: Mapping[str, list[int]],
    tokenizer: PreTrainedTokenizerBase,
    max_length: int | None,
    truncation_mode: TruncationMode = "keep_start",
) -> str:
    """A tokenised row for the eye: the tokens with a loss stand between ⟦ and ⟧, one by one.

    Args:
        row: Tokenised row.
        tokenizer: Of the model.
        max_length: Longest sequence in tokens; what the collator cuts is not shown.
        truncation_mode: Which end of a sequence stays.

    Returns:
        Two blocks of lines, chosen and rejected, safe to print.
    """
    return "\n".join(
        _rendered(side, row, tokenizer, max_length, truncation_mode == "keep_end") for side in ("chosen", "rejected")
    )


def _rendered(
    side: str, row: Mapping[str, list[int]], tokenizer: PreTrainedTokenizerBase, max_length: int | None, end: bool
) -> str:
    prompt, completion = row["prompt_ids"], row[f"{side}_ids"]
    length = len(prompt) + len(completion)
    excess = 0 if max_length is None else max(0, length - max_length)
    if end:
        shown = prompt[excess:], completion[max(0, excess - len(prompt)) :]
    else:
        shown = prompt[: length - excess], completion[: max(0, len(completion) - excess)]
    tokens = [printable(_decoded([token], tokenizer).replace("\n", "↵")) for token in shown[1]]
    counts = f"{side}: {len(shown[0])} prompt tokens, then {len(shown[1])} with a loss"
    cut = f" ({excess} of {length} cut off at the {'start' if end else 'end'})" if excess else ""
    context = printable(_decoded(shown[0], tokenizer), keep_newlines=True)
    return f"{counts}{cut}\n{context}{_MARKS.format(_BETWEEN.join(tokens))}"


def _decoded(ids: list[int], tokenizer: PreTrainedTokenizerBase) -> str:
    return str(tokenizer.decode(ids, clean_up_tokenization_spaces=False))


def _check_tokenizer(rows: Sequence[dict[str, Any]], tokenizer: PreTrainedTokenizerBase) -> None:
    if not rows:
        return
    if is_chat(rows[0]) and not tokenizer.chat_template:
        raise DataError(
            "the data holds messages, and the model's tokenizer has no chat template; use an instruction-tuned model, "
            "or data with plain texts as prompt, chosen and rejected"
        )
    if not is_chat(rows[0]) and tokenizer.eos_token is None:
        raise DataError("the model's tokenizer has no end-of-text token to close plain answers with; use another model")


class _TableOfRows:
    """As much of a data set as TRL's preparation uses, over plain rows.

    No Arrow table means no cache files, no progress bars, no fields filled up
    with nulls; and a row that fails is known.
    """

    def __init__(self, rows: Sequence[dict[str, Any]]):
        self.rows = rows

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return iter(self.rows)

    def map(self, change: Callable[..., dict[str, Any]], fn_kwargs: dict[str, Any]) -> _TableOfRows:
        """Each row with what ``change`` returns for it."""
        return _TableOfRows([row | self._changed(row, change, fn_kwargs) for row in self.rows])

    @staticmethod
    def _changed(
        row: dict[str, Any], change: Callable[..., dict[str, Any]], arguments: dict[str, Any]
    ) -> dict[str, Any]:
        try:
            return change(dict(row), **arguments)
        except (TemplateError, ValueError, TypeError, KeyError) as error:
            cause = "the chat template refuses it" if isinstance(error, TemplateError) else "it can not be tokenised"
            # Rows were split and drawn since they were read: the prompt finds the row, a number would not.
            prompt = short(row["prompt"][-1].get("content") if is_chat(row) else row["prompt"])
            raise DataError(printable(f"the row with the prompt {prompt}: {cause} ({first_line(error)})")) from error


def _as_trl_does(rows: Sequence[dict[str, Any]], tokenizer: PreTrainedTokenizerBase) -> list[dict[str, list[int]]]:
    if not rows:
        return []
    # TRL wants a trainer, a data set and a config here, and uses no more of them than this.
    trainer: Any = SimpleNamespace(_tokenizer=tokenizer)
    # Without a length TRL drops nothing, so that the rows stay in step with ours.
    arguments: Any = SimpleNamespace(dataset_num_proc=None, max_length=None, truncation_mode="keep_start")
    table: Any = _TableOfRows(rows)
    with _no_length_warning():
        table = DPOTrainer._prepare_dataset(trainer, table, tokenizer, arguments, "train")
    return [{key: list(row[key]) for key in _IDS} for row in table]


@contextmanager
def _no_length_warning() -> Iterator[None]:
    """Tokenizers warn of indexing errors in long sequences, which the collator cuts before they reach the model."""
    before = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(before)


def _reason_to_drop(row: Mapping[str, list[int]], max_length: int | None, mode: TruncationMode) -> str | None:
    prompt = len(row["prompt_ids"])
    if max_length is not None and mode == "keep_start" and prompt >= max_length:
        return f"prompt fills max_length ({prompt} tokens, expected less than {max_length})"
    for side in ("chosen", "rejected"):
        if not row[f"{side}_ids"]:
            return f"{side} answer has no tokens"
    return None


def _length(row: Mapping[str, list[int]]) -> int:
    return len(row["prompt_ids"]) + max(len(row["chosen_ids"]), len(row["rejected_ids"]))
