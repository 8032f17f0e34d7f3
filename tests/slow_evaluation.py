"""The figures of an evaluation, slowly: one sequence at a time, full softmax in float64, stock libraries alone."""

from __future__ import annotations

import math
from pathlib import Path

import torch
from peft import PeftModel
from torch import Tensor
from transformers import AutoModelForCausalLM


def stock_models(base: Path | str, adapter: Path | str) -> tuple[torch.nn.Module, torch.nn.Module]:
    """The model with its adapter and, loaded a second time, the base; float64."""

    def bare() -> torch.nn.Module:
        return AutoModelForCausalLM.from_pretrained(base, dtype=torch.float64, attn_implementation="eager").eval()

    tuned = PeftModel.from_pretrained(bare(), str(adapter), autocast_adapter_dtype=False).double().eval()
    return tuned, bare()


def log_probs(model: torch.nn.Module, ids: list[int]) -> Tensor:
    """Log-softmax of the next token at every position but the last, shape (time − 1, vocabulary), float64."""
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([ids])).logits[0, :-1].double()
    return logits - torch.logsumexp(logits, dim=1, keepdim=True)


def text_sums(model: torch.nn.Module, base: torch.nn.Module, ids: list[int]) -> tuple[float, float, float]:
    """KL(model ‖ base) and both negative log-likelihoods, summed over the positions of one sequence."""
    ours, theirs = log_probs(model, ids), log_probs(base, ids)
    kl = nll = base_nll = 0.0
    for place, target in enumerate(ids[1:]):
        kl += float(
            sum(math.exp(p) * (p - q) for p, q in zip(ours[place].tolist(), theirs[place].tolist(), strict=True))
        )
        nll -= float(ours[place, target])
        base_nll -= float(theirs[place, target])
    return kl, nll, base_nll


def answer(
    model: torch.nn.Module,
    prompt: list[int],
    answered: list[int],
    max_length: int,
    weight: float = 1.0,
    shared: int | None = None,
) -> float:
    """Log-probability of an answer, cut at a length; tokens beyond ``shared`` count by ``weight``."""  # fmt: skip
    ids = [*prompt, *answered][:max_length]
    found = log_probs(model, ids)
    total = 0.0
    for place in range(len(prompt), len(ids)):
        beyond = shared is not None and place - len(prompt) >= shared
        total += (weight if beyond else 1.0) * float(found[place - 1, ids[place]])
    return total
