"""Geometry of one matrix's delta, gathered as blocks of its rows pass by or from its factors.

Both ways end in the same sums: the energy of ΔW in each direction of the read
and of the write basis, in all and by head, and the squared norm. Everything
reported follows from these, for every k at once.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from readwrite_edit.geometry import LowRank
from readwrite_edit.geometry.spectra import Spectrum
from readwrite_edit.models.pathways import Projection
from readwrite_edit.probe.delta.entries import EntrySums
from readwrite_edit.probe.delta.subspaces import Side

HEADS_ROWS = ("q_proj", "k_proj", "v_proj")
HEADS_COLUMNS = ("o_proj",)


@dataclass
class Energies:
    """Squared norms of ΔW, in all and in each direction.

    Attributes:
        read: ‖ΔW u_i‖² for each column of the read basis, (K,), float64; None without one.
        write: ‖v_iᵀ ΔW‖² for each column of the write basis, likewise.
        heads: Squared norm of each head's rows or columns, (heads,); None where the matrix has no heads.
        heads_read: The same in each read direction, (heads, K), for heads that are rows.
        heads_write: The same in each write direction, (heads, K), for heads that are columns.
        entries: Sums over single entries; None for factors, which are never multiplied out.
        spectrum: Stable and effective rank; None where not measured.
    """

    squared_norm: float = 0.0
    read: Tensor | None = None
    write: Tensor | None = None
    heads: Tensor | None = None
    heads_read: Tensor | None = None
    heads_write: Tensor | None = None
    entries: EntrySums | None = None
    spectrum: Spectrum | None = None
    weight_norm: float = field(default=float("nan"))


class DenseSums:
    """Sums over the blocks of rows of one dense ΔW.

    Args:
        projection: The matrix.
        read: Its read side, or None.
        write: Its write side, or None.
        d_head: Features of a head.
        keep: Whether to keep ΔW itself for its spectrum.
    """

    def __init__(
        self, projection: Projection, read: Side | None, write: Side | None, d_head: int, *, keep: bool
    ) -> None:
        self.projection, self.read, self.write, self.d_head = projection, read, write, d_head
        self.entries = EntrySums()
        shape = projection.d_out, projection.d_in
        self.delta = torch.zeros(shape) if keep else None
        by_row = projection.role in HEADS_ROWS
        self.row_heads = shape[0] // d_head if by_row else 0
        self.column_heads = shape[1] // d_head if projection.role in HEADS_COLUMNS else 0
        self.read_energy = torch.zeros(max(1, self.row_heads), _columns(read), dtype=torch.float64)
        self.row_norms = torch.zeros(max(1, self.row_heads), dtype=torch.float64)
        self.column_norms = torch.zeros(max(1, self.column_heads), dtype=torch.float64)
        self.written = torch.zeros(_columns(write), shape[1])

    def add(self, start: int, base: Tensor, delta: Tensor, step_dtype: torch.dtype) -> None:
        """Add rows of the role from ``start`` on; base and delta float32, (rows, d_in)."""
        self.entries.add(base, delta, step_dtype)
        if self.delta is not None:
            self.delta[start : start + len(delta)] = delta
        if self.read is not None:
            self._add_by_row((delta @ self.read.basis).square(), self.read_energy, start)
        if self.write is not None:
            self.written.addmm_(self.write.basis[start : start + len(delta)].T, delta)
        if self.row_heads:
            self._add_by_row(delta.square().sum(dim=1, keepdim=True), self.row_norms.unsqueeze(1), start)
        if self.column_heads:
            self.column_norms += delta.square().sum(dim=0, dtype=torch.float64).view(self.column_heads, -1).sum(dim=1)

    def add_same(self, base: Tensor) -> None:
        """Count rows that are equal in both checkpoints."""
        self.entries.add_same(base)

    def energies(self, spectrum: Spectrum | None) -> Energies:
        """The finished sums."""
        heads_write = None
        write = self.written.double().square() if self.write is not None else None
        if write is not None and self.column_heads:
            heads_write = write.view(len(write), self.column_heads, -1).sum(dim=2).T
        return Energies(
            squared_norm=self.entries.squared_norm,
            read=None if self.read is None else self.read_energy.sum(dim=0),
            write=None if write is None else write.sum(dim=1),
            heads=self.row_norms if self.row_heads else self.column_norms if self.column_heads else None,
            heads_read=self.read_energy if self.row_heads and self.read is not None else None,
            heads_write=heads_write,
            entries=self.entries,
            spectrum=spectrum,
            weight_norm=self.entries.base_norm,
        )

    def _add_by_row(self, energy: Tensor, sums: Tensor, start: int) -> None:
        """Add rows of energy (rows, columns) to the sums of their heads."""
        if not self.row_heads:
            sums += energy.sum(dim=0, dtype=torch.float64)
            return
        heads = torch.arange(start, start + len(energy)) // self.d_head
        sums.index_add_(0, heads, energy.double())


def factor_energies(
    projection: Projection,
    update: LowRank,
    read: Side | None,
    write: Side | None,
    d_head: int,
    spectrum: Spectrum | None,
) -> Energies:
    """The same sums from the factors of a low-rank ΔW, which is never formed.

    Args:
        projection: The matrix.
        update: Factors, float64; B holds the rows of the role.
        read: Its read side, or None.
        write: Its write side, or None.
        d_head: Features of a head.
        spectrum: Of the update.
    """
    found = Energies(squared_norm=float(update.squared_norm()), spectrum=spectrum)
    if read is not None:
        found.read = _row_energy(update, read.basis.double())
    if write is not None:
        found.write = _row_energy(LowRank(update.A.T, update.B.T), write.basis.double())
    if projection.role in HEADS_ROWS:
        parts = [LowRank(rows, update.A) for rows in update.B.split(d_head)]
        found.heads = torch.stack([part.squared_norm() for part in parts])
        if read is not None:
            found.heads_read = torch.stack([_row_energy(part, read.basis.double()) for part in parts])
    if projection.role in HEADS_COLUMNS:
        parts = [LowRank(update.B, columns) for columns in update.A.split(d_head, dim=1)]
        found.heads = torch.stack([part.squared_norm() for part in parts])
        if write is not None:
            sides = [LowRank(part.A.T, part.B.T) for part in parts]
            found.heads_write = torch.stack([_row_energy(side, write.basis.double()) for side in sides])
    return found


def _row_energy(update: LowRank, basis: Tensor) -> Tensor:
    """‖B A u_i‖² for each column, (K,): through the triangle of B = Q R, so that nothing cancels."""
    triangle = torch.linalg.qr(update.B)[1]
    return (triangle @ (update.A @ basis)).square().sum(dim=0)


def _columns(side: Side | None) -> int:
    return 0 if side is None else side.basis.shape[1]
