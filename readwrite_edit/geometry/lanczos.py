"""Ranks of a dense update without its eigenvalues: stochastic Lanczos quadrature."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from readwrite_edit.errors import ShapeError
from readwrite_edit.geometry.spectra import Spectrum, exact_spectrum

_CONVERGED = 1e-2


@dataclass(frozen=True)
class _Quadrature:
    """Ritz values of A = ΔWΔWᵀ/‖ΔW‖²_F, how much of the probes lies on each, and which are single
    eigenvalues for certain.
    """

    values: Tensor  # (m,), rising
    weights: Tensor  # (m,), of the probes; only their ratios count
    converged: Tensor  # (m,), bool
    side: int


def lanczos_spectrum(delta: Tensor, *, probes: int = 4, steps: int = 24, seed: int = 0) -> Spectrum:
    """Ranks of a dense update from a few dozen products with it.

    Block Lanczos with full reorthogonalisation on the shorter side, started from
    Rademacher probes. The largest Ritz value gives the stable rank. For the sums
    Σ f(s), s = σ²/Σσ², converged Ritz values count once, exactly; the rest is the
    quadrature's, corrected by a straight line in s, because the number and the sum
    of the remaining eigenvalues are known.

    Accuracy with the default settings against ``exact_spectrum``, largest error over 8 seeds at
    768 × 1536: stable rank 0.1 %; effective rank 1.4 % on Gaussian updates, 0.6 % on spiked ones,
    1 % on power laws σ_i = i^−a of a = 0.5 to 2, 3 % on a geometric decay; participation ratio
    1.8 %. At 4096² with C a power law: effective rank 1 %, 2.4 % at worst. Updates of rank 1 to 64
    and orthogonal ones (all σ equal) are exact to rounding. More probes halve the error with
    four times their number; more steps hardly help. 1.2 s at 4096², 5.6 s at 4096 × 14336 on one
    core, where ``exact_spectrum`` takes 7 s and 10 s.

    Args:
        delta: ΔW, shape (d_out, d_in), any floating dtype; products run in float32 at least.
        probes: Random start vectors, at least 2: as many equal eigenvalues are told apart.
        steps: Products with each; memory is O(probes · steps · side).
        seed: Of a CPU generator, so that every device gets the same probes.

    Returns:
        The ranks; exact ones where probes · steps reaches the shorter side.

    Raises:
        ShapeError: Fewer than two probes or steps.

    Source: Ubaru, Chen and Saad 2017 (SIAM J. Matrix Anal. Appl. 38); the deflation follows
        Hutch++ (arXiv 2010.09649), the straight line is this project's.
    """
    if probes < 2 or steps < 2:
        raise ShapeError(f"{probes} probes and {steps} steps: expected at least 2 of each")
    if probes * steps >= min(delta.shape):
        return exact_spectrum(delta)
    matrix = delta if delta.dtype.itemsize >= 4 else delta.float()
    matrix = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T  # (side, other)
    # by rows, since a norm taken in float64 would first make a copy of the whole matrix in it
    energy = float(torch.linalg.vector_norm(matrix, dim=1).double().square().sum())
    if not energy > 0:
        return Spectrum(math.nan, math.nan, math.nan, "lanczos")
    nodes = _quadrature(matrix, energy, _rademacher(matrix, probes, seed), steps)
    entropy = _trace(nodes, -torch.xlogy(nodes.values, nodes.values))
    return Spectrum(
        stable_rank=1 / float(nodes.values.max()),
        effective_rank=math.exp(entropy),
        participation_ratio=1 / _trace(nodes, nodes.values.square()),
        method="lanczos",
    )


def _rademacher(matrix: Tensor, probes: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    signs = torch.randint(0, 2, (matrix.shape[0], probes), generator=generator, dtype=torch.float64)
    return (2 * signs - 1).to(matrix.device)


def _quadrature(matrix: Tensor, energy: float, start: Tensor, steps: int) -> _Quadrature:
    """Block Lanczos from (side, probes) start vectors: T = QᵀAQ, and Ritz pairs from its eigenvectors."""
    side, probes = start.shape
    block, first = torch.linalg.qr(start)
    basis = start.new_zeros(side, probes * steps)
    projected = start.new_zeros(probes * steps, probes * steps)
    for step in range(steps):
        done = (step + 1) * probes
        basis[:, done - probes : done] = block
        image = (matrix @ (matrix.T @ block.to(matrix.dtype))).double() / energy
        block, coupling, inside = _orthogonal_rest(image, basis[:, :done])
        projected[:done, done - probes : done] = inside
    # only the upper triangle holds every column's coefficients
    values, vectors = torch.linalg.eigh(projected, UPLO="U")
    residuals = torch.linalg.vector_norm(coupling @ vectors[-probes:], dim=0)
    weights = (first.T @ vectors[:probes]).square().sum(dim=0)
    return _Quadrature(values.clamp_min(0), weights, residuals < _CONVERGED * _gaps(values), side)


def _orthogonal_rest(image: Tensor, basis: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """What is new in a product, orthonormal; its triangular factor; its coefficients in the basis so far."""
    inside = basis.T @ image
    rest, triangle = torch.linalg.qr(image - basis @ inside)
    # where nothing is new QR returns rounding noise: once more, or it would lean on the basis
    rest, _ = torch.linalg.qr(rest - basis @ (basis.T @ rest))
    return rest, triangle, inside


def _gaps(values: Tensor) -> Tensor:
    """Distance of each Ritz value to its nearest neighbour, shape (m,)."""
    steps = values.diff()
    ends = values.new_full((1,), math.inf)
    return torch.minimum(torch.cat([ends, steps]), torch.cat([steps, ends]))


def _trace(nodes: _Quadrature, function: Tensor) -> float:
    """Σ f over all eigenvalues, from f at the Ritz values.

    Over the eigenvalues that are left the sum of a straight line a + b s is
    known, so only f's distance from the best one is left to chance.
    """
    sure, rest = nodes.converged, ~nodes.converged
    known = float(function[sure].sum())
    number = nodes.side - int(sure.sum())
    energy = max(1 - float(nodes.values[sure].sum()), 0.0)
    weights = nodes.weights[rest]
    if not float(weights.sum()) > 0:
        return known
    x, y = nodes.values[rest], function[rest]
    mean_x, mean_y = (weights * x).sum() / weights.sum(), (weights * y).sum() / weights.sum()
    spread = (weights * (x - mean_x).square()).sum()
    slope = (weights * (x - mean_x) * (y - mean_y)).sum() / spread.clamp_min(1e-300)
    return known + float(number * mean_y + slope * (energy - number * mean_x))
