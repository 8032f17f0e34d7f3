"""The prompts that effects are measured on: none of them may have chosen a basis."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from transformers import PreTrainedTokenizerBase

from readwrite_edit.align.texts import load_text
from readwrite_edit.errors import DataError
from readwrite_edit.probe.settings.causal import CausalSettings
from readwrite_edit.recipe.sections import ProtectedText
from readwrite_edit.terminal import printable

_RUN = 8
_SPARE = 4


def evaluation_sequences(settings: CausalSettings, tokenizer: PreTrainedTokenizerBase) -> list[list[int]]:
    """Sequences of one length: of plain text its pieces, of a chat its last tokens (its first are the template's).

    Raises:
        DataError: The text is the calibration text, or holds fewer than two sequences of the length.
    """
    _refuse_same_path(settings)
    text = ProtectedText.model_validate(settings.evaluation())
    chat = text.format == "chat"
    found = load_text(
        text,
        tokenizer,
        tokens=_SPARE * settings.sequences * (settings.max_length if chat else settings.length),
        max_length=max(settings.max_length, settings.length) if chat else settings.length,
        seed=settings.seed,
    )
    whole = [sequence[-settings.length :] for sequence in found if len(sequence) >= settings.length]
    if len(whole) < 2:
        raise DataError(
            printable(
                f"{text.path}: {len(whole)} sequences of {settings.length} tokens, expected at least 2; "
                "give a longer text or a smaller --length"
            )
        )
    return whole[: settings.sequences]


def refuse_seen_text(
    calibration: Sequence[Sequence[int]], evaluation: Sequence[Sequence[int]], settings: CausalSettings
) -> None:
    """Refuse evaluation sequences that the bases have seen.

    One counts as seen where more than half of its runs of 8 tokens occur in the
    calibration tokens: phrases may recur, sentences may not.

    Raises:
        DataError: Some were seen.
    """
    size = min(_RUN, settings.length)
    known = {run for sequence in calibration for run in _runs(sequence, size)}
    seen = sum(2 * sum(run in known for run in runs) > len(runs) for runs in (_runs(s, size) for s in evaluation))
    if seen:
        raise DataError(
            printable(
                f"{settings.measured_text}: {seen} of {len(evaluation)} evaluation sequences occur in the calibration "
                f"text {settings.text}; effects are measured on text that chose no direction: name another with "
                "--evaluation-text"
            )
        )


def target_token(target: str, tokenizer: PreTrainedTokenizerBase) -> int:
    """Id of a token from its text.

    Raises:
        DataError: The text is not exactly one token.
    """
    ids = tokenizer(target, add_special_tokens=False)["input_ids"]
    if len(ids) != 1:
        raise DataError(printable(f"target {target!r} is {len(ids)} tokens, expected one; mind a leading space"))
    return int(ids[0])


def _refuse_same_path(settings: CausalSettings) -> None:
    measured, read = settings.measured_text, settings.text
    if measured == read or (Path(measured).is_file() and Path(measured).resolve() == Path(read).resolve()):
        raise DataError(
            printable(
                f"evaluation_text {measured} is the calibration text: effects are measured on text that chose no "
                "direction; name another with --evaluation-text"
            )
        )


def _runs(sequence: Sequence[int], size: int) -> list[tuple[int, ...]]:
    return [tuple(sequence[start : start + size]) for start in range(len(sequence) - size + 1)]
