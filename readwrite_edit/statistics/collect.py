"""One pass of the model over a text, summing x xᵀ where its projections read.

The sums run in the model's own pass: a hook on one module of each site takes
the non-padding rows of its input, multiplies them in float32 and adds the
product to a float64 sum. Projections that share an input share the sum. The
language-model head is never reached: the pass ends at the last site.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from readwrite_edit.errors import DataError
from readwrite_edit.models.early_end import EnoughError, until_enough
from readwrite_edit.models.pathways import Projection, find_pathways, module_of, unwrap
from readwrite_edit.statistics.moments import Statistics
from readwrite_edit.statistics.running import RunningMoments
from readwrite_edit.statistics.texts import prose_sequences, take_tokens

Progress = Callable[[int, int], None]
Watch = Callable[[int, Mapping[str, RunningMoments]], None]


def collect_statistics(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[str],
    *,
    modules: Sequence[str] = ("q_proj", "k_proj"),
    tokens: int = 8192,
    batch_size: int = 8,
    max_length: int = 256,
    centred: bool = False,
    first_position: bool = True,
) -> Statistics:
    """Collect the second moments that a read-subspace adapter needs.

    Args:
        model: Any supported causal language model, on its device.
        tokenizer: Its tokenizer.
        texts: Plain texts, one item a document.
        modules: Canonical names of the projections whose inputs to measure.
        tokens: How many tokens to read at most.
        batch_size: Sequences in a forward pass.
        max_length: Tokens in a sequence.
        centred: Whether the statistics take the mean out of C.
        first_position: Whether the first position of each sequence counts.

    Returns:
        Statistics per site.

    Raises:
        ModelError: The architecture is unknown, or an activation is not finite.
        DataError: The texts hold no token.
    """
    sequences = take_tokens(prose_sequences(texts, tokenizer, max_length=max_length), tokens)
    return collect_token_statistics(
        model,
        sequences,
        find_pathways(model).select(modules),
        batch_size=batch_size,
        centred=centred,
        first_position=first_position,
    )


def collect_token_statistics(
    model: PreTrainedModel,
    sequences: Sequence[Sequence[int]],
    projections: Sequence[Projection],
    *,
    batch_size: int = 8,
    centred: bool = False,
    first_position: bool = True,
    unit_norm: bool = False,
    progress: Progress | None = None,
    watch: Watch | None = None,
    shuffle: int | None = None,
) -> Statistics:
    """Collect second moments over tokenised sequences.

    Args:
        model: The model; put in evaluation mode for the pass and left as it was.
        sequences: Token ids.
        projections: Those whose inputs to measure; a shared input is summed once.
        batch_size: Sequences in a forward pass; they are ordered by length.
        centred: Whether the statistics take the mean out of C.
        first_position: Whether the first position of each sequence counts.
        unit_norm: Whether each input is scaled to norm 1 first.
        progress: Called with (tokens done, tokens in all) after each batch.
        watch: Called with (tokens done, sums so far by site) after each batch.
        shuffle: Seed of the order of the batches; None reads those of long sequences first.

    Returns:
        Statistics per site, on the CPU.

    Raises:
        DataError: There is no token to count.
        ModelError: An activation is not finite.
    """
    counted = sum(max(0, len(sequence) - (not first_position)) for sequence in sequences)
    if not counted:
        raise DataError("the calibration text holds no token; give a longer text or raise calibration.tokens")
    sites = dict.fromkeys(p.site for p in projections)
    sums = {site: RunningMoments(first_position=first_position, unit_norm=unit_norm) for site in sites}
    readers = {p.site: module_of(model, p) for p in projections}
    done, total = 0, sum(map(len, sequences))
    with _summing(readers, sums) as new_batch, evaluating(model), torch.no_grad():
        for index, (input_ids, attention_mask) in enumerate(_in_order(token_batches(sequences, batch_size), shuffle)):
            new_batch(attention_mask.to(model.device), index % 2)
            _run_to_last_site(model, input_ids.to(model.device), attention_mask.to(model.device))
            done += int(attention_mask.sum())
            if watch:
                watch(done, sums)
            if progress:
                progress(done, total)
    finished = {site: found.finish(f"the input of site '{site}'") for site, found in sums.items()}
    return Statistics(finished, counted, centred)


def token_batches(sequences: Sequence[Sequence[int]], batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Right-padded batches, longest first, so that little padding is computed.

    Args:
        sequences: Token ids.
        batch_size: Sequences in a batch.

    Yields:
        ``input_ids`` and ``attention_mask``, both (batch, time), int64.
    """
    ordered = sorted((list(s) for s in sequences if s), key=len, reverse=True)
    for start in range(0, len(ordered), batch_size):
        rows = ordered[start : start + batch_size]
        longest = len(rows[0])
        ids = torch.tensor([row + [0] * (longest - len(row)) for row in rows])
        mask = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in rows])
        yield ids, mask


def _in_order(batches: Iterator[tuple[Tensor, Tensor]], shuffle: int | None) -> Iterable[tuple[Tensor, Tensor]]:
    if shuffle is None:
        return batches
    drawn = list(batches)
    random.Random(shuffle).shuffle(drawn)
    return drawn


@contextmanager
def _summing(
    readers: Mapping[str, nn.Module], sums: Mapping[str, RunningMoments]
) -> Iterator[Callable[[Tensor, int], None]]:
    """Hook the sums into the model; yields a function that announces the next batch."""
    batch: dict[str, object] = {}
    reached: set[str] = set()

    def announce(mask: Tensor, half: int) -> None:
        batch.update(mask=mask.bool(), half=half)
        reached.clear()

    def hook_for(site: str) -> Callable[..., None]:
        def hook(_module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            sums[site].add(inputs[0], batch["mask"], batch["half"])  # type: ignore[arg-type]
            reached.add(site)
            if len(reached) == len(sums):
                raise EnoughError

        return hook

    handles = [module.register_forward_pre_hook(hook_for(site)) for site, module in readers.items()]
    try:
        yield announce
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode for the block; each module then is as it was, also one that was kept in it."""
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True


def _run_to_last_site(model: PreTrainedModel, input_ids: Tensor, attention_mask: Tensor) -> None:
    with until_enough():
        unwrap(model).base_model(input_ids=input_ids, attention_mask=attention_mask, use_cache=False)
