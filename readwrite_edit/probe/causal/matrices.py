"""The matrices that the causal probe edits: their spectra, norms and output directions."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import PreTrainedModel

from readwrite_edit.errors import ModelError
from readwrite_edit.geometry import eigh_descending
from readwrite_edit.interventions.controls import head_block, random_directions, seed_of
from readwrite_edit.models.architectures import WRITE_ROLES
from readwrite_edit.models.pathways import Pathways, Projection, weight_of
from readwrite_edit.models.unembedding import model_prediction_basis, token_direction
from readwrite_edit.probe.causal.plan import Matrix, Neighbour
from readwrite_edit.probe.settings.causal import CausalSettings
from readwrite_edit.statistics import Statistics

_QUERY, _KEYS = ("q_proj",), ("k_proj", "v_proj")


def neighbour_of(projection: Projection, pathways: Pathways) -> Projection | None:
    """The same role in the next layer, or in the one before the last; None where there is none."""
    near = {p.layer: p for p in pathways.projections if p.role == projection.role}
    found = near.get(projection.layer + 1) or near.get(projection.layer - 1)
    return found if found and (found.d_out, found.d_in) == (projection.d_out, projection.d_in) else None


def check_directions(pathways: Pathways, projections: Sequence[Projection], settings: CausalSettings) -> None:
    """Refuse settings that the matrices can not meet.

    Raises:
        ModelError: More directions than dimensions, or no such head.
    """
    for projection in projections:
        narrowest = min(projection.d_in, projection.d_out)
        if settings.directions > narrowest:
            raise ModelError(
                f"{settings.directions} directions: layer {projection.layer} {projection.role} has {narrowest} "
                "dimensions; ask for fewer"
            )
    if settings.head is not None and settings.head >= pathways.n_heads:
        raise ModelError(f"head {settings.head}: {pathways.model_type} here has heads 0 to {pathways.n_heads - 1}")


def build_matrices(
    model: PreTrainedModel,
    pathways: Pathways,
    projections: Sequence[Projection],
    statistics: Statistics,
    settings: CausalSettings,
    *,
    target: int | None = None,
) -> list[Matrix]:
    """Everything about the matrices that edits are made of.

    Args:
        model: Bare model.
        pathways: Of the model.
        projections: Those to edit.
        statistics: Of their inputs and of their neighbours'.
        settings: Of the probe.
        target: Token that write edits push; None takes the prediction subspace.
    """
    needed = set(projections) | {n for p in projections if (n := neighbour_of(p, pathways)) is not None}
    moments = {site: statistics.second_moment(site).cpu() for site in {projection.site for projection in needed}}
    spectra = {site: eigh_descending(moments[site]) for site in {projection.site for projection in projections}}
    written = [projection for projection in projections if projection.role in WRITE_ROLES]
    prediction = model_prediction_basis(model, pathways, written[0].d_out).cpu() if written else None
    pushed = None if target is None or not written else token_direction(model, pathways, target)
    matrices = []
    for projection in projections:
        writes, neighbour = projection in written, neighbour_of(projection, pathways)
        values, vectors = spectra[projection.site]
        basis = prediction if writes else None
        matrices.append(
            Matrix(
                projection=projection,
                norm=float(torch.linalg.matrix_norm(weight_of(model, projection).float())),
                second_moment=moments[projection.site],
                values=values.clamp_min(0),
                vectors=vectors,
                outputs=_outputs(projection, pathways, settings, basis, pushed if writes else None),
                prediction=basis,
                neighbour=None if neighbour is None else Neighbour(neighbour, moments[neighbour.site]),
            )
        )
    return matrices


def _outputs(
    projection: Projection, pathways: Pathways, settings: CausalSettings, basis: Tensor | None, pushed: Tensor | None
) -> Tensor:
    """Output direction of each tested edit, unit rows, shape (directions, d_out).

    On the write side the target's direction, else the i-th prediction direction
    for the i-th principal one; on the read side one random direction, in the
    block of a head where one is named.
    """
    count = settings.directions
    if pushed is not None:
        return pushed.expand(count, -1)
    if basis is not None:
        return basis[:, :count].T
    seed = seed_of(settings.seed, projection.layer, projection.role, "output")
    drawn = random_directions(projection.d_out, 1, seed=seed)[0]
    if settings.head is not None and projection.role in (*_QUERY, *_KEYS):
        drawn = head_block(drawn, _own_head(projection.role, settings.head, pathways), pathways.d_head)
    return drawn.expand(count, -1)


def _own_head(role: str, head: int, pathways: Pathways) -> int:
    """Index among the role's heads: with grouped heads, the key head that serves the query head."""
    return head if role in _QUERY else head * pathways.n_kv_heads // pathways.n_heads
