"""KL of a model from its base and both likelihoods, over every position of a text."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from peft import PeftModel
from torch import Tensor, nn
from transformers import PreTrainedModel

from readwrite_edit.evaluate.figures import exponential
from readwrite_edit.evaluate.records import TextScores, token_id
from readwrite_edit.interventions.kl import kl_and_change
from readwrite_edit.models.language_head import language_model_head
from readwrite_edit.models.pathways import unwrap
from readwrite_edit.statistics import token_batches

_ROWS = 128

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Predictor:
    """A model as something that predicts tokens.

    Attributes:
        hidden: From input ids and attention mask, both (batch, time), to final hidden states (batch, time, d_model).
        logits: From hidden states (n, d_model) to logits (n, vocabulary).
        device: Where it computes.
    """

    hidden: Callable[[Tensor, Tensor], Tensor]
    logits: Callable[[Tensor], Tensor]
    device: torch.device


def predictor(model: PreTrainedModel | PeftModel) -> Predictor:
    """The predictor of a model as it stands: of a wrapped one, with its adapter on."""
    bare = unwrap(model)

    def hidden(ids: Tensor, mask: Tensor) -> Tensor:
        states: Tensor = bare.base_model(input_ids=ids, attention_mask=mask, use_cache=False).last_hidden_state
        return states

    return Predictor(hidden, language_model_head(bare).logits, model.device)


def base_predictor(model: PeftModel) -> Predictor:
    """The predictor of a wrapped model's base: the model with its adapter switched off around each pass."""
    whole = predictor(model)

    def hidden(ids: Tensor, mask: Tensor) -> Tensor:
        with model.disable_adapter():
            return whole.hidden(ids, mask)

    return Predictor(hidden, whole.logits, whole.device)


@dataclass(eq=False)
class TextProbe:
    """A text to be measured, as often as one likes.

    Attributes:
        sequences: Token ids.
        batch_size: Sequences in a forward pass.
        again: Whether it is measured more than once: the base's hidden states are then computed once, and kept on the
            CPU.
    """

    sequences: Sequence[Sequence[int]]
    batch_size: int = 8
    again: bool = True
    _base: list[Tensor] = field(default_factory=list)

    def measure(self, policy: Predictor, base: Predictor, progress: Progress | None = None) -> TextScores:
        """Compare a model with its base.

        KL is KL(policy ‖ base) over the whole vocabulary.

        Args:
            policy: The model; in evaluation mode.
            base: Its base; with its own head where it is another model.
            progress: Called with (sequences done, sequences in all).
        """
        ids: list[str] = []
        sums: list[Tensor] = []
        counts: list[int] = []
        for number, (input_ids, mask) in enumerate(token_batches(self.sequences, self.batch_size)):
            scored = mask[:, 1:].bool()
            known = self._cached(number, base) if self.again else base
            here, there = (scored_hidden(one, input_ids, mask) for one in (policy, known))
            parts = _compare(policy, base, here, there, input_ids[:, 1:][scored])
            owners = scored.nonzero()[:, 0]
            sums.append(torch.zeros(len(mask), 3, dtype=torch.float64).index_add_(0, owners, parts))
            counts += scored.sum(dim=1).tolist()
            ids += [token_id(row[: int(length)]) for row, length in zip(input_ids.tolist(), mask.sum(1), strict=True)]
            if progress:
                progress(len(ids), len(self.sequences))
        kl, nll, base_nll = (tuple(column.tolist()) for column in torch.cat(sums).T)
        return TextScores(ids=tuple(ids), positions=tuple(counts), kl=kl, nll=nll, base_nll=base_nll)

    def _cached(self, number: int, base: Predictor) -> Predictor:
        """The base, which answers for a batch that it has seen from memory."""

        def hidden(ids: Tensor, mask: Tensor) -> Tensor:
            if number == len(self._base):
                self._base.append(base.hidden(ids, mask).cpu())
            return self._base[number].to(base.device)

        return Predictor(hidden, base.logits, base.device)


def text_metrics(
    model: PeftModel, sequences: Sequence[Sequence[int]], *, batch_size: int = 8, progress: Progress | None = None
) -> dict[str, float]:
    """KL of a wrapped model from its base, and both perplexities, over every position of a text.

    KL is KL(policy ‖ base) in nats, averaged over positions; perplexity is exp
    of the mean negative log-likelihood per token, infinite where that overflows.

    Args:
        model: Wrapped model; the base is the model with its adapter off.
        sequences: Token ids.
        batch_size: Sequences in a forward pass.
        progress: Called with (sequences done, sequences in all).

    Returns:
        ``kl``, ``perplexity`` and ``base_perplexity``.
    """
    with evaluating(model):
        probe = TextProbe(sequences, batch_size, again=False)
        return means(probe.measure(predictor(model), base_predictor(model), progress))


def means(scores: TextScores) -> dict[str, float]:
    """KL and perplexities of a text as a whole: ``kl``, ``perplexity`` and ``base_perplexity``."""
    positions = sum(scores.positions)
    kl, nll, base_nll = (math.fsum(column) / positions for column in (scores.kl, scores.nll, scores.base_nll))
    return {"kl": kl, "perplexity": exponential(nll), "base_perplexity": exponential(base_nll)}


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode without gradients, and the mode before put back."""
    training = model.training
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        model.train(training)


def scored_hidden(model: Predictor, input_ids: Tensor, mask: Tensor) -> Tensor:
    """Hidden states of the positions whose next token is known, in row-major order, (n, d_model)."""
    ids, attended = input_ids.to(model.device), mask.to(model.device)
    return model.hidden(ids, attended)[:, :-1][attended[:, 1:].bool()]


def _compare(policy: Predictor, base: Predictor, here: Tensor, there: Tensor, targets: Tensor) -> Tensor:
    """KL and both negative log-likelihoods of each position, shape (n, 3), float64, on the CPU."""
    parts = []
    for rows in torch.arange(len(targets)).split(_ROWS):
        log_p = policy.logits(here[rows.to(here.device)]).float().log_softmax(dim=-1)
        theirs = base.logits(there[rows.to(there.device)]).float().to(log_p.device)
        chosen = targets[rows].to(log_p.device)
        kl, change = kl_and_change(theirs, log_p.exp(), log_p, chosen)
        nll = -log_p.gather(1, chosen.unsqueeze(1)).squeeze(1)
        parts.append(torch.stack([kl, nll, nll - change], dim=1).double().cpu())
    return torch.cat(parts)
