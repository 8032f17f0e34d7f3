"""The texts of an evaluation as token sequences: always one in prose and one in the chat format."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from transformers import PreTrainedTokenizerBase

from readwrite_edit.align.data_source import BUILTIN
from readwrite_edit.align.texts import format_of, load_text, supports_chat
from readwrite_edit.errors import DataError, RecipeError
from readwrite_edit.evaluate.request import name_and_path
from readwrite_edit.recipe.sections import ProtectedText
from readwrite_edit.statistics import take_tokens
from readwrite_edit.terminal import printable

MAX_LENGTH = 256
TOKENS = 2048
_HELD_OUT = {"text": ("prose", "builtin:prose_eval"), "chat": ("chat", "builtin:chat_eval")}


@dataclass(frozen=True)
class MeasuredText:
    """A text to measure on.

    Attributes:
        name: In the figures.
        path: Where it is from.
        format: ``text`` or ``chat``.
        sequences: Token ids, each of at least two.
        added: Whether nobody named it: the built-in one, so that both formats are reported.
    """

    name: str
    path: str
    format: str
    sequences: list[list[int]]
    added: bool = False

    @property
    def tokens(self) -> int:
        """How many it holds."""
        return sum(map(len, self.sequences))

    def about(self) -> dict[str, Any]:
        """What a result file says of it."""
        shown = {"path": self.path, "format": self.format, "added": self.added}
        return {**shown, "sequences": len(self.sequences), "tokens": self.tokens}


@dataclass(frozen=True)
class Reading:
    """How texts are read.

    Attributes:
        tokenizer: Of the model.
        tokens: Most tokens of each.
        max_length: Longest sequence in tokens.
        seed: Of the order in which documents are drawn.
    """

    tokenizer: PreTrainedTokenizerBase
    tokens: int = TOKENS
    max_length: int = MAX_LENGTH
    seed: int = 0

    def read(self, text: ProtectedText, *, added: bool = False) -> MeasuredText:
        """One text as token sequences."""
        wanted = min(self.tokens, text.tokens)
        sequences = load_text(text, self.tokenizer, tokens=wanted, max_length=self.max_length, seed=self.seed)
        return MeasuredText(text.name, text.path, text.format, sequences, added)


def given_texts(given: Sequence[str], tokens: int) -> list[ProtectedText]:
    """The texts that a user names, each ``PATH`` or ``NAME=PATH``; chats are known by their first record.

    Raises:
        DataError: One is not there.
        RecipeError: Two have one name, or a name is none.
    """
    texts = []
    for item in given:
        name, path = name_and_path(item)
        options = {"path": path, "format": format_of(path), "tokens": tokens} | ({"name": name} if name else {})
        texts.append(ProtectedText.model_validate(options))
    names = [text.name for text in texts]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise RecipeError(f"--protect: two texts are named {twice[0]!r}; give one another name: NAME=PATH")
    return texts


def read_texts(texts: Iterable[ProtectedText], reading: Reading) -> tuple[list[MeasuredText], list[str]]:
    """Texts as token sequences, and notes about what was left out.

    Raises:
        DataError: One is missing, unreadable or empty, or holds chats that the tokenizer can not render.
    """
    read, notes = [], []
    for text in texts:
        if text.format == "chat" and text.path.startswith(BUILTIN) and not supports_chat(reading.tokenizer):
            notes.append(f"{text.path} is left out: the tokenizer has no chat template")
        else:
            read.append(reading.read(text))
    return read, notes


def with_both_formats(texts: Sequence[MeasuredText], reading: Reading) -> tuple[list[MeasuredText], list[str]]:
    """The texts, with the built-in one of a format that none of them has; and notes.

    A change that was chosen so as to spare prose can look free on prose alone.
    """
    found, notes = list(texts), []
    for form, (name, path) in _HELD_OUT.items():
        if any(text.format == form for text in texts):
            continue
        word = "prose" if form == "text" else "the chat format"
        if form == "chat" and not supports_chat(reading.tokenizer):
            notes.append("nothing is measured in the chat format: the tokenizer has no chat template")
            continue
        taken = {text.name for text in found}
        own = next(one for one in (name, f"{name}_eval", f"builtin_{name}") if one not in taken)
        text = ProtectedText.model_validate({"path": path, "name": own, "format": form, "tokens": reading.tokens})
        found.append(reading.read(text, added=True))
        if texts:
            notes.append(f"no text in {word} was named: {path} is added, so that both are reported")
    return found, notes


def cut_to(texts: Iterable[MeasuredText], tokens: int | None) -> list[MeasuredText]:
    """The texts with at most so many tokens each, single tokens left out.

    Raises:
        DataError: One has no two tokens in a row.
    """
    cut = []
    for text in texts:
        kept = text.sequences if tokens is None or text.tokens <= tokens else take_tokens(text.sequences, tokens)
        kept = [sequence for sequence in kept if len(sequence) > 1]
        if not kept:
            raise DataError(
                printable(
                    f"the text '{text.name}' has no two tokens in a row to predict; give a longer one, or more --tokens"
                )
            )
        cut.append(replace(text, sequences=kept))
    return cut
