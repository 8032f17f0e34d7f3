"""Measuring pairs of stored tensors, block of rows by block of rows."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from threading import Lock
from typing import Any

import torch
from torch import Tensor

from readwrite_edit.geometry.lanczos import lanczos_spectrum
from readwrite_edit.geometry.spectra import exact_spectrum
from readwrite_edit.models.pathways import Projection
from readwrite_edit.models.tensor_files import DTYPES, TensorFiles, row_blocks
from readwrite_edit.probe.delta.entries import EntrySums
from readwrite_edit.probe.delta.matrix import DenseSums
from readwrite_edit.probe.delta.pairing import Pair
from readwrite_edit.probe.delta.rows import geometry_row
from readwrite_edit.probe.delta.subspaces import Subspaces

BLOCK_NUMBERS = 1 << 20
_EXACT_UP_TO = 1024
_KEPT_NUMBERS = 80_000_000
_KEPT_UNASKED = 20_000_000
_LARGE_NUMBERS = 1 << 25
_LARGE_DELTA = Lock()

Row = dict[str, Any]


@dataclass(frozen=True)
class DenseOptions:
    """What to measure of a dense delta.

    Attributes:
        k: Dimension of the subspaces that rows report.
        step_dtype: Type whose rounding step the delta is compared with; None takes the tuned tensor's own.
        spectra: ``auto``, ``exact``, ``lanczos`` or ``none``.
        d_head: Features of a head.
    """

    k: int
    step_dtype: torch.dtype | None
    spectra: str
    d_head: int


@dataclass(frozen=True)
class Measured:
    """One tensor, measured: geometry rows of its projections, and its row of the table ``tensors``."""

    name: str
    geometry: list[Row]
    tensor: Row


def measure_pairs(
    base: TensorFiles, tuned: TensorFiles, pairs: Sequence[Pair], subspaces: Subspaces, options: DenseOptions
) -> Generator[Measured]:
    """Measure pairs of tensors, as many at a time as torch has threads.

    Each thread takes a whole pair, block by block, with single-threaded
    arithmetic: while one waits for the disk another computes, and the system
    reads the next pair ahead meanwhile. Shared by the threads of one pair's
    arithmetic instead, the same work takes nearly twice as long.

    Args:
        base: Files of the base.
        tuned: Files of the tuned checkpoint.
        pairs: What to measure.
        subspaces: What to measure against.
        options: What to measure.

    Yields:
        One result a pair, in their order.

    Raises:
        ModelError: A file can not be read.
    """
    threads = torch.get_num_threads()
    pool = ThreadPoolExecutor(threads, "measure", initializer=lambda: torch.set_num_threads(1))
    pending: deque[Future[Measured]] = deque()
    try:
        for pair in pairs:
            base.will_need(pair.base)
            tuned.will_need(pair.tuned)
            torch.set_num_threads(threads)  # for the decomposition of a basis that is not in the cache yet
            one = _Tensor(pair, subspaces, options)
            torch.set_num_threads(1)
            pending.append(pool.submit(one.measure, base, tuned))
            if len(pending) > threads:
                yield pending.popleft().result()
        for found in pending:
            yield found.result()
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(threads)


class _Tensor:
    """The sums of one stored tensor and of the projections it holds."""

    def __init__(self, pair: Pair, subspaces: Subspaces, options: DenseOptions) -> None:
        self.pair, self.options = pair, options
        self.step_dtype = options.step_dtype or DTYPES[pair.tuned.dtype]
        self.entries = EntrySums()
        self.same = True
        self.sums = [
            DenseSums(
                projection,
                subspaces.read(projection),
                subspaces.write(projection),
                options.d_head,
                keep=_method(projection, options.spectra) is not None,
            )
            for projection in pair.projections
        ]

    def measure(self, base: TensorFiles, tuned: TensorFiles) -> Measured:
        """Read and measure the pair; one large delta at a time is kept for its spectrum."""
        kept = sum(sums.delta.numel() for sums in self.sums if sums.delta is not None)
        with _LARGE_DELTA if kept > _LARGE_NUMBERS else nullcontext():
            for start, stop in self._blocks():
                self.add(start, base.read(self.pair.base, start, stop), tuned.read(self.pair.tuned, start, stop))
            return self.measured()

    def _blocks(self) -> Iterator[tuple[int, int]]:
        # a transposed matrix's rows are its inputs: it is taken whole (only small, old architectures store so)
        if self.pair.transposed and self.sums:
            return iter([(0, self.pair.base.rows)])
        return row_blocks(self.pair.base, BLOCK_NUMBERS)

    def add(self, start: int, ours: bytearray, theirs: bytearray) -> None:
        """One block of rows: compared as bytes first, so that what is identical costs no arithmetic."""
        base = self.pair.base.as_tensor(ours)
        if self.pair.base.dtype == self.pair.tuned.dtype and ours == theirs:
            self._add_same(start, base)
            return
        tuned = self.pair.tuned.as_tensor(theirs)
        wide = torch.float64 if torch.float64 in (base.dtype, tuned.dtype) else torch.float32
        reference = base.to(wide)
        delta = (tuned.to(wide) - reference).float()
        if not self.sums:
            self.entries.add(reference.float(), delta, self.step_dtype)
            return
        for sums, rows, within in self._parts(start, len(base)):
            part = self._oriented(reference.float())[within], self._oriented(delta)[within]
            sums.add(rows, *part, self.step_dtype)

    def measured(self) -> Measured:
        """The finished result."""
        entries = [sums.entries for sums in self.sums] or [self.entries]
        bad = sum(found.not_finite for found in entries)
        if bad:
            detail = f"{bad} entries are NaN, infinite or above 1e16"
            return Measured(self.pair.name, [], self._row("not finite", detail, entries))
        self.same = not any(found.changed for found in entries)
        status = "identical" if self.same else "measured" if self.sums else "changed"
        base, tuned = self.pair.base.dtype, self.pair.tuned.dtype
        detail = "" if base == tuned else f"{base} in BASE, {tuned} in TUNED"
        rows = [self._geometry(sums) for sums in self.sums]
        return Measured(self.pair.name, rows, self._row(status, detail, entries))

    def _add_same(self, start: int, base: Tensor) -> None:
        if not self.sums:
            self.entries.add_same(base)
            return
        for sums, _, within in self._parts(start, len(base)):
            sums.add_same(self._oriented(base)[within])

    def _oriented(self, block: Tensor) -> Tensor:
        return block.T.contiguous() if self.pair.transposed else block

    def _parts(self, start: int, count: int) -> Iterator[tuple[DenseSums, int, slice]]:
        """For each run of rows of a projection in this block: its sums, its first row in the role, its place here."""
        if self.pair.transposed:
            start, count = 0, self.pair.base.shape[1]
        for sums in self.sums:
            passed = 0
            for first, last in sums.projection.rows or ((0, sums.projection.d_out),):
                low, high = max(first, start), min(last, start + count)
                if low < high:
                    yield sums, passed + low - first, slice(low - start, high - start)
                passed += last - first

    def _geometry(self, sums: DenseSums) -> Row:
        spectrum = None
        if sums.delta is not None and not self.same:
            spectrum = _SPECTRA[_method(sums.projection, self.options.spectra) or "exact"](sums.delta)
        row = geometry_row(sums.projection, sums.energies(spectrum), sums.read, sums.write, self.options.k)
        return {**row, "step_dtype": str(self.step_dtype).removeprefix("torch.")}

    def _row(self, status: str, detail: str, entries: Sequence[EntrySums]) -> Row:
        norm = sum(found.squared_norm for found in entries) ** 0.5
        base = sum(found.base_squared for found in entries) ** 0.5
        known = status != "not finite"
        return {
            "name": self.pair.name,
            "status": status,
            "detail": detail,
            "norm": norm if known else None,
            "relative_norm": norm / base if known and base else None,
        }


_SPECTRA: Mapping[str, Any] = {"exact": exact_spectrum, "lanczos": lanczos_spectrum}


def _method(projection: Projection, asked: str) -> str | None:
    """How to find a delta's spectrum; None where not at all, or where it is too large to be kept."""
    numbers = projection.d_out * projection.d_in
    if asked == "none" or numbers > _KEPT_NUMBERS:
        return None
    if asked == "auto":
        small = min(projection.d_out, projection.d_in) <= _EXACT_UP_TO
        return "exact" if small else "lanczos" if numbers <= _KEPT_UNASKED else None
    return asked
