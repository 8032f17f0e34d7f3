"""Two checkpoints side by side: which matrices differ how, whatever kind each of the two is."""

from __future__ import annotations

import math
import statistics
from collections.abc import Generator, Sequence
from dataclasses import dataclass

import torch

from readwrite_edit.errors import AdapterError, ModelError
from readwrite_edit.models.pathways import Projection
from readwrite_edit.models.tensor_files import DTYPES, TensorFiles, row_blocks
from readwrite_edit.probe.checkpoint import Checkpoint, base_of
from readwrite_edit.probe.delta.anatomy import Anatomy, anatomy_of
from readwrite_edit.probe.delta.dense import BLOCK_NUMBERS, DenseOptions, Measured, measure_pairs
from readwrite_edit.probe.delta.entries import EntrySums
from readwrite_edit.probe.delta.factors import Factors, read_factors
from readwrite_edit.probe.delta.low_rank import measure_factors
from readwrite_edit.probe.delta.pairing import Misfit, Pair, pair_tensors
from readwrite_edit.probe.delta.subspaces import Subspaces

_SAMPLED = 8
_UNRELATED_COSINE = 0.2


@dataclass(frozen=True)
class Comparison:
    """What is to be measured between two checkpoints.

    Attributes:
        model: The model whose bases are used: the base, or the base of adapters.
        anatomy: Of it.
        base: Files of the base.
        tuned: Files of the tuned checkpoint; None where the delta is low-rank.
        pairs: Tensors to compare, in the order of the files; empty where the delta is low-rank.
        factors: The low-rank delta; None where it is dense.
        selected: Matrices to measure.
        misfits: What does not fit.
    """

    model: Checkpoint
    anatomy: Anatomy
    base: TensorFiles
    tuned: TensorFiles | None
    pairs: tuple[Pair, ...]
    factors: Factors | None
    selected: tuple[Projection, ...]
    misfits: tuple[Misfit, ...]

    @property
    def count(self) -> int:
        """How many results ``measure`` yields at most."""
        return len(self.pairs) if self.factors is None else len(self.selected)

    def measure(
        self, subspaces: Subspaces, options: DenseOptions, done: frozenset[str] = frozenset()
    ) -> Generator[Measured]:
        """Measure what has not been; see ``measure_pairs`` and ``measure_factors``.

        Args:
            subspaces: What to measure against.
            options: What to measure.
            done: Names of the results that are there already.
        """
        if self.factors is None:
            assert self.tuned is not None
            rest = [pair for pair in self.pairs if pair.name not in done]
            return measure_pairs(self.base, self.tuned, rest, subspaces, options)
        return measure_factors(self.base, self.factors, self.selected, self.anatomy, subspaces, options.k, done)

    def close(self) -> None:
        """Close the files."""
        self.base.close()
        if self.tuned is not None:
            self.tuned.close()


def compare(
    base: Checkpoint,
    tuned: Checkpoint,
    *,
    modules: Sequence[str] | None = None,
    layers: Sequence[int] | None = None,
    unrelated: bool = False,
) -> Comparison:
    """Put two checkpoints side by side; nothing but headers and a few blocks is read.

    Args:
        base: A model, or an adapter.
        tuned: A model, an adapter on ``base``, or an adapter on the base of the adapter ``base``.
        modules: Roles to measure; all by default.
        layers: Layers to measure; all by default.
        unrelated: Measure also where the tuned weights do not resemble the base's.

    Raises:
        ModelError: They do not fit together, or a file is damaged.
        AdapterError: An adapter is, or is of another base.
    """
    if base.kind == "adapter" and tuned.kind == "model":
        raise AdapterError(f"{base.name} is an adapter and {tuned.name} a model: compare two models, or two adapters")
    model = base if base.kind == "model" else base_of(base)
    anatomy = anatomy_of(model.source)
    selected = anatomy.pathways.select(modules or anatomy.pathways.roles, layers)
    if tuned.kind == "adapter":
        factors = _factors(base, tuned, anatomy)
        changed = tuple(p for p in selected if factors.of(p) is not None)
        if not changed:
            raise AdapterError(f"{tuned.name} adapts none of the {len(selected)} matrices to measure")
        files = TensorFiles(model.files)
        return Comparison(model, anatomy, files, None, (), factors, changed, factors.misfits)
    ours, theirs = TensorFiles(base.files), TensorFiles(tuned.files)
    pairs, misfits = pair_tensors(ours.tensors, theirs.tensors, anatomy, selected)
    if not unrelated:
        _check_descent(base, tuned, ours, theirs, pairs)
    return Comparison(model, anatomy, ours, theirs, tuple(pairs), None, selected, tuple(misfits))


def _factors(base: Checkpoint, tuned: Checkpoint, anatomy: Anatomy) -> Factors:
    factors = read_factors(tuned, anatomy)
    if base.kind == "model":
        return factors
    if base.base_id != tuned.base_id:
        raise AdapterError(f"{base.name} is of {base.base} and {tuned.name} of {tuned.base}: expected the same base")
    return factors.minus(read_factors(base, anatomy))


def foreign_base(base: Checkpoint, tuned: Checkpoint) -> list[str]:
    """A sentence where an adapter names another model than the one it is measured against."""
    if base.kind == "adapter" or tuned.base is None or tuned.base_id == base.model_id:
        return []
    return [f"{tuned.name} names {tuned.base} as its base and is measured against {base.name}: are these the same?"]


def _check_descent(
    base: Checkpoint, tuned: Checkpoint, ours: TensorFiles, theirs: TensorFiles, pairs: Sequence[Pair]
) -> None:
    """Refuse a tuned checkpoint whose weights have nothing to do with the base's."""
    measured = [pair for pair in pairs if pair.projections]
    step = max(1, len(measured) // _SAMPLED)
    cosines = [_cosine_of_first_rows(ours, theirs, pair) for pair in measured[::step]]
    known = [cosine for cosine in cosines if not math.isnan(cosine)]
    if known and statistics.median(known) < _UNRELATED_COSINE:
        raise ModelError(
            f"{tuned.name} does not descend from {base.name}: their weights have a cosine of "
            f"{statistics.median(known):.2f}, expected near 1; name the right base, or go on with --unrelated"
        )


def _cosine_of_first_rows(ours: TensorFiles, theirs: TensorFiles, pair: Pair) -> float:
    start, stop = next(iter(row_blocks(pair.base, BLOCK_NUMBERS // 4)))
    first = pair.base.as_tensor(ours.read(pair.base, start, stop)).float()
    second = pair.tuned.as_tensor(theirs.read(pair.tuned, start, stop)).float()
    sums = EntrySums()
    sums.add(first, second - first, torch.float32)
    return math.nan if sums.not_finite else sums.cosine


def step_dtype(name: str | None) -> torch.dtype | None:
    """A torch dtype by its name."""
    return None if name is None else next(dtype for dtype in DTYPES.values() if str(dtype) == f"torch.{name}")
