"""The parts of all matrices as a plan: table, figures, and what the reader must know."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd

from readwrite_edit.edit.extract.parts import Part, share
from readwrite_edit.edit.plan import Plan
from readwrite_edit.edit.settings.extract import Restricted
from readwrite_edit.errors import EditError
from readwrite_edit.models.architectures import ROLES
from readwrite_edit.terminal import printable

_FEW = 4
_BYTES = 4  # an adapter is stored in float32
_ROUNDING = 1e-9


def plan_of(
    parts: Sequence[Part], options: Restricted, *, name: str, widths: Mapping[str, int], notes: Sequence[str]
) -> Plan:
    """Gather the parts of all matrices.

    Args:
        parts: In any order.
        options: Of the recipe.
        name: What was taken apart, for the user.
        widths: Output features of each module, all roles together.
        notes: What reading it has told.

    Raises:
        EditError: Nothing differs, or nothing of what differs lies in the subspaces.
    """
    ordered = sorted(parts, key=lambda part: (part.projection.layer, ROLES.index(part.projection.role)))
    changes = tuple(change for part in ordered if (change := part.change) is not None)
    if not changes:
        raise EditError(_nothing(ordered, options, name))
    said = [*_about(ordered, options), *notes]
    return Plan(
        changes=changes,
        why=_why(ordered, options, name),
        title=_what(options, name),
        tables={"matrices": pd.DataFrame([part.row() for part in ordered])},
        figures=_figures(ordered, widths),
        notes=tuple(printable(sentence) for sentence in said),
    )


def _figures(parts: Sequence[Part], widths: Mapping[str, int]) -> dict[str, float]:
    total, projected, retained = (
        sum(energies) for energies in zip(*((p.squared_norm, p.projected, p.retained) for p in parts), strict=True)
    )
    ranks = _ranks(parts)
    inputs = {part.projection.module: part.projection.d_in for part in parts}
    parameters = sum(rank * (widths[module] + inputs[module]) for module, rank in ranks.items())
    return {
        "matrices": sum(part.kept is not None for part in parts),
        "matrices_without_change": sum(part.kept is None for part in parts),
        "subspace_energy_fraction": share(projected, total),
        "retained_fraction": share(retained, total),
        "retained_of_projected_fraction": share(retained, projected),
        "largest_rank": max(ranks.values()),
        "parameters": parameters,
        "adapter_bytes": _BYTES * parameters,
    }


def _ranks(parts: Sequence[Part]) -> dict[str, int]:
    """Rank of each adapted module: those of its roles add up."""
    ranks: dict[str, int] = {}
    for part in parts:
        if part.kept is not None:
            ranks[part.projection.module] = ranks.get(part.projection.module, 0) + part.kept.rank
    return ranks


def _about(parts: Sequence[Part], options: Restricted) -> list[str]:
    found = []
    same = [part for part in parts if not part.squared_norm > 0]
    outside = [part for part in parts if part.squared_norm > 0 and part.kept is None]
    if same:
        found.append(f"{len(same)} matrices did not change and are not in the adapter: {_listed(same)}")
    if outside:
        found.append(f"the change of {len(outside)} matrices lies outside the subspace: {_listed(outside)}")
    modules = [part.projection.module for part in parts if part.kept is not None]
    if len(set(modules)) < len(modules):
        found.append("several roles of one fused module are kept, each at its own rank: their ranks add up in it")
    if options.energy is not None:
        floor = options.energy * (1 - _ROUNDING)
        short = [part for part in parts if part.kept is not None and part.retained < floor * part.projected]
        if short:
            found.append(
                f"{len(short)} matrices hold less than a share of {options.energy:g} within max_rank "
                f"{options.max_rank}: {_listed(short)}"
            )
    return found


def _listed(parts: Sequence[Part]) -> str:
    names = [f"layer {part.projection.layer} {part.projection.role}" for part in parts[:_FEW]]
    return ", ".join(names) + (", …" if len(parts) > _FEW else "")


def _what(options: Restricted, name: str) -> str:
    """What is kept, in words."""
    return f"the change of {name}" + ("" if options.basis == "none" else f" in {options.k} {options.basis} directions")


def _why(parts: Sequence[Part], options: Restricted, name: str) -> str:
    roles = [role for role in ROLES if any(part.projection.role == role for part in parts)]
    layers = len({part.projection.layer for part in parts})
    rank = f"energy {options.energy:g}" if options.energy else f"rank {options.rank}" if options.rank else "its rank"
    chosen = "the recipe's" if options.modules else "all that it changes"
    return (
        f"{_what(options, name)}: {', '.join(roles)} of {layers} layer{'s' * (layers > 1)}, at {rank}; "
        f"pathways: {chosen}"
    )


def _nothing(parts: Sequence[Part], options: Restricted, name: str) -> str:
    if any(part.squared_norm > 0 for part in parts):
        return (
            f"{name}: nothing of what changed lies in the {options.k} {options.basis} directions; choose another "
            "basis, a larger k, or other modules"
        )
    return (
        f"{name}: nothing differs: none of {len(parts)} chosen matrices has changed; choose other modules or layers, "
        "or check that the model is the base and not the tuned model itself"
    )
