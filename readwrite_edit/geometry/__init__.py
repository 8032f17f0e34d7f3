"""Geometry of weights, updates and inputs: pure functions of tensors.

Nothing here knows of models, files or recipes. A weight W has shape
(d_out, d_in) and acts as y = W x, so a read subspace multiplies an update from
the right and a write subspace from the left.
"""

from readwrite_edit.geometry.bases import (
    contrastive_basis,
    difference_basis,
    eigh_descending,
    minor_basis,
    principal_basis,
    random_basis,
    rank_for_energy,
    singular_basis,
)
from readwrite_edit.geometry.fractions import (
    LowRank,
    cumulative_read_fraction,
    read_fraction,
    subspace_overlap,
    write_fraction,
)
from readwrite_edit.geometry.nulls import IsotropicNull, energy_null, isotropic_null
from readwrite_edit.geometry.prediction import prediction_basis, unembedding_gram
from readwrite_edit.geometry.price import output_energy
from readwrite_edit.geometry.spectra import effective_rank, participation_ratio, stable_rank

__all__ = [
    "IsotropicNull",
    "LowRank",
    "contrastive_basis",
    "cumulative_read_fraction",
    "difference_basis",
    "effective_rank",
    "eigh_descending",
    "energy_null",
    "isotropic_null",
    "minor_basis",
    "output_energy",
    "participation_ratio",
    "prediction_basis",
    "principal_basis",
    "random_basis",
    "rank_for_energy",
    "read_fraction",
    "singular_basis",
    "stable_rank",
    "subspace_overlap",
    "unembedding_gram",
    "write_fraction",
]
