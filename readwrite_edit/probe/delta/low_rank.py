"""Measuring the deltas of adapters from their factors."""

from __future__ import annotations

from collections.abc import Generator, Sequence

from readwrite_edit.geometry.spectra import low_rank_spectrum
from readwrite_edit.models.pathways import Projection
from readwrite_edit.models.tensor_files import StoredTensor, TensorFiles
from readwrite_edit.probe.delta.anatomy import Anatomy
from readwrite_edit.probe.delta.dense import BLOCK_NUMBERS, Measured
from readwrite_edit.probe.delta.entries import EntrySums
from readwrite_edit.probe.delta.factors import Factors
from readwrite_edit.probe.delta.matrix import factor_energies
from readwrite_edit.probe.delta.rows import geometry_row
from readwrite_edit.probe.delta.subspaces import Subspaces


def measure_factors(
    base: TensorFiles,
    factors: Factors,
    selected: Sequence[Projection],
    anatomy: Anatomy,
    subspaces: Subspaces,
    k: int,
    done: frozenset[str] = frozenset(),
) -> Generator[Measured]:
    """Measure an adapter's updates, one matrix at a time; of the base only norms are read.

    Args:
        base: Files of the base model.
        factors: The updates.
        selected: Matrices to measure; those that are not adapted are passed over.
        anatomy: Of the base model.
        subspaces: What to measure against.
        k: Dimension of the subspaces that rows report.
        done: Names of the results that are there already.

    Yields:
        One result a matrix.
    """
    stored = anatomy.by_own_name(base.tensors)
    for projection in selected:
        update = factors.of(projection)
        name = f"{projection.module}.weight"
        part = f"{projection.module}.{projection.role}" if projection.rows else name
        if update is None or part in done:
            continue
        read, write = subspaces.read(projection), subspaces.write(projection)
        spectrum = low_rank_spectrum(update)
        energies = factor_energies(projection, update, read, write, anatomy.pathways.d_head, spectrum)
        energies.weight_norm = _weight_norm(base, stored.get(name), projection, name in anatomy.transposed)
        row = geometry_row(projection, energies, read, write, k) | {"step_dtype": None}
        status = "measured" if energies.squared_norm > 0 else "identical"
        tensor = {"name": part, "status": status, "detail": f"rank {update.A.shape[0]}", "norm": row["norm"]}
        yield Measured(part, [row], {**tensor, "relative_norm": row["relative_norm"]})


def _weight_norm(files: TensorFiles, stored: StoredTensor | None, projection: Projection, transposed: bool) -> float:
    """‖W‖ of a projection's rows; 0 where the base's files do not hold it."""
    sums = EntrySums()
    if stored is None:
        return 0.0
    start = 0
    for block in files.blocks(stored, BLOCK_NUMBERS):
        for first, last in projection.rows or ((0, projection.d_out),):
            if transposed:
                sums.add_same(block[:, first:last])
            elif max(first, start) < min(last, start + len(block)):
                sums.add_same(block[max(first - start, 0) : last - start])
        start += len(block)
    return sums.base_norm
