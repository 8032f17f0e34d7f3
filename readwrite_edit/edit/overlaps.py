"""How an edit meets an earlier one in the same matrix, from factors alone.

Under C two updates are compared by what they do on the statistics' text:
⟨ΔW, ΔW′⟩_C = tr(ΔW C ΔW′ᵀ) is the mean product of what they add to the output.
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
_SAME_INPUTS, _STRONG, _SAME_OUTPUT = 0.8, 0.5, 0.9

Key = tuple[str, str, int]


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

    With C^½ A′ᵀ spanning what the earlier update reads, P′ the projector on it:

    * ``cosine`` ⟨ΔW, ΔW′⟩/(‖ΔW‖ ‖ΔW′‖), ``output_cosine`` the same under C;
    * ``read_overlap`` mean squared canonical correlation of A x and A′ x: 1 where the
      smaller of the two reads nothing that the other does not, 0 where they are uncorrelated;
    * ``changes_earlier`` ‖ΔW C^½ P′‖/‖ΔW′ C^½‖: what this edit adds, as far as it is a linear
      function of what the earlier one reads, relative to what the earlier one adds;
    * ``changed_by_earlier`` the same with the two exchanged.

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
        "changes_earlier": _ratio(float((B @ cross @ other_white).norm()), math.sqrt(other_energy)),
        "changed_by_earlier": _ratio(float((E @ cross.T @ white).norm()), math.sqrt(energy)),
    }


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


def by_matrix(changes: Sequence[Change]) -> dict[Key, tuple[Projection, LowRank]]:
    """Updates by module, role and layer; those of one matrix put together into one."""
    found: dict[Key, tuple[Projection, LowRank]] = {}
    for change in changes:
        key = (change.projection.module, change.projection.role, change.projection.layer)
        update = LowRank(change.update.B.double().cpu(), change.update.A.double().cpu())
        if key in found:
            before = found[key][1]
            update = LowRank(torch.cat([before.B, update.B], dim=1), torch.cat([before.A, update.A]))
        found[key] = (change.projection, update)
    return found
