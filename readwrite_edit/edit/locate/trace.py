"""The causal trace: what of a clean run, put back into a noised one, brings its prediction back."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor
from transformers import PreTrainedModel

from readwrite_edit.edit.locate.prompts import TracePrompt
from readwrite_edit.edit.locate.runs import KINDS, LAYERS_APART, Answers, PromptRuns, Restoration, Sites, sites_of
from readwrite_edit.errors import DataError
from readwrite_edit.interventions.controls import seed_of
from readwrite_edit.job.session import Session
from readwrite_edit.models.pathways import Pathways

PLACES = ("first_subject", "middle_subject", "last_subject", "further", "last")


class Traceable(Protocol):
    """What is needed of a context."""

    @property
    def model(self) -> PreTrainedModel:
        """Bare, in evaluation mode."""

    @property
    def pathways(self) -> Pathways:
        """Of the model."""


@dataclass(frozen=True, eq=False)
class Traced:
    """One prompt's clean and noised runs.

    Attributes:
        prompt: The prompt.
        target: Tokens whose probability is followed.
        clean: Their probability in the clean run.
        corrupted: What is predicted under each draw of the noise, each of shape (samples,).
    """

    prompt: TracePrompt
    target: tuple[int, ...]
    clean: float
    corrupted: Answers

    @property
    def kl(self) -> float:
        """How far the noise moves the prediction, on average: KL(clean ‖ corrupted), nats."""
        return float(self.corrupted.kl.mean())


@dataclass(frozen=True, eq=False)
class Restored:
    """One output put back at one position.

    Attributes:
        prompt: Number of the prompt, from 0.
        kind: ``hidden``, ``mlp`` or ``attention``.
        layer: Whose output; the middle one of a window.
        position: At which token.
        effect: p(restored) − p(corrupted) of the target for each draw of the noise, shape (samples,).
        kl_effect: KL(clean ‖ corrupted) − KL(clean ‖ restored) of the prediction after the prompt, nats, (samples,).
    """

    prompt: int
    kind: str
    layer: int
    position: int
    effect: Tensor
    kl_effect: Tensor


@dataclass(frozen=True)
class Trace:
    """A causal trace.

    Attributes:
        prompts: Their clean and noised runs.
        cells: Every restored output.
        noise: Standard deviation of the noise in units of that of the embeddings' entries.
        samples: Draws of it.
        window: Layers whose outputs were put back together.
        from_layer_on: Whether layers below the restored one were left out of the passes.
    """

    prompts: tuple[Traced, ...]
    cells: tuple[Restored, ...]
    noise: float
    samples: int
    window: int
    from_layer_on: bool


def trace(
    context: Traceable,
    prompts: Sequence[TracePrompt],
    *,
    noise: float = 3.0,
    samples: int = 5,
    kinds: Sequence[str] = KINDS,
    seed: int = 0,
    window: int = 1,
    last_subject_only: bool = False,
    session: Session | None = None,
) -> Trace:
    """Noise the subject's embeddings, put single outputs of the clean run back, and see what that restores.

    The effect of an output is p(restored) − p(corrupted) of the target; beside
    it stands how much of the whole prediction comes back, as KL to the clean
    one. The noise is Gaussian with ``noise`` times the standard deviation of the entries
    of the subjects' embeddings; all runs of a prompt share its draws. Positions
    before the subject are left out: nothing there is noised, so that nothing
    can be restored.

    Args:
        context: The model and its pathways.
        prompts: What to trace; each is a run of its own.
        noise: Standard deviation of the noise, relative.
        samples: Draws of it.
        kinds: Whose outputs to put back.
        seed: Of the noise; a prompt's draws do not depend on other prompts.
        window: Layers whose MLP or attention outputs are put back together, around each.
        last_subject_only: Put back at the subject's last token alone.
        session: Is told the progress.

    Raises:
        DataError: No prompts, or one whose probability is not finite.
        ModelError: A kind that this model lacks, with the reason.
    """
    if not prompts:
        raise DataError("no prompts to trace: give at least one")
    sites = sites_of(context.model, context.pathways, kinds)
    scale = noise * _embedding_deviation(context.model, prompts)
    steps = len(prompts) * sum(map(len, sites.values()))
    traced, cells, whole = [], [], False
    for index, prompt in enumerate(prompts):
        drawn = scale * _noise(context.model, prompt, samples, seed_of(seed, "noise", index))
        runs = PromptRuns(context.model, context.pathways, sites, prompt, drawn)
        if not torch.isfinite(torch.stack(runs.corrupted)).all():
            raise DataError(f"prompt {index}: the model's probabilities under noise are not finite; lower the noise")
        runs.whole = whole if index else not runs.check_from_layer_on(kinds[0])
        whole = runs.whole
        traced.append(Traced(prompt, runs.target, runs.clean, runs.corrupted))
        for found in _cells(runs, sites, prompt, index, window=window, last_subject_only=last_subject_only):
            cells += found
            if session is not None:
                session.advance(_done(cells), steps, unit="layer")
    return Trace(tuple(traced), tuple(cells), noise, samples, window, not whole)


def place_of(prompt: TracePrompt, position: int) -> str:
    """What a position of a prompt is, one of ``PLACES``; those before the subject are ``before``."""
    start, stop = prompt.subject_positions
    if position == stop - 1:
        return "last_subject"
    if position == len(prompt.ids) - 1:
        return "last"
    if position >= stop:
        return "further"
    return "before" if position < start else "first_subject" if position == start else "middle_subject"


def _cells(
    runs: PromptRuns, sites: Sites, prompt: TracePrompt, index: int, *, window: int, last_subject_only: bool
) -> Iterator[list[Restored]]:
    """Effects at all positions, kind by kind and a few layers at a time."""
    start, stop = prompt.subject_positions
    positions = [stop - 1] if last_subject_only else list(range(start, len(prompt.ids)))
    for kind, modules in sites.items():
        every = list(modules)
        for begin in range(0, len(every), LAYERS_APART):
            layers = every[begin : begin + LAYERS_APART]
            places = [(layer, position) for layer in layers for position in positions]
            around = {layer: window_of(layer, every, 1 if kind == "hidden" else window) for layer in layers}
            found = runs.restored(kind, [Restoration(around[layer], (position,)) for layer, position in places])
            yield [
                Restored(index, kind, layer, position, p - runs.corrupted.probability, runs.corrupted.kl - kl)
                for (layer, position), p, kl in zip(places, *found, strict=True)
            ]


def window_of(layer: int, layers: Sequence[int], size: int) -> list[int]:
    """The ``size`` layers around one, as ROME takes them: half below, half above, fewer at the ends."""
    return [other for other in layers if layer - size // 2 <= other < layer + (size + 1) // 2]


def _done(cells: Sequence[Restored]) -> int:
    return len({(cell.prompt, cell.kind, cell.layer) for cell in cells})


def _embedding_deviation(model: PreTrainedModel, prompts: Sequence[TracePrompt]) -> float:
    """Standard deviation of the entries of the subjects' embeddings."""
    ids = [token for prompt in prompts for token in prompt.ids[slice(*prompt.subject_positions)]]
    with torch.no_grad():
        entries: Tensor = model.get_input_embeddings()(torch.tensor([ids], device=model.device))
    return float(entries.float().std())


def _noise(model: PreTrainedModel, prompt: TracePrompt, samples: int, seed: int) -> Tensor:
    """Standard normal numbers, (samples, subject tokens, width of an embedding); the first n of a larger draw."""
    start, stop = prompt.subject_positions
    generator = torch.Generator().manual_seed(seed)
    embeddings: Any = model.get_input_embeddings()
    width = int(embeddings.weight.shape[1])
    drawn = torch.randn(samples, stop - start, width, generator=generator, dtype=torch.float64)
    return drawn.float().to(model.device)
