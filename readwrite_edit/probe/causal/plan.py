"""Which edits the causal probe tries on a matrix: the tested direction and its controls, dose by dose."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from readwrite_edit.interventions.changes import Edit
from readwrite_edit.interventions.controls import (
    bottom_directions,
    complement_directions,
    direction_energy,
    energy_matched,
    random_directions,
    rotated_directions,
    seed_of,
)
from readwrite_edit.models.architectures import WRITE_ROLES
from readwrite_edit.models.pathways import Projection
from readwrite_edit.probe.settings.causal import CausalSettings

PRINCIPAL, FROBENIUS, ENERGY, OUTPUT = "principal", "frobenius", "energy", "output"
BLOCKS = (PRINCIPAL, FROBENIUS, ENERGY, OUTPUT)  # a matrix is measured in these parts, each kept whole or not at all
_DOSED = 3


@dataclass(frozen=True, eq=False)
class Neighbour:
    """The matrix of the same role in another layer, with the second moment of its input."""

    projection: Projection
    second_moment: Tensor


@dataclass(frozen=True, eq=False)
class Matrix:
    """A matrix to edit.

    Attributes:
        projection: Which one.
        norm: ‖W‖_F.
        second_moment: C of its input, shape (d_in, d_in), float64.
        values: Eigenvalues of C, largest first.
        vectors: Its eigenvectors as columns.
        outputs: Output direction of each tested edit, unit rows, shape (directions, d_out).
        prediction: Basis of the output space in the order of the prediction subspace, (d_out, d_out); None on the
            read side, where the output direction is drawn at random.
        neighbour: For the control on another layer; None in a model of one layer.
    """

    projection: Projection
    norm: float
    second_moment: Tensor
    values: Tensor
    vectors: Tensor
    outputs: Tensor
    prediction: Tensor | None
    neighbour: Neighbour | None

    @property
    def side(self) -> str:
        """``read`` or ``write``."""
        return "write" if self.projection.role in WRITE_ROLES else "read"

    @property
    def name(self) -> str:
        """Short and fit for a file's name."""
        return f"L{self.projection.layer:02d}-{self.projection.role}"


@dataclass(frozen=True, eq=False)
class Trial:
    """One edit to measure.

    Attributes:
        family: ``principal`` or a family of controls.
        index: Number within the family.
        factor: Which factor of u vᵀ the family replaces: ``input`` (v) or ``output`` (u); the principal edit has none.
        matching: ``frobenius`` or ``energy``; ``both`` where the two agree.
        direction: Index of the principal direction that is tested, from 0.
        dose: Norm of the tested edit relative to ‖W‖_F.
        energy: vᵀCv times ε².
        edit: The edit.
    """

    family: str
    index: int
    factor: str | None
    matching: str
    direction: int
    dose: float
    energy: float
    edit: Edit


def trials_of(matrix: Matrix, block: str, settings: CausalSettings) -> list[Trial]:
    """All edits of a block, in the order they are measured."""
    plans = {PRINCIPAL: _principal_trials, FROBENIUS: _input_trials, ENERGY: _input_trials, OUTPUT: _output_trials}
    return [
        trial for direction in range(settings.directions) for trial in plans[block](matrix, direction, block, settings)
    ]


def _principal_trials(matrix: Matrix, direction: int, _block: str, settings: CausalSettings) -> Iterator[Trial]:
    """The tested edit and its opposite at every dose."""
    for dose in settings.doses:
        for family, sign in (("principal", 1.0), ("sign_flip", -1.0)):
            epsilon = sign * dose * matrix.norm
            edit = Edit(matrix.projection, epsilon, matrix.vectors[:, direction], matrix.outputs[direction])
            energy = epsilon**2 * float(matrix.values[direction])
            yield Trial(family, 0, None, "both", direction, dose, energy, edit)


def _input_trials(matrix: Matrix, direction: int, block: str, settings: CausalSettings) -> Iterator[Trial]:
    """The same output direction with other input directions."""
    for family, rows in _input_families(matrix, direction, settings).items():
        energies = direction_energy(matrix.second_moment, rows)
        for dose in settings.doses:
            epsilon = dose * matrix.norm
            strengths = _strengths(block, epsilon, float(matrix.values[direction]), energies)
            for index in range(_members(len(rows), dose, settings)):
                edit = Edit(matrix.projection, float(strengths[index]), rows[index], matrix.outputs[direction])
                energy = edit.epsilon**2 * float(energies[index])
                yield Trial(family, index, "input", block, direction, dose, energy, edit)
    yield from _neighbour_trials(matrix, direction, block, settings)


def _neighbour_trials(matrix: Matrix, direction: int, block: str, settings: CausalSettings) -> Iterator[Trial]:
    """The same edit on the same role of another layer, at the reference dose."""
    if matrix.neighbour is None:
        return
    v, dose = matrix.vectors[:, direction], settings.reference_dose
    energies = direction_energy(matrix.neighbour.second_moment, v.unsqueeze(0))
    strength = _strengths(block, dose * matrix.norm, float(matrix.values[direction]), energies)
    edit = Edit(matrix.neighbour.projection, float(strength[0]), v, matrix.outputs[direction])
    energy = edit.epsilon**2 * float(energies[0])
    yield Trial("other_layer", 0, "input", block, direction, dose, energy, edit)


def _output_trials(matrix: Matrix, direction: int, _block: str, settings: CausalSettings) -> Iterator[Trial]:
    """The same input direction with other output directions: Frobenius norm and output energy agree by themselves."""
    v, value = matrix.vectors[:, direction], float(matrix.values[direction])
    for family, rows in _output_families(matrix, direction, settings).items():
        for dose in settings.doses:
            epsilon = dose * matrix.norm
            for index in range(_members(len(rows), dose, settings)):
                edit = Edit(matrix.projection, epsilon, v, rows[index])
                yield Trial(family, index, "output", "both", direction, dose, epsilon**2 * value, edit)


def _input_families(matrix: Matrix, direction: int, settings: CausalSettings) -> Mapping[str, Tensor]:
    dim, few = matrix.projection.d_in, settings.others
    basis = matrix.vectors[:, : min(settings.k, dim - 1)]

    def seed(family: str) -> int:
        return seed_of(settings.seed, matrix.name, family, direction)

    return {
        "random": random_directions(dim, settings.controls, seed=seed("random")),
        "complement": complement_directions(basis, few, seed=seed("complement")),
        "bottom": bottom_directions(matrix.values, matrix.vectors, few),
        "rotated": rotated_directions(matrix.second_moment, few, seed=seed("rotated")),
    }


def _output_families(matrix: Matrix, direction: int, settings: CausalSettings) -> Mapping[str, Tensor]:
    """On the read side the tested output direction is itself random, and a few others show its spread."""
    dim, few = matrix.projection.d_out, settings.others

    def seed(family: str) -> int:
        return seed_of(settings.seed, matrix.name, family, direction)

    if matrix.prediction is None:
        return {"random_output": random_directions(dim, few, seed=seed("random_output"))}
    basis = matrix.prediction[:, : min(settings.k, dim - 1)]
    return {
        "random_output": random_directions(dim, settings.controls, seed=seed("random_output")),
        "complement_output": complement_directions(basis, few, seed=seed("complement_output")),
        "bottom_output": matrix.prediction[:, -few:].T.flip(0),
    }


def _strengths(block: str, epsilon: float, energy: float, energies: Tensor) -> Tensor:
    if block == FROBENIUS:
        return torch.full_like(energies, epsilon)
    return energy_matched(epsilon, energy, energies)


def _members(count: int, dose: float, settings: CausalSettings) -> int:
    """How many of a family are measured at a dose: all at the reference, a few elsewhere."""
    return count if dose == settings.reference_dose else min(count, _DOSED)
