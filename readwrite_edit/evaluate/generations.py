"""What an adapter makes the model say: answers and continuations, side by side with the base's."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from peft import PeftModel
from transformers import GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase

from readwrite_edit.evaluate.figures import Generated
from readwrite_edit.evaluate.texts import Progress, evaluating
from readwrite_edit.models.pathways import unwrap

Model = PreTrainedModel | PeftModel


def answers(
    model: Model, tokenizer: PreTrainedTokenizerBase, prompts: Sequence[str], *, max_new_tokens: int
) -> list[str]:
    """Greedy answers to prompts, through the chat template where there is one.

    Args:
        model: Switch an adapter off around the call for the base's answers.
        tokenizer: Of the model.
        prompts: What a user says.
        max_new_tokens: Longest answer.

    Returns:
        One text a prompt, without special tokens.
    """
    ids = prompt_ids(tokenizer, prompts)
    return [text.strip() for text in continuations(model, tokenizer, ids, max_new_tokens=max_new_tokens)]


def continuations(
    model: Model, tokenizer: PreTrainedTokenizerBase, prompts: Sequence[Sequence[int]], *, max_new_tokens: int
) -> list[str]:
    """Greedy continuations of token sequences, as text without special tokens.

    Args:
        model: Switch an adapter off around the call for the base's.
        tokenizer: Of the model.
        prompts: Token ids.
        max_new_tokens: Longest continuation.
    """
    written = generate(model, tokenizer, prompts, max_new_tokens=max_new_tokens)
    return [str(tokenizer.decode(list(one.tokens), skip_special_tokens=True)) for one in written]


def generate(
    model: Model,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[Sequence[int]],
    *,
    max_new_tokens: int,
    progress: Progress | None = None,
) -> list[Generated]:
    """Greedy continuations of token sequences, as tokens.

    Args:
        model: Switch an adapter off around the call for the base's.
        tokenizer: Of the model.
        prompts: Token ids.
        max_new_tokens: Longest continuation.
        progress: Called with (prompts done, prompts in all).
    """
    bare: Any = unwrap(model)  # generate() is mixed in where no type checker sees it
    ends = bare.generation_config.eos_token_id or tokenizer.eos_token_id
    settings = GenerationConfig(
        max_new_tokens=max_new_tokens, do_sample=False, pad_token_id=tokenizer.pad_token_id, eos_token_id=ends
    )
    endings = set(ends) if isinstance(ends, list) else {ends}
    written = []
    with evaluating(model):
        for done, prompt in enumerate(prompts, start=1):
            ids = torch.tensor([list(prompt)], device=model.device)
            output = bare.generate(input_ids=ids, attention_mask=torch.ones_like(ids), generation_config=settings)
            tokens = output[0, ids.shape[1] :].tolist()
            ended = bool(tokens) and tokens[-1] in endings
            written.append(Generated(tuple(tokens[:-1] if ended else tokens), ended))
            if progress:
                progress(done, len(prompts))
    return written


def side_by_side(model: PeftModel, prompts: Sequence[str], write: Callable[[], list[str]]) -> list[dict[str, str]]:
    """What a model writes with its adapter on and off.

    Args:
        model: Wrapped model, its adapter on; left so.
        prompts: As they are to be shown.
        write: Gives the model's text for each prompt, as it stands.

    Returns:
        ``prompt``, ``before`` and ``after`` of each.
    """
    after = write()
    with model.disable_adapter():
        before = write()
    return [
        {"prompt": prompt, "before": first, "after": second}
        for prompt, first, second in zip(prompts, before, after, strict=True)
    ]


def prompt_ids(tokenizer: PreTrainedTokenizerBase, prompts: Sequence[str]) -> list[list[int]]:
    """Tokens of prompts, through the chat template where there is one."""
    return [_rendered(tokenizer, prompt) for prompt in prompts]


def _rendered(tokenizer: PreTrainedTokenizerBase, prompt: str) -> list[int]:
    if tokenizer.chat_template is None:
        return list(tokenizer(prompt)["input_ids"])
    messages = [{"role": "user", "content": prompt}]
    rendered: Any = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=True, return_dict=True)
    return list(rendered["input_ids"])
