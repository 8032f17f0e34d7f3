"""Gradients at the outputs of a model's matrices, summed as they pass by in the backward pass.

No weight asks for a gradient: the embeddings' output does, so that the backward
pass carries δ down the layers and nothing else. Of each matrix y = W a the sums
are D = Σ δ δᵀ and the gradient of the weight itself, G = Σ δ aᵀ.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from readwrite_edit.errors import ModelError
from readwrite_edit.models.language_head import language_model_head
from readwrite_edit.models.pathways import Projection, module_of, role_rows
from readwrite_edit.probe.gradients.losses import (
    Batch,
    Scores,
    completion_outputs,
    labels_of,
    preference_loss,
    sequence_scores,
    units_of,
)
from readwrite_edit.recipe.objective import Objective
from readwrite_edit.statistics import RunningMoments, Statistics
from readwrite_edit.statistics.collect import evaluating

Progress = Callable[[int, int], None]


def output_site(projection: Projection) -> str:
    """Name of a projection's output in statistics: the module's, and the role's where a module serves several."""
    suffix = "" if projection.rows is None else f".{projection.role}"
    return f"{projection.module}.output{suffix}"


def output_moment(statistics: Statistics, projection: Projection) -> Tensor:
    """D = E[δ δᵀ] of the gradient at a projection's output, shape (d_out, d_out), float64.

    Args:
        statistics: As ``probe gradients`` wrote them.
        projection: Whose output.

    Raises:
        DataError: The statistics do not hold it, or are of another width.
    """
    return statistics.second_moment(output_site(projection))


@dataclass
class OutputSums:
    """Sums of one matrix under one objective.

    Attributes:
        moments: Σ δ δᵀ.
        weight_gradient: G = Σ δ aᵀ, (d_out, d_in), float32, where the model is.
        pairs: Of each batch the energies of its pairs, see ``pair_energies``; empty without a basis to follow.
    """

    moments: RunningMoments = field(default_factory=lambda: RunningMoments(first_position=False, halves=False))
    weight_gradient: Tensor | None = None
    pairs: list[Tensor] = field(default_factory=list)

    def add(self, delta: Tensor, inputs: Tensor, count: int) -> None:
        """Add δ, (n, d_out), and a, (n, d_in), of n tokens that stand for ``count``."""
        if self.weight_gradient is None:
            self.weight_gradient = torch.zeros(delta.shape[1], inputs.shape[1], device=delta.device)
        self.moments.add_rows(delta, count=count)
        self.weight_gradient.addmm_(delta.T, inputs)


def pair_energies(gradient: Tensor, mask: Tensor, basis: Tensor) -> Tensor:
    """Energies of each pair, of its single tokens and of its sum, in a basis and in all.

    In the sum Σ_t δ_t of a pair, its two answers cancel where the objective
    pulls them apart along the same direction; in the single tokens nothing does.

    Args:
        gradient: δ of the chosen, then the rejected answers, (2 · pairs, time, d).
        mask: Tokens that count, (2 · pairs, time).
        basis: Orthonormal columns V, (d, k).

    Returns:
        Σ_t ‖Vᵀδ_t‖², Σ_t ‖δ_t‖², ‖Vᵀ Σ_t δ_t‖², ‖Σ_t δ_t‖² as columns, (pairs, 4), on the CPU.
    """
    delta = gradient.float() * mask.unsqueeze(2)
    tokens = torch.stack([(delta @ basis).square().sum(dim=(1, 2)), delta.square().sum(dim=(1, 2))], dim=1)
    sums = delta.sum(dim=1)
    whole = sums[: len(sums) // 2] + sums[len(sums) // 2 :]
    summed = torch.stack([(whole @ basis).square().sum(dim=1), whole.square().sum(dim=1)], dim=1)
    return torch.cat([tokens[: len(whole)] + tokens[len(whole) :], summed], dim=1).cpu()


@dataclass(frozen=True)
class OutputGradients:
    """What one objective's gradient looks like at the outputs.

    Attributes:
        statistics: D of each output, see ``output_site``.
        weight_gradients: G of each output, (d_out, d_in), float32, on the CPU.
        pairs: Output to ``pair_energies``, (pairs, 4), of those whose role has a basis to follow.
        loss: Mean of the objective.
    """

    statistics: Statistics
    weight_gradients: Mapping[str, Tensor]
    pairs: Mapping[str, Tensor]
    loss: float


def collect_output_gradients(
    model: PreTrainedModel,
    batches: Sequence[Batch],
    projections: Sequence[Projection],
    objectives: Mapping[str, Objective],
    *,
    references: Sequence[Scores] | None = None,
    input_sites: Sequence[str] = (),
    completions_only: bool = False,
    bases: Mapping[str, Tensor] | None = None,
    progress: Progress | None = None,
) -> tuple[dict[str, OutputGradients], Statistics]:
    """Sum gradients at outputs under several objectives, one forward pass for all of them.

    Each objective is summed, not averaged, over its units (answer tokens under
    sft, else pairs), so that nothing depends on how the rows are batched.

    Args:
        model: Bare model; its weights are frozen for the pass.
        batches: See ``pair_batches``.
        projections: Whose outputs to measure.
        objectives: By the name that results carry.
        references: Scores of the reference for each batch; the model's own where None.
        input_sites: Sites whose inputs to measure too, over the same tokens.
        completions_only: Count only tokens that predict a token of an answer.
        bases: Orthonormal columns to follow pair by pair, by role.
        progress: Called with (batches done, batches in all).

    Returns:
        Gradients by objective, and the statistics of the inputs.

    Raises:
        ModelError: A loss or a gradient is not finite.
    """
    listener = _Listener(projections, objectives, input_sites, bases or {})
    head = language_model_head(model)
    losses, units = dict.fromkeys(objectives, 0.0), dict.fromkeys(objectives, 0)
    with _only_outputs_have_gradients(model), evaluating(model), listener.attached(model):
        for index, batch in enumerate(_on(batch, model.device) for batch in batches):
            listener.begin(_counted(batch, completions_only))
            outputs = completion_outputs(model, batch, head)
            reference = sequence_scores(outputs) if references is None else references[index]
            for position, (name, objective) in enumerate(objectives.items()):
                loss = preference_loss(objective, batch, outputs, reference)
                _check_finite(loss, name)
                count = units_of(objective, batch)
                listener.objective = name
                (loss * count).backward(retain_graph=position < len(objectives) - 1)
                losses[name], units[name] = losses[name] + float(loss.detach()) * count, units[name] + count
            if progress:
                progress(index + 1, len(batches))
    return {name: listener.finish(name, losses[name] / units[name]) for name in objectives}, listener.inputs()


class _Listener:
    """Hooks on modules and on their outputs that add to the sums."""

    def __init__(
        self,
        projections: Sequence[Projection],
        objectives: Mapping[str, Objective],
        input_sites: Sequence[str],
        bases: Mapping[str, Tensor],
    ) -> None:
        self.members: dict[str, list[Projection]] = {}
        for projection in projections:
            self.members.setdefault(projection.module, []).append(projection)
        self.bases = bases
        self.sums = {name: {output_site(p): OutputSums() for p in projections} for name in objectives}
        self.input_sums = {site: RunningMoments(first_position=False, halves=False) for site in input_sites}
        self.readers = {p.site: p.module for p in reversed(projections) if p.site in self.input_sums}
        self.objective = ""
        self.tokens = 0
        self._mask = torch.zeros(0, dtype=torch.bool)

    def begin(self, mask: Tensor) -> None:
        """Announce a batch: which of its tokens, (batch, time), count."""
        self._mask = mask
        self.tokens += int(mask.sum())

    @contextmanager
    def attached(self, model: PreTrainedModel) -> Iterator[None]:
        """Listen to the modules for the block."""
        handles = [
            module_of(model, members[0]).register_forward_hook(partial(self._passed, members))
            for members in self.members.values()
        ]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _passed(self, members: Sequence[Projection], _module: nn.Module, inputs: tuple[Tensor], output: Tensor) -> None:
        x = inputs[0].detach().reshape(*self._mask.shape, -1)  # OPT runs its MLP on (batch · time, d)
        site = members[0].site
        if self.readers.get(site) == members[0].module:
            self.input_sums[site].add_rows(x[self._mask])
        output.register_hook(partial(self._returned, members, x, self._mask))

    def _returned(self, members: Sequence[Projection], x: Tensor, mask: Tensor, gradient: Tensor) -> None:
        """Add δ where it is not zero: padding, and answers that the objective does not look at, cost nothing."""
        gradient = gradient.reshape(*mask.shape, -1)
        flat = gradient.flatten(0, 1)
        kept = mask.flatten() & flat.ne(0).any(dim=1)
        delta, inputs, count = flat[kept].float(), x.flatten(0, 1)[kept].float(), int(mask.sum())
        for member in members:
            part = delta if member.rows is None else delta[:, role_rows(member, delta.device)]
            sums = self.sums[self.objective][output_site(member)]
            sums.add(part, inputs, count)
            if member.role in self.bases:
                sums.pairs.append(pair_energies(gradient, mask, self.bases[member.role]))

    def finish(self, name: str, loss: float) -> OutputGradients:
        """The finished sums of an objective; they are given up."""
        sums = self.sums.pop(name)
        sites = {site: found.moments.finish(f"the {name} gradient at '{site}'") for site, found in sums.items()}
        weights = {
            site: found.weight_gradient.cpu() for site, found in sums.items() if found.weight_gradient is not None
        }
        followed = {site: torch.cat(found.pairs) for site, found in sums.items() if found.pairs}
        return OutputGradients(Statistics(sites, self.tokens), weights, followed, loss)

    def inputs(self) -> Statistics:
        """Second moments of the inputs over the same tokens."""
        sites = {site: found.finish(f"the input of site '{site}'") for site, found in self.input_sums.items()}
        return Statistics(sites, self.tokens)


def score_batches(model: PreTrainedModel, batches: Sequence[Batch]) -> list[Scores]:
    """Log-probabilities that a reference gives the answers of each batch."""
    head = language_model_head(model)
    with torch.no_grad(), evaluating(model):
        return [sequence_scores(completion_outputs(model, _on(batch, model.device), head)) for batch in batches]


@contextmanager
def _only_outputs_have_gradients(model: PreTrainedModel) -> Iterator[None]:
    """Freeze the weights for the block, and let gradients begin at the embeddings' output."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    model.requires_grad_(False)
    embeddings = model.get_input_embeddings()
    handle = embeddings.register_forward_hook(lambda _module, _inputs, output: output.requires_grad_(True))
    try:
        yield
    finally:
        handle.remove()
        for parameter in trained:
            parameter.requires_grad_(True)


def _counted(batch: Batch, completions_only: bool) -> Tensor:
    if not completions_only:
        return batch["attention_mask"].bool()
    return nn.functional.pad(labels_of(batch)[:, 1:] != -100, (0, 1))


def _on(batch: Batch, device: torch.device) -> Batch:
    return {name: value.to(device) for name, value in batch.items()}


def _check_finite(loss: Tensor, name: str) -> None:
    if not bool(torch.isfinite(loss)):
        raise ModelError(
            f"the {name} loss is {float(loss.detach())}: the weights hold NaN or infinity, or a value overflows"
        )
