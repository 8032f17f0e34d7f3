"""ROME as its paper describes it, written plainly, to compare with; nothing of the project's own editor is used.

Meng, Bau, Andonian and Belinkov, arXiv 2202.05262: the key is the mean input of
the write matrix at the subject's last token behind short prefixes; the value
comes from gradient steps on what is added to the matrix's output there; the
update is inserted through the inverse of C.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

STEPS, RATE, DECAY, KL_FACTOR, CLAMP, ENOUGH = 20, 0.5, 1.5e-3, 0.0625, 4.0, 5e-2


@dataclass(frozen=True)
class Request:
    """A fact to insert: a prompt that ends where the target follows, the subject in it, and the target."""

    prompt: str
    subject: str
    target: str


def rome(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    module: nn.Module,
    request: Request,
    prefixes: Sequence[str],
    inverse: Tensor,
    *,
    steps: int = STEPS,
) -> tuple[Tensor, Tensor]:
    """Left and right vector of ΔW = left rightᵀ.

    Args:
        model: Bare model, frozen.
        tokenizer: Of it.
        module: The write matrix, a linear module.
        request: The fact.
        prefixes: Texts before the prompt; the first is empty.
        inverse: C⁻¹, shape (d_in, d_in), float64.
        steps: Gradient steps of the value.
    """
    target = tokenizer(request.target, add_special_tokens=False)["input_ids"]
    rows = [encoded(tokenizer, prefix + request.prompt, request.subject) for prefix in prefixes]
    ids, places = [row[0] for row in rows], [row[1] for row in rows]
    about = encoded(tokenizer, f"{request.subject} is a", request.subject)
    keys, outputs = at_places(model, module, ids, places)
    delta = _value(model, module, ids, places, target, about, outputs[0], steps)
    direction = inverse @ keys.mean(dim=0).double()
    return delta.double() / (keys[0].double() @ direction), direction


def encoded(tokenizer: PreTrainedTokenizerBase, text: str, subject: str) -> tuple[list[int], int]:
    """Token ids of a text, and the index of the token in which the subject ends."""
    end = text.rindex(subject) + len(subject)
    found = tokenizer(text, return_offsets_mapping=True)
    place = max(index for index, (start, stop) in enumerate(found["offset_mapping"]) if start < end and stop > start)
    return found["input_ids"], place


def at_places(
    model: PreTrainedModel, module: nn.Module, ids: Sequence[Sequence[int]], places: Sequence[int]
) -> tuple[Tensor, Tensor]:
    """Input and output of a module at one token of each sequence, (n, d_in) and (n, d_out)."""
    kept: list[tuple[Tensor, Tensor]] = []
    handle = module.register_forward_hook(lambda _m, given, output: kept.append((given[0], output)))
    with torch.no_grad():
        model.base_model(**padded(ids), use_cache=False)
    handle.remove()
    rows = torch.arange(len(ids))
    return kept[0][0][rows, torch.tensor(places)], kept[0][1][rows, torch.tensor(places)]


def padded(ids: Sequence[Sequence[int]]) -> dict[str, Tensor]:
    """Right-padded ids and their mask."""
    longest = max(map(len, ids))
    rows = torch.tensor([[*row, *[0] * (longest - len(row))] for row in ids])
    mask = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in ids])
    return {"input_ids": rows, "attention_mask": mask}


def _value(
    model: PreTrainedModel,
    module: nn.Module,
    ids: Sequence[list[int]],
    places: Sequence[int],
    target: list[int],
    about: tuple[list[int], int],
    output: Tensor,
    steps: int,
) -> Tensor:
    """δ by Adam: likelihood of the target behind every prefix, KL of what the subject is, and decay."""
    sequences = [*(row + target[:-1] for row in ids), about[0]]
    batch, at = padded(sequences), torch.tensor([*places, about[1]])
    rows = torch.arange(len(sequences))
    scored = torch.tensor([[len(row) - 1 + step for step in range(len(target))] for row in ids])
    delta = torch.zeros_like(output, requires_grad=True)

    def add(_module: nn.Module, _given: tuple[Tensor, ...], found: Tensor) -> Tensor:
        changed = found.clone()
        changed[rows, at] = changed[rows, at] + delta
        return changed

    handle = module.register_forward_hook(add)
    optimiser = torch.optim.Adam([delta], lr=RATE)
    before: Tensor | None = None
    for _ in range(steps):
        hidden = model.base_model(**batch, use_cache=False).last_hidden_state
        logits = model.get_output_embeddings()(hidden[rows[:-1, None], scored]).float().log_softmax(dim=-1)
        essence = model.get_output_embeddings()(hidden[-1, len(about[0]) - 1]).float().log_softmax(dim=-1)
        before = essence.detach() if before is None else before
        likelihood = -logits.gather(2, torch.tensor(target).expand(len(ids), -1).unsqueeze(2)).mean()
        drift = torch.nn.functional.kl_div(before, essence, log_target=True, reduction="sum")
        loss = likelihood + KL_FACTOR * drift + DECAY * delta.norm() / output.norm().square()
        if float(likelihood.detach()) < ENOUGH:
            break
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        with torch.no_grad():
            delta.mul_(min(1.0, float(CLAMP * output.norm() / delta.norm())))
    handle.remove()
    return delta.detach()
