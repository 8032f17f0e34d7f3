"""How edits meet in the same matrix, from factors alone.

Under C two updates are compared by what they do on the statistics' text:
⟨ΔW, ΔW′⟩_C = tr(ΔW C ΔW′ᵀ) is the mean product of what they add to the output.

The interference of ΔW with ΔW′ is ‖ΔW C^½ P′‖_F/‖ΔW′ C^½‖_F, P′ the projector on
what ΔW′ reads, C^½ A′ᵀ: what ΔW adds, as far as it is a linear function of what
ΔW′ reads, beside what ΔW′ itself adds. 0: it does not touch what ΔW′ sets; 1: it
adds as much as ΔW′ does.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from readwrite_edit.geometry import LowRank
from readwrite_edit.interventions.changes import Change
from readwrite_edit.models.pathways import Projection

COLUMNS = (
    "entry",
    "layer",
    "module",
    "path",
    "cosine",
    "output_cosine",
    "read_overlap",
    "changes_earlier",
    "changed_by_earlier",
)
PAIR_COLUMNS = ("entry", "other", "shared_matrices", "interference")
_SAME_INPUTS, _STRONG, _SAME_OUTPUT = 0.8, 0.5, 0.9

Key = tuple[str, str, int]
Placed = tuple[Projection, LowRank]


def overlaps_table(
    changes: Sequence[Change], earlier: Mapping[str, Sequence[Change]], moments: Mapping[str, Tensor]
) -> pd.DataFrame:
    """One row for each matrix that this edit and an earlier one both change.

    Args:
        changes: Of this edit.
        earlier: Name of an entry to its changes.
        moments: Site to C; where it lacks one, C is taken as the identity.
    """
    rows = list(_rows(changes, earlier, moments))
    return pd.DataFrame(rows, columns=list(COLUMNS))


def interference_table(edits: Mapping[str, Sequence[Change]]) -> pd.DataFrame:
    """The interference of each edit with each other one, over all matrices and with C = I, so without a model.

    Over several matrices numerator and denominator are root sums of squares over
    those that ``entry`` changes. A constant of an edit does not count.

    Args:
        edits: Name to changes.

    Returns:
        One row an ordered pair: ``entry``, ``other``, ``shared_matrices``, ``interference`` (of ``other`` with
        ``entry``).
    """
    updates = {name: by_matrix(changes) for name, changes in edits.items()}
    rows = [
        {"entry": name, "other": other, **_of_pair(own, updates[other])}
        for name, own in updates.items()
        for other in updates
        if other != name
    ]
    return pd.DataFrame(rows, columns=list(PAIR_COLUMNS))


def contradictions(overlaps: pd.DataFrame) -> tuple[str, ...]:
    """Sentences on matrices where two edits answer the same inputs with different outputs.

    Said where the inputs' read overlap is at least 0.8, what this edit adds there
    is at least half of what the earlier one does, and the outputs' cosine is under 0.9.
    """
    found = []
    for row in overlaps.itertuples():
        if row.read_overlap < _SAME_INPUTS or row.changes_earlier < _STRONG or row.output_cosine >= _SAME_OUTPUT:
            continue
        found.append(
            f"this edit and '{row.entry}' answer the same inputs of layer {row.layer} {row.module} differently "
            f"(overlap of inputs {row.read_overlap:.2f}, cosine of outputs {row.output_cosine:.2f}): together they "
            "give neither's result"
        )
    return tuple(found)


def _rows(
    changes: Sequence[Change], earlier: Mapping[str, Sequence[Change]], moments: Mapping[str, Tensor]
) -> Iterator[dict[str, Any]]:
    mine = by_matrix(changes)
    for entry, theirs in earlier.items():
        for key, (projection, other) in by_matrix(theirs).items():
            if key in mine:
                measured = overlap(mine[key][1], other, moments.get(projection.site))
                named = {"layer": projection.layer, "module": projection.role, "path": projection.module}
                yield {"entry": entry, **named, **measured}


def overlap(update: LowRank, earlier: LowRank, second_moment: Tensor | None) -> dict[str, float]:
    """Figures of two updates of one matrix; NaN where an update is zero, or adds nothing under C.

    * ``cosine`` ⟨ΔW, ΔW′⟩/(‖ΔW‖ ‖ΔW′‖), ``output_cosine`` the same under C;
    * ``read_overlap`` mean squared canonical correlation of A x and A′ x: 1 where the
      smaller of the two reads nothing that the other does not, 0 where they are uncorrelated;
    * ``changes_earlier`` the interference of this edit with the earlier one;
    * ``changed_by_earlier`` that of the earlier one with this.

    Args:
        update: ΔW.
        earlier: ΔW′.
        second_moment: C, or None for the identity.
    """
    (B, A), (E, D) = ((one.B.double().cpu(), one.A.double().cpu()) for one in (update, earlier))
    C = torch.eye(A.shape[1], dtype=A.dtype) if second_moment is None else second_moment.double().cpu()
    own, other, cross = A @ C @ A.T, D @ C @ D.T, A @ C @ D.T
    white, other_white = _inverse_root(own), _inverse_root(other)
    correlations = white.T @ cross @ other_white
    shared = min(int(one.any(dim=0).sum()) for one in (white, other_white))
    energy, other_energy = _product(B, own, B), _product(E, other, E)
    return {
        "cosine": _ratio(_product(B, A @ D.T, E), math.sqrt(_product(B, A @ A.T, B) * _product(E, D @ D.T, E))),
        "output_cosine": _ratio(_product(B, cross, E), math.sqrt(energy * other_energy)),
        "read_overlap": _ratio(float(correlations.square().sum()), shared),
        "changes_earlier": _ratio(_reaching(B, cross, other_white), math.sqrt(other_energy)),
        "changed_by_earlier": _ratio(_reaching(E, cross.T, white), math.sqrt(energy)),
    }


def _of_pair(own: Mapping[Key, Placed], other: Mapping[Key, Placed]) -> dict[str, float]:
    """Interference of an edit with another one, ``own``, over the matrices of that."""
    set_by, reached = 0.0, 0.0
    for key, (_, update) in own.items():
        gram = update.A @ update.A.T
        set_by += _product(update.B, gram, update.B)
        if key in other:
            foreign = other[key][1]
            reached += _reaching(foreign.B, foreign.A @ update.A.T, _inverse_root(gram)) ** 2
    return {"shared_matrices": len(own.keys() & other.keys()), "interference": _ratio(reached, set_by) ** 0.5}


def _reaching(B: Tensor, cross: Tensor, white: Tensor) -> float:
    """‖ΔW C^½ P′‖: with A C A′ᵀ and W′, which makes A′ C A′ᵀ white."""
    return float((B @ cross @ white).norm())


def _product(B: Tensor, inner: Tensor, E: Tensor) -> float:
    """tr(B M Eᵀ), not under 0 through rounding where it is a norm."""
    value = float(((E.T @ B) * inner.T).sum())
    return max(0.0, value) if B is E else value


def _inverse_root(gram: Tensor) -> Tensor:
    """Columns W with Wᵀ G W = I on the range of a Gram matrix, zero elsewhere, (r, r)."""
    values, vectors = torch.linalg.eigh(gram)
    kept = values > 1e-10 * values.abs().max()
    return vectors * torch.where(kept, values.clamp_min(1e-300).rsqrt(), 0.0)


def _ratio(value: float, scale: float) -> float:
    return value / scale if scale > 0 else math.nan


def by_matrix(changes: Sequence[Change]) -> dict[Key, Placed]:
    """Updates by module, role and layer; those of one matrix put together into one."""
    found: dict[Key, Placed] = {}
    for change in changes:
        key = (change.projection.module, change.projection.role, change.projection.layer)
        update = LowRank(change.update.B.double().cpu(), change.update.A.double().cpu())
        if key in found:
            before = found[key][1]
            update = LowRank(torch.cat([before.B, update.B], dim=1), torch.cat([before.A, update.A]))
        found[key] = (change.projection, update)
    return found
