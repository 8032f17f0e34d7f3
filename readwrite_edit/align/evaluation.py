"""What an adapter did to the model: KL and perplexity on texts, answers side by side."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from peft import PeftModel
from torch import Tensor
from transformers import GenerationConfig, PreTrainedTokenizerBase

from readwrite_edit.models.language_head import language_model_head
from readwrite_edit.models.pathways import unwrap
from readwrite_edit.statistics import token_batches

_ROWS = 128

Progress = Callable[[int, int], None]


def text_metrics(
    model: PeftModel, sequences: Sequence[Sequence[int]], *, batch_size: int = 8, progress: Progress | None = None
) -> dict[str, float]:
    """KL of the policy from its base, and both perplexities, over every position of a text.

    KL is KL(policy ‖ base) over the whole vocabulary, in nats, averaged over
    positions; perplexity is exp of the mean negative log-likelihood per token.

    Args:
        model: Wrapped model; the base is the model with its adapter off.
        sequences: Token ids.
        batch_size: Sequences in a forward pass.
        progress: Called with (sequences done, sequences in all).

    Returns:
        ``kl``, ``perplexity`` and ``base_perplexity``.
    """
    sums = torch.zeros(3, dtype=torch.float64)
    positions = done = 0
    with _evaluating(model), torch.no_grad():
        for input_ids, mask in token_batches(sequences, batch_size):
            ids, attended = input_ids.to(model.device), mask.to(model.device)
            scored = attended[:, 1:].bool()
            policy = _hidden(model, ids, attended)[:, :-1][scored]
            with model.disable_adapter():
                base = _hidden(model, ids, attended)[:, :-1][scored]
            sums += _compare(model, policy, base, ids[:, 1:][scored])
            positions += int(scored.sum())
            done += len(ids)
            if progress:
                progress(done, len(sequences))
    kl, policy_nll, base_nll = (float(value) / positions for value in sums)
    return {"kl": kl, "perplexity": _perplexity(policy_nll), "base_perplexity": _perplexity(base_nll)}


def _perplexity(mean_nll: float) -> float:
    """Perplexity from a mean negative log-likelihood, infinite where exp would overflow."""
    return math.exp(mean_nll) if mean_nll < 700 else math.inf


def answers(
    model: PeftModel, tokenizer: PreTrainedTokenizerBase, prompts: Sequence[str], *, max_new_tokens: int
) -> list[str]:
    """Greedy answers to prompts, through the chat template where there is one.

    Args:
        model: Wrapped model; switch its adapter off around the call for the base's answers.
        tokenizer: Of the model.
        prompts: What a user says.
        max_new_tokens: Longest answer.

    Returns:
        One text a prompt, without special tokens.
    """
    ids = [_prompt_ids(tokenizer, prompt) for prompt in prompts]
    return [text.strip() for text in continuations(model, tokenizer, ids, max_new_tokens=max_new_tokens)]


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
    with _evaluating(model), torch.no_grad():
        for prompt in prompts:
            ids = torch.tensor([list(prompt)], device=model.device)
            output = bare.generate(input_ids=ids, attention_mask=torch.ones_like(ids), generation_config=settings)
            texts.append(str(tokenizer.decode(output[0, ids.shape[1] :], skip_special_tokens=True)))
    return texts


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


def _prompt_ids(tokenizer: PreTrainedTokenizerBase, prompt: str) -> list[int]:
    if tokenizer.chat_template is None:
        return list(tokenizer(prompt)["input_ids"])
    messages = [{"role": "user", "content": prompt}]
    rendered: Any = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=True, return_dict=True)
    return list(rendered["input_ids"])


def _hidden(model: PeftModel, ids: Tensor, attended: Tensor) -> Tensor:
    """Final hidden states, (batch, time, d_model)."""
    return unwrap(model).base_model(input_ids=ids, attention_mask=attended, use_cache=False).last_hidden_state


def _compare(model: PeftModel, policy: Tensor, base: Tensor, targets: Tensor) -> Tensor:
    """Sums over positions of KL and of both negative log-likelihoods, shape (3,), float64."""
    sums = torch.zeros(3, dtype=torch.float64)
    for rows in torch.arange(len(targets), device=targets.device).split(_ROWS):
        log_p, log_q = (_log_softmax(model, hidden[rows]) for hidden in (policy, base))
        chosen = targets[rows].unsqueeze(1)
        kl = (log_p.exp() * (log_p - log_q)).sum()
        sums += torch.stack([kl, -log_p.gather(1, chosen).sum(), -log_q.gather(1, chosen).sum()]).double().cpu()
    return sums


def _log_softmax(model: PeftModel, hidden: Tensor) -> Tensor:
    """Log-probabilities of hidden states (n, d_model) through the model's own head, (n, vocabulary)."""
    return language_model_head(unwrap(model)).logits(hidden).log_softmax(dim=-1)


@contextmanager
def _evaluating(model: PeftModel) -> Iterator[None]:
    training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(training)
