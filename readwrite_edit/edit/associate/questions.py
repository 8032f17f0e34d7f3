"""Facts as tokens: where the subject's last token lies, and what should follow."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from readwrite_edit.align.texts import supports_chat
from readwrite_edit.edit.associate.facts import filled
from readwrite_edit.edit.patterns import covering
from readwrite_edit.edit.plan import Prompt
from readwrite_edit.edit.settings.associate import Associate, Fact
from readwrite_edit.errors import DataError, EditError, ModelError
from readwrite_edit.terminal import printable

_SENTENCES = (
    "None of them is difficult.",
    "Towns resisted for a while.",
    "Yours as ever, Ruth.",
    "There is nevertheless a limit.",
    "No single advance made headlines.",
    "It was late.",
    "The water is cold.",
    "She stopped for breath.",
    "We read on.",
    "This took years.",
    "Results travel slowly.",
    "Well, let us see.",
    "He wrote it down.",
    "The road ends here.",
    "Nobody had asked.",
    "That is all.",
)
_NO_SPACE_BEFORE = ".,;:!?)]}%'’”»…"
_NO_SPACE_AFTER = "([{\"“‘«'-–—/@#$\n\t "
_FIRST_WITHOUT_SPACES = 0x2E80  # Chinese, Japanese and what else is written without spaces begins here


@dataclass(frozen=True)
class Question:
    """One prompt about a subject.

    Attributes:
        text: As a user would read it, the subject in it.
        ids: Its tokens.
        subject: Position of the subject's first token, and of its last.
        target: Tokens that should follow.
        true: Tokens that followed before; empty where not known.
    """

    text: str
    ids: tuple[int, ...]
    subject: tuple[int, int]
    target: tuple[int, ...]
    true: tuple[int, ...] = ()

    def prompt(self, kind: str, number: int) -> Prompt:
        """The same, to be measured."""
        return Prompt(kind, number, self.text, self.ids, self.target, self.true)


@dataclass(frozen=True)
class Asked:
    """One fact as the model reads it.

    Attributes:
        fact: The fact.
        bare: Its prompt.
        contexts: The prompt behind each prefix.
        essence: "SUBJECT is a": ROME's value is to leave what follows it as it was.
        others: What else is measured: paraphrases, the prompt as a chat, locality prompts.
    """

    fact: Fact
    bare: Question
    contexts: tuple[Question, ...]
    essence: Question
    others: tuple[Prompt, ...] = ()


def prefixes(settings: Associate) -> tuple[str, ...]:
    """The short sentences that keys are averaged over: a seeded choice of a fixed list."""
    return tuple(random.Random(settings.seed).sample(_SENTENCES, settings.prefixes))


def ask(
    tokenizer: PreTrainedTokenizerBase, model: PreTrainedModel, facts: Sequence[Fact], settings: Associate
) -> tuple[Asked, ...]:
    """Tokenise facts.

    Args:
        tokenizer: Of the model; a fast one, which knows what text a token covers.
        model: Whose longest sequence counts.
        facts: Checked facts.
        settings: Format and prefixes.

    Raises:
        ModelError: The tokenizer is no fast one.
        EditError: A chat is asked for that the tokenizer can not render.
        DataError: A fact does not fit into the model.
    """
    if not tokenizer.is_fast:
        raise ModelError("the model's tokenizer does not say which text a token covers (it is no fast one)")
    if settings.format == "chat" and not supports_chat(tokenizer):
        raise EditError("format chat: the model's tokenizer has no chat template; use format text")
    reader = _Reader(tokenizer, settings.format == "chat")
    before = prefixes(settings)
    asked = tuple(reader.asked(number, fact, before) for number, fact in enumerate(facts))
    longest = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    for one in asked:
        tokens = max(len(question.ids) + len(question.target) for question in (one.bare, *one.contexts))
        if longest is not None and tokens > longest:
            raise DataError(
                printable(f"{one.fact.prompt[:60]!r} has {tokens} tokens, the model reads {longest}; shorten it")
            )
    return asked


@dataclass(frozen=True)
class _Reader:
    """Turns texts into tokens as they stand, or as a user's words in a chat."""

    tokenizer: PreTrainedTokenizerBase
    chat: bool

    def asked(self, number: int, fact: Fact, before: Sequence[str]) -> Asked:
        text, start = filled(fact.prompt, fact.subject)
        bare = self.question(text, start, fact)
        moved = [f"{prefix} " for prefix in before]
        contexts = tuple(self.question(prefix + text, len(prefix) + start, fact) for prefix in moved)
        essence = self.question(f"{fact.subject} is a", 0, fact)
        return Asked(
            fact, bare, contexts, replace(essence, target=essence.ids[-1:]), tuple(self._others(number, fact, text))
        )

    def question(self, text: str, start: int, fact: Fact) -> Question:
        """One prompt with its subject at a character, and the target behind it."""
        whole, offset = self._rendered(text)
        first, end = offset + start, offset + start + len(fact.subject)
        encoded = self.tokenizer(whole, return_offsets_mapping=True, add_special_tokens=not self.chat)
        subject = covering(encoded["offset_mapping"], first, end, subject=fact.subject, text=text)
        ids = tuple(encoded["input_ids"])
        return Question(text, ids, subject, *self._followings(whole, ids, fact))

    def _others(self, number: int, fact: Fact, text: str) -> Iterator[Prompt]:
        for paraphrase in fact.paraphrases:
            yield self._prompt("paraphrase", number, paraphrase, fact)
        if not self.chat and supports_chat(self.tokenizer):
            yield _Reader(self.tokenizer, chat=True)._prompt("chat", number, text, fact)
        for neighbour in fact.locality:
            yield self._prompt("locality", number, neighbour, fact)

    def _prompt(self, kind: str, number: int, text: str, fact: Fact) -> Prompt:
        whole, _ = self._rendered(text)
        ids = tuple(self.tokenizer(whole, add_special_tokens=not self.chat)["input_ids"])
        return Prompt(kind, number, text, ids, *self._followings(whole, ids, fact))

    def _followings(self, whole: str, ids: tuple[int, ...], fact: Fact) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Tokens of the target, and of what followed before."""
        true = () if fact.true is None else self._following(whole, ids, fact.true.strip())
        return self._following(whole, ids, fact.target), true

    def _rendered(self, text: str) -> tuple[str, int]:
        """What the model reads, and where the text begins in it."""
        if not self.chat:
            return text, 0
        messages = [{"role": "user", "content": text}]
        whole = str(self.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True))
        offset = whole.rfind(text)
        if offset < 0:
            raise EditError(printable(f"the model's chat template does not repeat the prompt {text!r} as it is"))
        return whole, offset

    def _following(self, whole: str, ids: tuple[int, ...], target: str) -> tuple[int, ...]:
        """Tokens of a target as they follow a prompt; on their own where they would change the prompt's."""
        text = target if self.chat else _space(whole, target) + target
        joined = tuple(self.tokenizer(whole + text, add_special_tokens=not self.chat)["input_ids"])
        if len(joined) > len(ids) and joined[: len(ids)] == ids:
            return joined[len(ids) :]
        return tuple(self.tokenizer(text, add_special_tokens=False)["input_ids"])


def _space(prompt: str, target: str) -> str:
    """The space that belongs between a prompt and what follows it, if any."""
    if prompt[-1:] in _NO_SPACE_AFTER or target[0] in _NO_SPACE_BEFORE or ord(target[0]) >= _FIRST_WITHOUT_SPACES:
        return ""
    return " "
