"""Geometry of weights, updates and inputs: pure functions of tensors.

Nothing here knows of models, files or recipes. A weight W has shape
(d_out, d_in) and acts as y = W x, so a read subspace multiplies an update from
the right and a write subspace from the left.
"""

from readwrite_edit.geometry.association import (
    hard_update,
    key_gain,
    null_space_basis,
    null_space_update,
    ridge_update,
)
from readwrite_edit.geometry.bases import (
    contrastive_basis,
    difference_basis,
    eigh_descending,
    minor_basis,
    principal_basis,
    random_basis,
    rank_for_energy,
    singular_basis,
    whitened,
)
from readwrite_edit.geometry.fractions import (
    LowRank,
    cumulative_read_fraction,
    read_fraction,
    subspace_overlap,
    write_fraction,
)
from readwrite_edit.geometry.lanczos import lanczos_spectrum
from readwrite_edit.geometry.multiple import benjamini_hochberg
from readwrite_edit.geometry.nulls import (
    EnergyNull,
    IsotropicCurve,
    IsotropicNull,
    QuadraticNull,
    energy_null,
    isotropic_curve,
    isotropic_null,
    quadratic_p_value,
)
from readwrite_edit.geometry.prediction import prediction_basis, unembedding_gram
from readwrite_edit.geometry.price import output_energy
from readwrite_edit.geometry.spectra import (
    Spectrum,
    effective_count,
    effective_rank,
    exact_spectrum,
    low_rank_spectrum,
    participation_ratio,
    spectrum_of_eigenvalues,
    stable_rank,
)

__all__ = [
    "EnergyNull",
    "IsotropicCurve",
    "IsotropicNull",
    "LowRank",
    "QuadraticNull",
    "Spectrum",
    "benjamini_hochberg",
    "contrastive_basis",
    "cumulative_read_fraction",
    "difference_basis",
    "effective_count",
    "effective_rank",
    "eigh_descending",
    "energy_null",
    "exact_spectrum",
    "hard_update",
    "isotropic_curve",
    "isotropic_null",
    "key_gain",
    "lanczos_spectrum",
    "low_rank_spectrum",
    "minor_basis",
    "null_space_basis",
    "null_space_update",
    "output_energy",
    "participation_ratio",
    "prediction_basis",
    "principal_basis",
    "quadratic_p_value",
    "random_basis",
    "rank_for_energy",
    "read_fraction",
    "ridge_update",
    "singular_basis",
    "spectrum_of_eigenvalues",
    "stable_rank",
    "subspace_overlap",
    "unembedding_gram",
    "whitened",
    "write_fraction",
]
