"""Token sequences of the texts a recipe protects or measures on."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from jinja2 import TemplateError
from transformers import PreTrainedTokenizerBase

from readwrite_edit.align.data_source import DataSource, find_source
from readwrite_edit.align.messages import BadRowError, check_characters, checked_messages
from readwrite_edit.align.records import RECORD_SUFFIXES, BadRecords, Record, first_line, kind_of
from readwrite_edit.errors import DataError
from readwrite_edit.recipe.sections import ProtectedText
from readwrite_edit.statistics.texts import chat_sequences, prose_sequences, take_tokens
from readwrite_edit.terminal import printable

_BUILTIN_FILES = ("prose.txt", "prose_eval.txt", "chat.jsonl", "chat_eval.jsonl", "concise.jsonl")
_COLUMNS = ("text", "content", "messages", "prompt", "chosen")
# A long text file is cut into documents of about this many characters for each token of a sequence.
_CHARACTERS_PER_TOKEN = 16

Document = tuple[str, Any]  # place, and a text or messages


def supports_chat(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether a tokenizer can render chats."""
    return bool(tokenizer.chat_template)


def load_text(
    text: ProtectedText,
    tokenizer: PreTrainedTokenizerBase,
    *,
    tokens: int | None = None,
    max_length: int = 256,
    seed: int = 0,
) -> list[list[int]]:
    """Read a text of a recipe as token sequences.

    Documents are drawn in a seeded order, and only as many are tokenised as
    are needed.

    Args:
        text: Its path and format.
        tokenizer: Of the model.
        tokens: How many tokens to take, instead of the recipe's; less where there are less.
        max_length: Longest sequence in tokens.
        seed: Of the order.

    Raises:
        DataError: Missing, unreadable or empty; bad rows; or chats for a tokenizer without a chat template.
    """
    wanted = text.tokens if tokens is None else tokens
    if text.format == "chat":
        if not supports_chat(tokenizer):
            raise DataError(
                printable(
                    f"{text.path}: its format is chat, and the model's tokenizer has no chat template; use a plain "
                    "text (format: text) or an instruction-tuned model"
                )
            )
        sequences = _drawn(text, _chats(text), _chat_tokeniser(text, tokenizer, max_length), wanted, seed)
    else:
        documents = _plain_texts(text, _CHARACTERS_PER_TOKEN * max_length)
        sequences = _drawn(
            text, documents, lambda item: prose_sequences([item[1]], tokenizer, max_length=max_length), wanted, seed
        )
    return take_tokens(sequences, wanted, seed=seed)


def check_text(text: ProtectedText) -> None:
    """Read a text of a recipe without tokenising it.

    Raises:
        DataError: Missing, unreadable or empty; or bad rows.
    """
    if not (_chats(text) if text.format == "chat" else _plain_texts(text, _CHARACTERS_PER_TOKEN)):
        raise DataError(_empty(text))


def format_of(path: str) -> str:
    """``chat`` for a text whose first record holds messages, else ``text``.

    Raises:
        DataError: It is missing or unreadable.
    """
    source = _source(path)
    if _plain_file(source) is not None:
        return "text"
    first: Mapping[str, Any] = next((one.value for one in source.records(_COLUMNS) if not one.problem), {})
    chat = isinstance(first.get("messages"), list) or isinstance(first.get("chosen"), list)
    return "chat" if chat and not isinstance(first.get("text"), str) else "text"


def _source(path: str) -> DataSource:
    return find_source(path, builtin=_BUILTIN_FILES, suffixes=(".txt", *RECORD_SUFFIXES))


def _plain_file(source: DataSource) -> Path | None:
    """The file of a source that is plain text, and no records."""
    return source.file if source.file is not None and source.file.suffix.lower() == ".txt" else None


def _drawn(
    text: ProtectedText,
    documents: list[Document],
    tokenise: Callable[[Document], list[list[int]]],
    tokens: int,
    seed: int,
) -> list[list[int]]:
    sequences: list[list[int]] = []
    count = 0
    for index in random.Random(seed).sample(range(len(documents)), len(documents)):
        pieces = tokenise(documents[index])
        sequences += pieces
        count += sum(map(len, pieces))
        if count >= tokens:
            break
    if not sequences:
        raise DataError(_empty(text))
    return sequences


def _empty(text: ProtectedText) -> str:
    return printable(f"{text.path}: empty; expected some text")


def _chat_tokeniser(
    text: ProtectedText, tokenizer: PreTrainedTokenizerBase, max_length: int
) -> Callable[[Document], list[list[int]]]:
    def tokenise(document: Document) -> list[list[int]]:
        place, messages = document
        try:
            return chat_sequences([messages], tokenizer, max_length=max_length)
        except (TemplateError, ValueError) as error:
            raise DataError(
                printable(f"{text.path}: {place}: the chat template refuses it ({first_line(error)})")
            ) from error

    return tokenise


def _plain_texts(text: ProtectedText, size: int) -> list[Document]:
    source = _source(text.path)
    file = _plain_file(source)
    if file is not None:
        return [("", block) for block in _blocks(_read(file, text.path), size)]
    found = _checked(source.records(_COLUMNS), text.path, _plain_text)
    return [(place, item) for place, item in found if item.strip()]


def _chats(text: ProtectedText) -> list[Document]:
    source = _source(text.path)
    if _plain_file(source) is not None:
        raise DataError(printable(f"{text.path}: plain text, but its format is chat; set format: text"))
    return _checked(source.records(_COLUMNS), text.path, _chat)


def _checked(records: Iterable[Record], source: str, content: Callable[[Mapping[str, Any]], Any]) -> list[Document]:
    documents: list[Document] = []
    bad = BadRecords()
    for record in records:
        try:
            if record.problem:
                raise BadRowError(record.problem)
            documents.append((record.place, content(record.value)))
        except BadRowError as problem:
            bad.add(record.place, str(problem))
    bad.raise_if_any(source)
    return documents


def _plain_text(record: Mapping[str, Any]) -> str:
    for key in ("text", "content"):
        if key in record:
            if not isinstance(record[key], str):
                raise BadRowError(f"{key} is {kind_of(record[key])}; expected a text")
            check_characters(key, record[key])
            return str(record[key])
    prompt, chosen = record.get("prompt", ""), record.get("chosen")
    if isinstance(prompt, str) and isinstance(chosen, str):
        check_characters("prompt and chosen", [prompt, chosen])
        return prompt + chosen
    chat = isinstance(record.get("messages"), list) or isinstance(chosen, list)
    raise BadRowError(f"no text and no content{'; set format: chat to read its messages' if chat else _fields(record)}")


def _chat(record: Mapping[str, Any]) -> list[dict[str, Any]]:
    if isinstance(record.get("messages"), list):
        return checked_messages("messages", record["messages"])
    prompt, chosen = record.get("prompt", []), record.get("chosen")
    if isinstance(prompt, list) and isinstance(chosen, list):
        return checked_messages("prompt with chosen", [*prompt, *chosen])
    plain = any(isinstance(record.get(key), str) for key in ("text", "content", "chosen"))
    raise BadRowError(
        f"no list of messages{'; set format: text to read it as plain text' if plain else _fields(record)}"
    )


def _fields(record: Mapping[str, Any]) -> str:
    return f" (its fields: {', '.join(map(str, record)) or 'none'})"


def _read(file: Path, path: str) -> str:
    try:
        content = file.read_bytes()
    except OSError as error:
        raise DataError(printable(f"{path}: can not be read ({error.strerror or error})")) from error
    try:
        text = content.decode("utf-8-sig").replace("\r\n", "\n")
        check_characters("it", text)
        return text
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise DataError(printable(f"{path}: line {line}: not valid UTF-8; save it as UTF-8")) from error
    except BadRowError as problem:
        line = content[: content.find(b"\0")].count(b"\n") + 1
        raise DataError(printable(f"{path}: line {line}: {problem}; expected plain text")) from problem


def _blocks(text: str, size: int) -> Iterator[str]:
    """Whole paragraphs, put together up to a size in characters; a paragraph beyond it is cut."""
    block: list[str] = []
    length = 0
    for paragraph in text.split("\n\n"):
        for start in range(0, len(paragraph), size):
            piece = paragraph[start : start + size]
            if block and length + len(piece) > size:
                yield "\n\n".join(block)
                block, length = [], 0
            block.append(piece)
            length += len(piece)
    if block and any(piece.strip() for piece in block):
        yield "\n\n".join(block)
