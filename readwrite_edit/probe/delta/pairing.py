"""Which tensor of one checkpoint belongs to which of another, and what does not fit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from readwrite_edit.errors import ModelError
from readwrite_edit.models.pathways import Projection
from readwrite_edit.models.tensor_files import DTYPES, StoredTensor
from readwrite_edit.probe.delta.anatomy import Anatomy


@dataclass(frozen=True)
class Pair:
    """One tensor in both checkpoints.

    Attributes:
        name: The model's own name of it.
        base: Where it lies in the base.
        tuned: Where it lies in the tuned checkpoint.
        projections: Those of its projections that are to be measured; none for other tensors.
        transposed: Whether it is stored as (d_in, d_out).
    """

    name: str
    base: StoredTensor
    tuned: StoredTensor
    projections: tuple[Projection, ...] = ()
    transposed: bool = False


@dataclass(frozen=True)
class Misfit:
    """A tensor that can not be compared, and why."""

    name: str
    status: str
    detail: str

    def row(self) -> dict[str, Any]:
        """As a row of the table ``tensors``."""
        return {"name": self.name, "status": self.status, "detail": self.detail, "norm": None, "relative_norm": None}


def pair_tensors(
    base: Mapping[str, StoredTensor],
    tuned: Mapping[str, StoredTensor],
    anatomy: Anatomy,
    selected: Sequence[Projection],
) -> tuple[list[Pair], list[Misfit]]:
    """Match the tensors of two checkpoints by the model's own names.

    Args:
        base: Stored tensors of the base by name.
        tuned: Stored tensors of the tuned checkpoint.
        anatomy: Of the base.
        selected: Projections to measure.

    Returns:
        Pairs in the order in which the base's files hold them, and everything that does not fit.

    Raises:
        ModelError: None of the matrices to measure is in both.
    """
    ours, theirs = _by_canonical_name(base, anatomy), _by_canonical_name(tuned, anatomy)
    misfits = _renamed("BASE", ours, theirs) + _renamed("TUNED", theirs, ours)
    misfits += _tie(ours, theirs, anatomy)
    wanted = set(selected)
    pairs: list[Pair] = []
    for name in ours.keys() | theirs.keys():
        problem = _problem(name, ours.get(name), theirs.get(name), anatomy)
        if problem is not None:
            misfits.append(problem)
            continue
        held = tuple(projection for projection in anatomy.projections.get(name, ()) if projection in wanted)
        pairs.append(Pair(name, ours[name], theirs[name], held, name in anatomy.transposed))
    misfits += _absent_from_both(ours.keys() | theirs.keys(), anatomy)
    if not any(pair.projections for pair in pairs):
        raise ModelError(_nothing_fits(selected, ours, theirs, misfits))
    pairs.sort(key=lambda pair: (pair.base.file.name, pair.base.start))
    return pairs, sorted(misfits, key=lambda misfit: misfit.name)


def _by_canonical_name(stored: Mapping[str, StoredTensor], anatomy: Anatomy) -> dict[str, StoredTensor]:
    """Tensors under the model's own names."""
    found: dict[str, StoredTensor] = {}
    for name, tensor in stored.items():
        own = anatomy.canonical(name)
        if own in found:
            raise ModelError(f"{tensor.file}: {name} and {found[own].name} are both {own}; keep one of them")
        found[own] = tensor
    return found


def _renamed(which: str, ours: Mapping[str, StoredTensor], theirs: Mapping[str, StoredTensor]) -> list[Misfit]:
    """What one side stores under names that are neither the model's own nor the other side's."""
    both = ours.keys() & theirs.keys()
    names = [(ours[own].name, own) for own in sorted(both) if ours[own].name not in (own, theirs[own].name)]
    if not names:
        return []
    (stored, own), count = names[0], len(names)
    detail = f"{which} stores {count} tensors under other names, such as {stored} for {own}; they are compared"
    return [Misfit(f"({which})", "renamed", detail)]


def _tie(ours: dict[str, StoredTensor], theirs: dict[str, StoredTensor], anatomy: Anatomy) -> list[Misfit]:
    """Where one side stores the head and the other ties it, compare the head with the embedding."""
    head, embedding = anatomy.unembedding, anatomy.embedding
    if (head in ours) == (head in theirs):
        return []
    lacking, which = (ours, "BASE") if head in theirs else (theirs, "TUNED")
    if embedding not in lacking:
        return []
    lacking[head] = lacking[embedding]
    return [Misfit(head, "tied", f"{which} ties it to {embedding}; the other's own head is compared with that")]


def _problem(name: str, ours: StoredTensor | None, theirs: StoredTensor | None, anatomy: Anatomy) -> Misfit | None:
    if ours is None or theirs is None:
        status, which = ("extra", "BASE") if ours is None else ("missing", "TUNED")
        purpose = " (its matrices are not measured)" if name in anatomy.projections else ""
        return Misfit(name, status, f"not in {which}{purpose}")
    if ours.shape != theirs.shape:
        what = "other vocabulary, not compared" if _is_vocabulary(name, ours, theirs, anatomy) else "not compared"
        return Misfit(name, "reshaped", f"{list(ours.shape)} in BASE, {list(theirs.shape)} in TUNED; {what}")
    odd = next((tensor for tensor in (ours, theirs) if tensor.dtype not in DTYPES), None)
    if odd is not None:
        return Misfit(name, "unreadable", f"stored as {odd.dtype} in {odd.file.name}, not as plain floating-point")
    return None


def _is_vocabulary(name: str, ours: StoredTensor, theirs: StoredTensor, anatomy: Anatomy) -> bool:
    return name in (anatomy.embedding, anatomy.unembedding) and ours.shape[1:] == theirs.shape[1:]


def _absent_from_both(present: set[str], anatomy: Anatomy) -> list[Misfit]:
    absent = [name for name in anatomy.projections if name not in present]
    return [Misfit(name, "missing", "in neither checkpoint (its matrices are not measured)") for name in absent]


def _nothing_fits(
    selected: Sequence[Projection],
    ours: Mapping[str, StoredTensor],
    theirs: Mapping[str, StoredTensor],
    misfits: Sequence[Misfit],
) -> str:
    name = f"{selected[0].module}.weight"
    unreadable = next((found.detail for found in misfits if (found.name, found.status) == (name, "unreadable")), None)
    if unreadable is not None:
        return f"none of {len(selected)} matrices can be measured: {name} is {unreadable}; restore full weights first"
    shapes = [list(side[name].shape) if name in side else "absent" for side in (ours, theirs)]
    return (
        f"none of {len(selected)} matrices fits: {name} is {shapes[0]} in BASE and {shapes[1]} in TUNED; TUNED must "
        "be a fine-tune of BASE, with the same architecture and sizes"
    )
