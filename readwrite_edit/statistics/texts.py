"""Texts as token sequences."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from transformers import PreTrainedTokenizerBase

from readwrite_edit.errors import DataError


def prose_sequences(texts: Iterable[str], tokenizer: PreTrainedTokenizerBase, *, max_length: int) -> list[list[int]]:
    """Cut plain texts into sequences of a fixed length.

    Each text is tokenised whole and cut every ``max_length`` tokens; a
    tokenizer that begins texts with a token of its own does so in each piece.

    Args:
        texts: Documents.
        tokenizer: Of the model.
        max_length: Tokens in a sequence, the tokenizer's own included.

    Returns:
        Token ids, none empty.

    Raises:
        DataError: No token of the text fits.
    """
    opening = _opening(tokenizer)
    room = max_length - len(opening)
    if room < 1:
        raise DataError(f"max_length {max_length} leaves no room beside the tokenizer's opening token; raise it")
    pieces = []
    for text in texts:
        ids = tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
        pieces += [opening + ids[start : start + room] for start in range(0, len(ids), room)]
    return pieces


def chat_sequences(
    chats: Iterable[Sequence[Mapping[str, Any]]], tokenizer: PreTrainedTokenizerBase, *, max_length: int
) -> list[list[int]]:
    """Render chats with the model's template and cut each at a length.

    Args:
        chats: Lists of messages with ``role`` and ``content``.
        tokenizer: Of the model, with a chat template.
        max_length: Tokens kept of each chat.

    Returns:
        Token ids, none empty.
    """
    rendered = (_rendered(chat, tokenizer) for chat in chats)
    return [ids[:max_length] for ids in rendered if ids]


def take_tokens(sequences: Sequence[list[int]], tokens: int, *, seed: int = 0) -> list[list[int]]:
    """A seeded sample of sequences that holds a number of tokens.

    Args:
        sequences: Token ids.
        tokens: How many to take; the last sequence is cut to fit.
        seed: Of the order.

    Returns:
        Sequences with ``tokens`` tokens in all, or everything there is.
    """
    order = random.Random(seed).sample(range(len(sequences)), len(sequences))
    taken: list[list[int]] = []
    for index in order:
        room = tokens - sum(map(len, taken))
        if room <= 0:
            break
        taken.append(sequences[index][:room])
    return [sequence for sequence in taken if sequence]


def _rendered(chat: Sequence[Mapping[str, Any]], tokenizer: PreTrainedTokenizerBase) -> list[int]:
    messages = [dict(message) for message in chat]
    # a chat is rendered whole and cut afterwards: that it is longer than the model reads is no news
    quiet = {"verbose": False}
    encoded: Any = tokenizer.apply_chat_template(messages, tokenize=True, return_dict=True, tokenizer_kwargs=quiet)
    return list(encoded["input_ids"])


def _opening(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """The tokens that this tokenizer puts before every text (often none, or one BOS)."""
    bos = tokenizer.bos_token_id
    return [bos] if bos is not None and tokenizer("a")["input_ids"][:1] == [bos] else []
