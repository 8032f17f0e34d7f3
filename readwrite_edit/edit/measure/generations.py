"""What the model writes, before and after, side by side."""

from __future__ import annotations

from collections.abc import Sequence

from peft import PeftModel

from readwrite_edit.edit.context import Context
from readwrite_edit.edit.plan import Prompt
from readwrite_edit.evaluate.generations import answers, continuations, side_by_side

_SHOWN = 4
_KINDS = ("prompt", "chat", "paraphrase")


def generations_of(context: Context, prompts: Sequence[Prompt], model: PeftModel) -> list[dict[str, str]]:
    """Greedy texts of the edited and the base model.

    The recipe's own prompts where it names some: answered through the chat
    template where there is one and the edit's format is not ``text``, else
    continued. Without any the first of the edit's prompts, as they stand.

    Args:
        context: Of the edit.
        prompts: Of the plan.
        model: With the edit as its adapter.

    Returns:
        ``prompt``, ``before`` and ``after`` of each; none where ``measure.max_new_tokens`` is 0.
    """
    options, tokenizer = context.recipe.measure, context.tokenizer
    if not options.max_new_tokens:
        return []
    given, most = list(options.generations), options.max_new_tokens
    if given and _format(context) == "chat":
        return side_by_side(model, given, lambda: answers(model, tokenizer, given, max_new_tokens=most))
    shown = _shown(prompts)
    texts = given or [prompt.text for prompt in shown]
    ids = [tokenizer(text)["input_ids"] for text in given] or [prompt.ids for prompt in shown]
    return side_by_side(model, texts, lambda: continuations(model, tokenizer, ids, max_new_tokens=most))


def _format(context: Context) -> str:
    wanted = getattr(context.recipe.intervention, "format", "chat")
    return "chat" if wanted == "chat" and context.tokenizer.chat_template else "text"


def _shown(prompts: Sequence[Prompt]) -> list[Prompt]:
    """The first of each kind that the edit aims at: prompts before paraphrases."""
    return [prompt for kind in _KINDS for prompt in prompts if prompt.kind == kind][:_SHOWN]
