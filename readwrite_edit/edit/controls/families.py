"""Families of controls: what each replaces in the tested edit, and how strong each control is made.

An edit of several matrices is replaced in all of them at once, by independent
draws; norms and output energies are matched matrix by matrix. A constant stays
as it is where inputs are replaced, and turns with the outputs where these are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from readwrite_edit.edit.context import Context
from readwrite_edit.edit.controls.draws import (
    frame_outside,
    generator_of,
    haar_frame,
    other_outputs,
    rotated_key_rows,
    row_factors,
)
from readwrite_edit.edit.controls.parts import Part, energies_of, ratio_root, shifted, squared_norms_of
from readwrite_edit.edit.metric import Metric
from readwrite_edit.edit.settings.base import Controls
from readwrite_edit.errors import DataError
from readwrite_edit.geometry import LowRank
from readwrite_edit.interventions.changes import Change
from readwrite_edit.interventions.controls import bottom_directions, seed_of
from readwrite_edit.models.pathways import Projection

FROBENIUS, ENERGY, BOTH = "frobenius", "energy", "both"
RANDOM = ("random_input", "random_output")
_NOTHING = 1e-6  # of what an average direction puts out: what statistics hold there is rounding
_EIGH_COST = 1e11  # d³ over all matrices, about a minute on one core


@dataclass(frozen=True, eq=False)
class Control:
    """One control.

    Attributes:
        family: What is replaced.
        matching: In what it equals the tested edit: ``frobenius``, ``energy`` or ``both``.
        index: Number within the family; for another layer the offset.
        changes: The control itself.
        norm: ‖ΔW‖ over all matrices.
        energy: tr(ΔW C ΔWᵀ), summed over matrices.
    """

    family: str
    matching: str
    index: int
    changes: tuple[Change, ...]
    norm: float
    energy: float


@dataclass(frozen=True, eq=False)
class Family:
    """A family of controls, made some at a time.

    Attributes:
        name: In tables.
        size: How many edits it has in each matching.
        matchings: One, or two of the same directions.
        make: Controls of a range of indices.
    """

    name: str
    size: int
    matchings: tuple[str, ...]
    make: Callable[[range], list[Control]]

    @property
    def total(self) -> int:
        """Controls in all matchings."""
        return self.size * len(self.matchings)


def families_of(
    context: Context, tested: Sequence[Part], settings: Controls
) -> tuple[tuple[Family, ...], tuple[str, ...]]:
    """The families that this edit can have, and why others are left out.

    Args:
        context: Of the edit; statistics of other layers come from it.
        tested: Changes of the edit.
        settings: How many.
    """
    notes: list[str] = []
    matchings: tuple[str, ...] = (FROBENIUS, ENERGY)
    if not sum(one.energy for one in tested) > 0:
        matchings = (FROBENIUS,)
        notes.append("the edit adds nothing on the statistics' text: no controls are matched in output energy")
    room = all(2 * one.rank <= one.d_in for one in tested)
    found = [_inputs("random_input", settings.count, matchings, tested, _random_rows(settings))]
    found.append(_outputs(settings.count, tested, settings))
    if room:
        found.append(_inputs("complement", settings.others, matchings, tested, _outside_rows(settings)))
    else:
        notes.append("left out: controls in the complement, for the edit's rank is more than half of its inputs")
    bottom = _bottom(settings, matchings, tested)
    if bottom is None:
        notes.append("left out: controls along the bottom principal directions, for these take too long to find here")
    else:
        found.append(bottom)
    metrics = {one.name: one.metric for one in tested if one.metric is not None}
    if room and len(metrics) == len(tested):
        found.append(_inputs("rotated", settings.others, matchings, tested, _rotated_rows(settings, metrics)))
    else:
        notes.append("left out: controls under a rotated covariance, for this edit solves no system with C")
    found.append(Family("sign_flip", 1, (BOTH,), lambda _indices: [_sign_flip(tested)]))
    elsewhere, why = _other_layers(context, tested, settings, matchings)
    if elsewhere is not None:
        found.append(elsewhere)
    return tuple(found), (*notes, *why)


Rows = Callable[[Part, int], Tensor]  # of a change and an index: what a control reads instead, (r, d_in)


def _inputs(name: str, size: int, matchings: Sequence[str], tested: Sequence[Part], rows: Rows) -> Family:
    """A family that replaces A: the same directions in each matching."""

    def make(indices: range) -> list[Control]:
        drawn = [torch.stack([rows(one, index) for index in indices]) for one in tested]
        return [
            control
            for matching in matchings
            for control in _matched(name, matching, indices, [one.change.projection for one in tested], tested, drawn)
        ]

    return Family(name, size, tuple(matchings), make)


def _matched(
    name: str,
    matching: str,
    indices: Sequence[int],
    places: Sequence[Projection],
    tested: Sequence[Part],
    drawn: Sequence[Tensor],
    moments: Sequence[Tensor] | None = None,
) -> list[Control]:
    """Controls with given rows, each matrix scaled to the tested one's norm or output energy."""
    own = [one.second_moment for one in tested] if moments is None else moments
    scales, norms, energies = [], [], []
    for one, rows, C in zip(tested, drawn, own, strict=True):
        B = one.change.update.B
        norm, energy = squared_norms_of(B, rows), energies_of(B, rows, C)
        held = energy.where(energy > _NOTHING * norm * C.trace() / len(C), 0)
        scale = ratio_root(one.squared_norm, norm) if matching == FROBENIUS else ratio_root(one.energy, held)
        scales.append(scale)
        norms.append(scale.square() * norm)
        energies.append(scale.square() * energy)
    norm, energy = torch.stack(norms).sum(dim=0).sqrt(), torch.stack(energies).sum(dim=0)
    controls = []
    for number, index in enumerate(indices):
        changes = tuple(
            Change(place, LowRank(scale[number] * one.change.update.B, rows[number]), one.change.bias)
            for place, one, scale, rows in zip(places, tested, scales, drawn, strict=True)
        )
        if bool(torch.isfinite(energy[number])):  # a control that reads nothing can not be matched
            controls.append(Control(name, matching, index, changes, float(norm[number]), float(energy[number])))
    return controls


def _random_rows(settings: Controls) -> Rows:
    def rows(one: Part, index: int) -> Tensor:
        generator = generator_of(seed_of(settings.seed, "random_input", one.name, index))
        return row_factors(one.change.update.A)[0] @ haar_frame(one.rank, one.d_in, generator)

    return rows


def _outside_rows(settings: Controls) -> Rows:
    def rows(one: Part, index: int) -> Tensor:
        L, V = row_factors(one.change.update.A)
        return L @ frame_outside(V, one.rank, generator_of(seed_of(settings.seed, "complement", one.name, index)))

    return rows


def _rotated_rows(settings: Controls, metrics: Mapping[str, Metric]) -> Rows:
    def rows(one: Part, index: int) -> Tensor:
        generator = generator_of(seed_of(settings.seed, "rotated", one.name, index))
        metric = metrics[one.name]
        return rotated_key_rows(one.change.update.A, metric.second_moment.cpu(), metric.solve, generator)

    return rows


def _bottom(settings: Controls, matchings: Sequence[str], tested: Sequence[Part]) -> Family | None:
    """The weakest directions that hold energy at all, r at a time; None where they are too dear to find."""
    if sum(one.d_in**3 for one in tested) > _EIGH_COST:
        return None
    found = {one.name: bottom_directions(*one.spectrum, settings.others * one.rank) for one in tested}
    size = min(len(found[one.name]) // one.rank for one in tested)

    def rows(one: Part, index: int) -> Tensor:
        return row_factors(one.change.update.A)[0] @ found[one.name][index * one.rank : (index + 1) * one.rank]

    return _inputs("bottom", size, matchings, tested, rows)


def _outputs(size: int, tested: Sequence[Part], settings: Controls) -> Family:
    """A family that replaces B, and turns a constant with it; norm and output energy agree by themselves."""
    norm = sum(one.squared_norm for one in tested) ** 0.5
    energy = sum(one.energy for one in tested)

    def make(indices: range) -> list[Control]:
        return [
            Control("random_output", BOTH, index, tuple(_turned(one, settings, index) for one in tested), norm, energy)
            for index in indices
        ]

    return Family("random_output", size, (BOTH,), make)


def _turned(one: Part, settings: Controls, index: int) -> Change:
    generator = generator_of(seed_of(settings.seed, "random_output", one.name, index))
    B, bias = one.change.update.B, one.change.bias
    columns = other_outputs(B if bias is None else torch.cat([B, bias.unsqueeze(1)], dim=1), generator)
    update = LowRank(columns[:, : one.rank], one.change.update.A)
    return Change(one.change.projection, update, None if bias is None else columns[:, -1])


def _sign_flip(tested: Sequence[Part]) -> Control:
    changes = tuple(one.change.scaled(-1.0) for one in tested)
    norm = sum(one.squared_norm for one in tested) ** 0.5
    return Control("sign_flip", BOTH, 0, changes, norm, sum(one.energy for one in tested))


def _other_layers(
    context: Context, tested: Sequence[Part], settings: Controls, matchings: Sequence[str]
) -> tuple[Family | None, tuple[str, ...]]:
    """The same factors on the same roles of other layers."""
    places = shifted(tested, context.pathways, settings.others)
    if not places:
        return None, ("left out: controls on other layers, for there is nowhere that the edit fits",)
    try:
        statistics = context.statistics([projection for _, projections in places for projection in projections])
        moments = [[statistics.second_moment(p.site).double().cpu() for p in there] for _, there in places]
    except DataError as problem:
        return None, (f"left out: controls on other layers ({problem})",)
    rows = [one.change.update.A.unsqueeze(0) for one in tested]

    def make(indices: range) -> list[Control]:
        return [
            control
            for matching in matchings
            for (offset, there), own in zip(
                places[indices.start : indices.stop], moments[indices.start :], strict=False
            )
            for control in _matched("other_layer", matching, (offset,), there, tested, rows, own)
        ]

    return Family("other_layer", len(places), tuple(matchings), make), ()
