"""Which matrices an adapter changes and along which basis: the arms, all through one path."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from readwrite_edit.errors import AdapterError
from readwrite_edit.geometry import (
    contrastive_basis,
    difference_basis,
    energy_null,
    minor_basis,
    principal_basis,
    random_basis,
    rank_for_energy,
    singular_basis,
    whitened,
)
from readwrite_edit.models.pathways import Projection
from readwrite_edit.statistics import Statistics

ARMS = ("principal", "contrastive", "gradient", "minor", "random", "weight", "lora")


@dataclass(frozen=True, kw_only=True)
class BasisChoice:
    """How to choose the basis of each matrix.

    Attributes:
        arm: One of :data:`ARMS`. ``lora`` has no basis: A is trained as in plain LoRA.
        rank: Columns of each basis; None where ``energy`` decides.
        energy: Share of tr(C) that the *principal* directions of that rank would
            hold. It sets the rank of every arm alike, so that arms compare.
        max_rank: Cap on a rank that ``energy`` sets.
        form: Of the contrastive arm: ``generalized`` or ``difference``.
        epsilon: Of the generalized form, see :func:`contrastive_basis`.
        beta: Of the difference form, see :func:`difference_basis`.
        seed: Of the random arm.
        whiten: Scale each basis so that the input has equal energy along its columns, see :func:`whitened`.
    """

    arm: str = "principal"
    rank: int | None = 16
    energy: float | None = None
    max_rank: int = 128
    form: str = "generalized"
    epsilon: float = 1e-3
    beta: float = 1.0
    seed: int = 0
    whiten: bool = False


@dataclass(frozen=True)
class Target:
    """One module that the adapter changes.

    Attributes:
        projections: The projections of the module that may change (several in a fused one).
        rank: Columns of B.
        basis: Columns U, shape (d_in, rank), float32, orthonormal unless they were whitened; None for plain LoRA.
        captured_energy: Share of tr(C) inside their span; NaN for plain LoRA.
    """

    projections: tuple[Projection, ...]
    rank: int
    basis: Tensor | None
    captured_energy: float

    @property
    def module(self) -> str:
        """Full name of the module in the bare model."""
        return self.projections[0].module

    @property
    def rows(self) -> tuple[tuple[int, int], ...] | None:
        """Output rows that may change, in order; None where all may."""
        if any(projection.rows is None for projection in self.projections):
            return None
        return tuple(sorted(span for projection in self.projections for span in projection.rows or ()))


Matrices = Callable[[Sequence[Projection]], Tensor]


def choose_targets(
    statistics: Statistics,
    projections: Sequence[Projection],
    choice: BasisChoice | None = None,
    *,
    protected: Statistics | None = None,
    weights: Matrices | None = None,
    gradients: Matrices | None = None,
    device: torch.device | str = "cpu",
) -> tuple[Target, ...]:
    """Choose a basis for each module that the projections lie in.

    Args:
        statistics: Second moments of the sites, from the alignment text.
        projections: Matrices to adapt; those of one fused module share a basis.
        choice: Arm, rank and options; the principal arm of rank 16 by default.
        protected: Second moments of the text to stay the same on (contrastive arm).
        weights: Gives the weight of projections stacked by rows (weight arm).
        gradients: Gives the objective's gradient likewise (gradient arm).
        device: Where to decompose; an accelerator pays from a few thousand dimensions on.

    Returns:
        Targets in the order of the projections.

    Raises:
        AdapterError: The arm is unknown, or what it needs was not given.
        ShapeError: A rank is larger than the input's dimension.

    Example:
        >>> targets = choose_targets(statistics, find_pathways(model).select(["q_proj", "k_proj"]))
    """
    choice = choice or BasisChoice()
    _check_needs(choice, protected, weights, gradients)
    by_module: dict[str, list[Projection]] = {}
    for projection in projections:
        by_module.setdefault(projection.module, []).append(projection)
    chooser = _Chooser(statistics, choice, protected, weights, gradients, device)
    return tuple(chooser.target(tuple(members)) for members in by_module.values())


class _Chooser:
    """Computes each site's basis once, however many modules read the site."""

    def __init__(
        self,
        statistics: Statistics,
        choice: BasisChoice,
        protected: Statistics | None,
        weights: Matrices | None,
        gradients: Matrices | None,
        device: torch.device | str,
    ) -> None:
        self.device = device
        self.statistics, self.choice, self.protected = statistics, choice, protected
        self.matrices = {"weight": weights, "gradient": gradients}
        self.bases: dict[str, Tensor] = {}

    def target(self, members: tuple[Projection, ...]) -> Target:
        second_moment = self.statistics.second_moment(members[0].site).to(self.device)
        rank = self._rank(second_moment)
        if self.choice.arm == "lora":
            return Target(members, rank, None, float("nan"))
        basis = self._basis(members, second_moment, rank)
        captured = energy_null(second_moment, basis)
        if self.choice.whiten:
            basis = whitened(basis, second_moment)
        return Target(members, rank, basis.float().cpu().contiguous(), captured)

    def _rank(self, second_moment: Tensor) -> int:
        if self.choice.energy is None:
            return self.choice.rank or 0
        return min(rank_for_energy(second_moment, self.choice.energy), self.choice.max_rank)

    def _basis(self, members: tuple[Projection, ...], second_moment: Tensor, rank: int) -> Tensor:
        matrix = self.matrices.get(self.choice.arm)
        if matrix is not None:
            return singular_basis(matrix(members), rank).to(second_moment.device)
        site = members[0].site
        if site not in self.bases:
            self.bases[site] = self._site_basis(site, second_moment, rank)
        return self.bases[site]

    def _site_basis(self, site: str, second_moment: Tensor, rank: int) -> Tensor:
        choice = self.choice
        if choice.arm == "principal":
            return principal_basis(second_moment, rank)
        if choice.arm == "minor":
            return minor_basis(second_moment, rank)
        if choice.arm == "random":
            basis = random_basis(second_moment.shape[0], rank, seed=_site_seed(site, choice.seed))
            return basis.to(second_moment.device)
        return self._contrastive(site, second_moment, rank)

    def _contrastive(self, site: str, second_moment: Tensor, rank: int) -> Tensor:
        assert self.protected is not None
        protected = self.protected.second_moment(site).to(second_moment.device)
        if self.choice.form == "difference":
            return difference_basis(second_moment, protected, rank, beta=self.choice.beta)
        return contrastive_basis(second_moment, protected, rank, epsilon=self.choice.epsilon)


def stacked_weights(weight_of: Callable[[Projection], Tensor]) -> Matrices:
    """Weights of several projections of one module under each other, shape (Σ d_out, d_in)."""
    return lambda members: torch.cat([weight_of(projection).float() for projection in members])


def _site_seed(site: str, seed: int) -> int:
    """A seed of its own for each site: equal bases in all layers would not be random."""
    return int.from_bytes(hashlib.sha256(f"{seed}:{site}".encode()).digest()[:7], "big")


def _check_needs(
    choice: BasisChoice, protected: Statistics | None, weights: Matrices | None, gradients: Matrices | None
) -> None:
    needs: Mapping[str, object | None] = {"contrastive": protected, "weight": weights, "gradient": gradients}
    if choice.arm not in ARMS:
        raise AdapterError(f"unknown basis '{choice.arm}'; expected one of {', '.join(ARMS)}")
    if choice.arm in needs and needs[choice.arm] is None:
        what = {"contrastive": "protected statistics", "weight": "the weights", "gradient": "gradients"}[choice.arm]
        raise AdapterError(f"the {choice.arm} basis needs {what}, and none were given")
    if (choice.rank is None) == (choice.energy is None):
        raise AdapterError(f"give either a rank or an energy share, not rank={choice.rank} and energy={choice.energy}")
