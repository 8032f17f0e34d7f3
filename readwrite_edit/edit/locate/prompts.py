"""Prompts to trace: where the subject's tokens lie, and which tokens should follow."""

from __future__ import annotations

from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase

from readwrite_edit.edit.patterns import covering
from readwrite_edit.errors import DataError
from readwrite_edit.terminal import printable

SLOT = "{}"


@dataclass(frozen=True)
class TracePrompt:
    """One prompt to trace.

    Attributes:
        ids: Its tokens.
        subject_positions: First position of the subject's tokens, and the position after its last.
        target: Tokens whose probability is followed; empty for the one that the model itself finds likeliest.
        text: As a user would read it.
    """

    ids: tuple[int, ...]
    subject_positions: tuple[int, int]
    target: tuple[int, ...] = ()
    text: str = ""

    def __post_init__(self) -> None:
        start, stop = self.subject_positions
        if not 0 <= start < stop <= len(self.ids):
            raise DataError(
                f"subject at positions {start} to {stop - 1} of {len(self.ids)} tokens: expected at least one of them"
            )


def trace_prompt(
    tokenizer: PreTrainedTokenizerBase, prompt: str, subject: str, target: str | None = None
) -> TracePrompt:
    """Tokenise a prompt and find its subject.

    Args:
        tokenizer: Of the model; a fast one, which knows what text a token covers.
        prompt: Text that holds the subject once, or ``{}`` where it goes.
        subject: The subject.
        target: What should follow; a space is put before it where the prompt does not end with one.

    Raises:
        DataError: The subject is not in the prompt or several times, or the target changes the prompt's tokens.
    """
    text, start = _with_subject(prompt, subject)
    if not tokenizer.is_fast:
        raise DataError("the model's tokenizer does not say which text a token covers (it is no fast one)")
    encoded = tokenizer(text, return_offsets_mapping=True)
    ids, stop = tuple(encoded["input_ids"]), start + len(subject)
    first, last = covering(encoded["offset_mapping"], start, stop, subject=subject, text=text)
    following = () if target is None else _following(tokenizer, text, ids, target)
    return TracePrompt(ids, (first, last + 1), following, text)


def _with_subject(prompt: str, subject: str) -> tuple[str, int]:
    """The prompt as the model reads it, and the character at which the subject begins."""
    if SLOT in prompt:
        return prompt.replace(SLOT, subject, 1), prompt.index(SLOT)
    found = prompt.count(subject)
    if found != 1:
        times = "not" if not found else f"{found} times"
        raise DataError(
            printable(
                f"subject {subject!r} is {times} in the prompt {prompt!r}: expected it once; "
                f"write {SLOT} where the one that is meant goes"
            )
        )
    return prompt, prompt.index(subject)


def _following(tokenizer: PreTrainedTokenizerBase, text: str, ids: tuple[int, ...], target: str) -> tuple[int, ...]:
    """Tokens of the target as they follow the prompt."""
    space = "" if text[-1:].isspace() or target[:1].isspace() else " "
    whole = tuple(tokenizer(text + space + target)["input_ids"])
    if whole[: len(ids)] != ids or len(whole) == len(ids):
        raise DataError(
            printable(
                f"target {target!r} merges with the last token of {text!r}: end the prompt with a whole word, "
                "without a space after it"
            )
        )
    return whole[len(ids) :]
