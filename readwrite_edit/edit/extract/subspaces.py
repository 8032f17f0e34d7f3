"""The subspaces that a change is restricted to, each computed once."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from readwrite_edit.edit.context import Context
from readwrite_edit.edit.settings.extract import Restricted
from readwrite_edit.errors import EditError, ModelError
from readwrite_edit.geometry import eigh_descending
from readwrite_edit.models.architectures import WRITE_ROLES
from readwrite_edit.models.pathways import Projection
from readwrite_edit.models.tensor_files import TensorFiles
from readwrite_edit.probe.delta.anatomy import Anatomy
from readwrite_edit.probe.delta.principal import DEAR, kept_directions
from readwrite_edit.probe.delta.reference import check_sites
from readwrite_edit.probe.delta.unembedding import stored_unembedding
from readwrite_edit.statistics import Statistics
from readwrite_edit.statistics.store import digest_of

_EMPTY = 1e-13  # of the trace: above float32's rounding of inputs, squared
_PREDICTION = "prediction"


class Subspaces:
    """Orthonormal bases by matrix: of the input for what reads, of the unembedding for what writes.

    Args:
        context: Gives statistics of inputs; its model is touched only where these have to be collected.
        options: Kind of the basis and its dimension.
        files: Of the base model; its unembedding is streamed from them.
        anatomy: Of the base model.
        selected: Matrices that bases will be asked for.

    Raises:
        EditError: A side has fewer dimensions than the subspace.
        DataError: The statistics are missing, damaged or of another model.
    """

    def __init__(
        self,
        context: Context,
        options: Restricted,
        files: TensorFiles,
        anatomy: Anatomy,
        selected: Sequence[Projection],
    ) -> None:
        self._basis, self._k = options.basis, options.k
        self._files, self._anatomy = files, anatomy
        self._found: dict[str, Tensor] = {}
        self._statistics: Statistics | None = None
        if self._basis == "none":
            return
        for projection in selected:
            _require_room(projection, options.k)
        reading = [projection for projection in selected if projection.role not in WRITE_ROLES]
        if reading:
            self._statistics = context.statistics(reading)
            check_sites(context.recipe.statistics.file or "statistics", self._statistics, reading)

    def of(self, projection: Projection) -> Tensor | None:
        """Columns of the subspace on the side of a matrix that it is for, (d_in or d_out, k); None keeps everything."""
        if self._basis == "none":
            return None
        name = _PREDICTION if projection.role in WRITE_ROLES else projection.site
        if name not in self._found:
            self._found[name] = self._prediction() if name == _PREDICTION else self._reading(projection)
        return self._found[name]

    def _reading(self, projection: Projection) -> Tensor:
        assert self._statistics is not None
        statistics, site = self._statistics, projection.site
        key = digest_of(statistics, site) if projection.d_in > DEAR else ""
        name = f"the input '{site}' on the statistics' text"
        return self._directions(lambda: statistics.second_moment(site), key, projection.d_in, name)

    def _prediction(self) -> Tensor:
        unembedding = stored_unembedding(self._files, self._anatomy)
        if unembedding is None:
            raise ModelError(
                "the model's files hold no unembedding, which basis "
                f"'{self._basis}' of what writes comes from; set basis to none, or give a whole checkpoint"
            )
        key = unembedding.digest() if unembedding.d_model > DEAR else ""
        return self._directions(unembedding.gram, key, unembedding.d_model, "the unembedding")

    def _directions(self, moment: Callable[[], Tensor], key: str, dim: int, name: str) -> Tensor:
        """Eigenvectors at the wanted end of a spectrum, (dim, k), refused where they are not determined."""
        minor = self._basis == "minor"
        wanted = (lambda: _turned(moment())) if minor else moment
        if dim > DEAR:
            values, vectors = kept_directions(f"{key}-minor" if minor else key, wanted, dim, self._k)
        else:
            values, vectors = eigh_descending(wanted())
        _require_determined(values.clamp_min(0), self._k, name, minor=minor)
        return vectors[:, : self._k].double()


def _require_determined(values: Tensor, k: int, name: str, *, minor: bool) -> None:
    """Refuse directions that only rounding would choose.

    Args:
        values: Eigenvalues of C, or of tr(C) I − C for the weakest first, (d,).
        k: How many of the first are wanted.
        name: What C is of.
        minor: Whether the weakest are wanted.

    Raises:
        EditError: k directions reach into a null space, or do not fill it.
    """
    dim = len(values)
    trace = float(values.sum()) / (dim - 1 if minor else 1)
    energies = trace - values if minor else values
    used = int((energies > _EMPTY * trace).sum())
    undetermined = k < dim - used if minor else k > used
    if used and not undetermined:
        return
    remedy = f"{'a k of at least' if minor else 'a k of at most'} {dim - used if minor else used}, or other layers"
    raise EditError(
        f"{name} has energy in only {used} of {dim} directions, so that {k} {'minor' if minor else 'principal'} ones "
        f"are not determined: give {'more text, ' if 'text' in name else ''}{remedy}"
    )


def _turned(moment: Tensor) -> Tensor:
    """tr(C) I − C: the same eigenvectors, the weakest first, and no eigenvalue below zero."""
    return moment.trace() * torch.eye(len(moment), dtype=moment.dtype, device=moment.device) - moment


def _require_room(projection: Projection, k: int) -> None:
    writes = projection.role in WRITE_ROLES
    dim = projection.d_out if writes else projection.d_in
    if k > dim:
        side = "output" if writes else "input"
        raise EditError(
            f"k {k}: the {side} of layer {projection.layer} {projection.role} has {dim} dimensions; expected at most "
            "as many"
        )
