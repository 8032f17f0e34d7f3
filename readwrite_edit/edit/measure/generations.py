"""What the model writes, before and after, side by side."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from peft import PeftModel
from transformers import GenerationConfig, PreTrainedTokenizerBase

from readwrite_edit.align.evaluation import answers
from readwrite_edit.edit.context import Context
from readwrite_edit.edit.plan import Prompt
from readwrite_edit.models.pathways import unwrap

_SHOWN = 4
_KINDS = ("prompt", "chat", "paraphrase")


def generations_of(context: Context, prompts: Sequence[Prompt], model: PeftModel) -> list[dict[str, Any]]:
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
    given = list(options.generations)
    if given and _format(context) == "chat":
        after = answers(model, tokenizer, given, max_new_tokens=options.max_new_tokens)
        with model.disable_adapter():
            before = answers(model, tokenizer, given, max_new_tokens=options.max_new_tokens)
        return _side_by_side(given, before, after)
    ids = [list(tokenizer(text)["input_ids"]) for text in given] if given else None
    shown = _shown(prompts)
    texts = given or [prompt.text for prompt in shown]
    ids = ids or [list(prompt.ids) for prompt in shown]
    after = continuations(model, tokenizer, ids, max_new_tokens=options.max_new_tokens)
    with model.disable_adapter():
        before = continuations(model, tokenizer, ids, max_new_tokens=options.max_new_tokens)
    return _side_by_side(texts, before, after)


def continuations(
    model: PeftModel, tokenizer: PreTrainedTokenizerBase, prompts: Sequence[Sequence[int]], *, max_new_tokens: int
) -> list[str]:
    """Greedy continuations of token sequences, as text without special tokens.

    Args:
        model: Wrapped model; switch its adapter off around the call for the base's.
        tokenizer: Of the model.
        prompts: Token ids.
        max_new_tokens: Longest continuation.
    """
    bare: Any = unwrap(model)  # generate() is mixed in where no type checker sees it
    settings = GenerationConfig(
        max_new_tokens=max_new_tokens,
        do_sample=False,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=bare.generation_config.eos_token_id or tokenizer.eos_token_id,
    )
    texts = []
    with torch.no_grad():
        for prompt in prompts:
            ids = torch.tensor([list(prompt)], device=model.device)
            output = bare.generate(input_ids=ids, attention_mask=torch.ones_like(ids), generation_config=settings)
            texts.append(str(tokenizer.decode(output[0, ids.shape[1] :], skip_special_tokens=True)))
    return texts


def _format(context: Context) -> str:
    wanted = getattr(context.recipe.intervention, "format", "chat")
    return "chat" if wanted == "chat" and context.tokenizer.chat_template else "text"


def _shown(prompts: Sequence[Prompt]) -> list[Prompt]:
    """The first of each kind that the edit aims at: prompts before paraphrases."""
    return [prompt for kind in _KINDS for prompt in prompts if prompt.kind == kind][:_SHOWN]


def _side_by_side(prompts: Sequence[str], before: Sequence[str], after: Sequence[str]) -> list[dict[str, Any]]:
    return [
        {"prompt": prompt, "before": first, "after": second}
        for prompt, first, second in zip(prompts, before, after, strict=True)
    ]
