"""Where a text pattern stands in a prompt: the position of its last token, found by character offsets.

Tokens are never matched with a pattern's own tokens: the same word is cut
otherwise at another place of a sentence, with and without a space before it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from jinja2 import TemplateError
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from readwrite_edit.align.texts import supports_chat
from readwrite_edit.edit.plan import Prompt
from readwrite_edit.errors import DataError, EditError
from readwrite_edit.terminal import printable

Format = Literal["text", "chat"]
LAST = "last"


@dataclass(frozen=True)
class Tokens:
    """A prompt as the model reads it.

    Attributes:
        text: What was tokenised: the prompt, or the prompt in the model's chat template.
        ids: Its tokens, the tokenizer's own at the start included.
        spans: Half-open range of characters of ``text`` that each token covers; empty for the tokenizer's own tokens.
        words: Half-open range of characters in which patterns are looked for: the user's words, not the template's.
    """

    text: str
    ids: tuple[int, ...]
    spans: tuple[tuple[int, int], ...]
    words: tuple[int, int]

    @property
    def shown(self) -> str:
        """The prompt as a user gave it."""
        return self.text[slice(*self.words)]

    @property
    def last(self) -> int:
        """Position of the last token that covers text."""
        return max(position for position, (start, stop) in enumerate(self.spans) if stop > start)

    def at(self, character: int) -> int:
        """Position of the token that covers a character: the last, where a character takes several.

        A space that no token covers (some tokenizers drop it) counts to the token before it.
        """
        covering = [place for place, (start, stop) in enumerate(self.spans) if start <= character and stop > start]
        return covering[-1] if covering else next(place for place, (start, stop) in enumerate(self.spans) if stop)

    def last_token(self, pattern: str, *, before: int | None = None) -> int:
        """Position of the last token of a pattern's last occurrence.

        Args:
            pattern: Text as it stands in the prompt, matched letter by letter.
            before: Only occurrences whose last token comes before this position; None allows any.

        Raises:
            EditError: It does not stand there.
        """
        first, stop = self.words
        found = []
        while pattern and (start := self.text.rfind(pattern, first, stop)) >= 0:
            found.append(self.at(start + len(pattern) - 1))
            if before is None or found[-1] < before:
                return found[-1]
            stop = start + len(pattern) - 1
        where = f", only at token {found[0]}; expected before token {before}" if found else ""
        raise EditError(
            printable(
                f"pattern {pattern!r}: not in the prompt {self.shown!r}{where}; "
                "patterns are matched letter by letter, upper and lower case apart"
            )
        )


def covering(spans: Sequence[tuple[int, int]], start: int, stop: int, *, subject: str, text: str) -> tuple[int, int]:
    """Positions of the first and the last token that cover a subject's characters.

    Args:
        spans: Half-open range of characters that each token covers.
        start: First character of the subject.
        stop: Character after its last.
        subject: For the message.
        text: For the message.

    Raises:
        DataError: No token covers any of them.
    """
    covered = [place for place, (low, high) in enumerate(spans) if low < stop and high > start]
    if not covered:
        raise DataError(printable(f"subject {subject!r} has no token of its own in {text!r}"))
    return covered[0], covered[-1]


def tokenised(
    prompts: Sequence[str], tokenizer: PreTrainedTokenizerBase, *, format: Format = "text"
) -> tuple[Tokens, ...]:
    """Prompts as the model reads them, with the characters that each token covers.

    Args:
        prompts: Texts.
        tokenizer: Of the model; a fast one, since only those give characters.
        format: ``text``: continued as they are; ``chat``: a user's words in the chat template, up to the answer.

    Raises:
        DataError: The tokenizer has no chat template, or it refuses a prompt.
        EditError: A prompt gives no token, or the tokenizer can not say which characters a token covers.
    """
    if not tokenizer.is_fast:
        raise EditError(
            f"{type(tokenizer).__name__} can not say which characters a token covers, so no pattern can be found: "
            "use a model with a tokenizer.json"
        )
    return tuple(_tokens(prompt, tokenizer, format) for prompt in prompts)


def prompts_of(tokens: Sequence[Tokens], kind: str) -> tuple[Prompt, ...]:
    """Prompts to be measured on, numbered from 0.

    Args:
        tokens: As the model reads them.
        kind: As :class:`Prompt` has it.
    """
    return tuple(Prompt(kind, item, one.shown, one.ids) for item, one in enumerate(tokens))


def check_lengths(tokens: Sequence[Tokens], model: PreTrainedModel) -> None:
    """Refuse prompts beyond the positions that a model has.

    Raises:
        EditError: One is longer.
    """
    most = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    for one in tokens:
        if most is not None and len(one.ids) > most:
            raise EditError(
                printable(
                    f"prompt {one.shown[:60]!r}… has {len(one.ids)} tokens, the model {most} positions: shorten it"
                )
            )


def _tokens(prompt: str, tokenizer: PreTrainedTokenizerBase, format: Format) -> Tokens:
    text = _in_template(prompt, tokenizer) if format == "chat" else prompt
    encoded: Any = tokenizer(
        text, add_special_tokens=format == "text", return_offsets_mapping=True, verbose=False, truncation=False
    )
    spans = tuple((int(start), int(stop)) for start, stop in encoded["offset_mapping"])
    if not any(stop > start for start, stop in spans):
        raise EditError(printable(f"prompt {prompt!r}: no token; expected some text"))
    start = max(text.rfind(prompt), 0)  # a template may trim a prompt: then patterns are looked for everywhere
    words = (start, start + len(prompt)) if prompt in text else (0, len(text))
    return Tokens(text, tuple(encoded["input_ids"]), spans, words)


def _in_template(prompt: str, tokenizer: PreTrainedTokenizerBase) -> str:
    if not supports_chat(tokenizer):
        raise DataError(
            "format chat: the model's tokenizer has no chat template; use format text or an instruction-tuned model"
        )
    message = [{"role": "user", "content": prompt}]
    try:
        rendered: Any = tokenizer.apply_chat_template(message, tokenize=False, add_generation_prompt=True)
    except (TemplateError, ValueError) as error:
        raise DataError(printable(f"prompt {prompt!r}: the chat template refuses it ({error})")) from error
    return str(rendered)
