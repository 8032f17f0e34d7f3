"""Directions to compare a principal one with, and how strong an edit along each must be to compare fairly."""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor

from readwrite_edit.errors import ShapeError
from readwrite_edit.geometry import eigh_descending

_EMPTY_SHARE = 1e-6


def seed_of(seed: int, *names: object) -> int:
    """A seed of its own for each named draw, the same on every machine.

    Args:
        seed: Of the whole probe.
        *names: What is drawn.
    """
    text = "\0".join(map(str, (seed, *names)))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:7], "big")


def random_directions(dim: int, count: int, *, seed: int) -> Tensor:
    """Uniform on the sphere; the first n of a larger draw are the draw of n.

    Args:
        dim: Dimension d.
        count: Number of directions.
        seed: Of a CPU generator.

    Returns:
        Unit rows, shape (count, d), float64.
    """
    generator = torch.Generator().manual_seed(seed)
    rows = [torch.randn(dim, generator=generator, dtype=torch.float64) for _ in range(count)]
    return torch.nn.functional.normalize(torch.stack(rows), dim=1)


def complement_directions(basis: Tensor, count: int, *, seed: int) -> Tensor:
    """Random directions orthogonal to a subspace.

    Args:
        basis: Orthonormal columns, shape (d, k), k < d.
        count: Number of directions.
        seed: Of the draw.

    Returns:
        Unit rows, shape (count, d), float64.

    Raises:
        ShapeError: Nothing is orthogonal to the subspace.
    """
    dim, k = basis.shape
    if k >= dim:
        raise ShapeError(f"a subspace of {k} in {dim} dimensions leaves no complement: lower k")
    wide = basis.double()
    rows = random_directions(dim, count, seed=seed)
    return torch.nn.functional.normalize(rows - (rows @ wide) @ wide.T, dim=1)


def bottom_directions(values: Tensor, vectors: Tensor, count: int) -> Tensor:
    """The eigenvectors of the smallest eigenvalues, weakest first, that hold energy at all.

    Eigenvalues under 1e-6 of their mean are passed over: a norm that takes the
    mean out leaves such a direction, and no finite edit along it has an effect.

    Args:
        values: Eigenvalues, largest first, shape (d,).
        vectors: Eigenvectors as columns, shape (d, d).
        count: Number of directions.

    Returns:
        Unit rows, shape (≤ count, d), float64.
    """
    held = int((values > _EMPTY_SHARE * values.mean()).sum())
    return vectors[:, max(0, held - count) : held].T.flip(0).double()


def rotated_covariance(second_moment: Tensor, *, seed: int) -> Tensor:
    """Q C Qᵀ with Q uniform over rotations (Haar): the same spectrum in other directions.

    Args:
        second_moment: C, shape (d, d).
        seed: Of Q.

    Returns:
        Shape (d, d), float64.
    """
    dim = len(second_moment)
    generator = torch.Generator().manual_seed(seed)
    q, r = torch.linalg.qr(torch.randn(dim, dim, generator=generator, dtype=torch.float64))
    q = q * r.diagonal().sign()  # without this the signs that QR chooses make Q not uniform
    return q @ second_moment.double().cpu() @ q.T


def rotated_directions(second_moment: Tensor, count: int, *, seed: int) -> Tensor:
    """Top eigenvectors of a rotated covariance, shape (count, d), float64."""
    return eigh_descending(rotated_covariance(second_moment, seed=seed))[1][:, :count].T


def direction_energy(second_moment: Tensor, directions: Tensor) -> Tensor:
    """vᵀCv: the energy that an edit of unit norm along v puts into the output.

    Args:
        second_moment: C, shape (d, d).
        directions: Unit rows v, shape (n, d).

    Returns:
        Shape (n,), float64.
    """
    rows = directions.double()
    return ((rows @ second_moment.double().to(rows.device)) * rows).sum(dim=1)


def energy_matched(epsilon: float, energy: float, energies: Tensor) -> Tensor:
    """Strengths ε′ = ε √(vᵀCv / v′ᵀCv′), so that ε²·vᵀCv is the same for all.

    Args:
        epsilon: Strength of the edit to match.
        energy: vᵀCv of its direction.
        energies: v′ᵀCv′ of the controls, shape (n,).

    Returns:
        Shape (n,), float64.
    """
    return epsilon * (energy / energies).sqrt()


def nearest_first(reach: int) -> list[int]:
    """Offsets to other layers up to a distance, the nearest first: 1, −1, 2, −2 and so on."""
    return [offset for distance in range(1, reach + 1) for offset in (distance, -distance)]


def head_block(direction: Tensor, head: int, d_head: int) -> Tensor:
    """A direction cut to one head's rows, of unit length.

    Args:
        direction: Shape (d_out,).
        head: Index of the head among the role's own.
        d_head: Features of a head.

    Raises:
        ShapeError: There is no such head.
    """
    heads = len(direction) // d_head
    if not 0 <= head < heads:
        raise ShapeError(f"head {head}: this matrix has heads 0 to {heads - 1}")
    block = torch.zeros_like(direction)
    span = slice(head * d_head, (head + 1) * d_head)
    block[span] = direction[span]
    return torch.nn.functional.normalize(block, dim=0)
