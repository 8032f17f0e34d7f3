"""Directions by their source: a file, two sets of prompts, principal or prediction directions, a token."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from torch import Tensor, nn

from readwrite_edit.edit.context import Context
from readwrite_edit.edit.direction_file import FILE_TENSOR, read_direction_file
from readwrite_edit.edit.patterns import Format, tokenised
from readwrite_edit.edit.samples import Place, Samples, sample
from readwrite_edit.edit.settings.sources import Direction
from readwrite_edit.edit.subspace import Side, Subspace, carried, orthonormal
from readwrite_edit.errors import EditError
from readwrite_edit.geometry import principal_basis
from readwrite_edit.models.architectures import READ_ROLES, WRITE_ROLES
from readwrite_edit.models.norms import input_norm, output_norm
from readwrite_edit.models.pathways import Projection, weight_of
from readwrite_edit.models.unembedding import model_prediction_basis, token_direction
from readwrite_edit.terminal import printable

_SAME = 1e-5  # difference of means, as a share of the means' length, under which two sets look the same


def resolve_direction(context: Context, direction: Direction, *, side: Side, layer: int, role: str) -> Tensor:
    """The directions of a source, as steps in what one matrix reads or writes.

    Args:
        context: Of the edit.
        direction: The source.
        side: ``write``: of the output; ``read``: of the input.
        layer: Of the matrix.
        role: Of the matrix.

    Returns:
        Orthonormal rows, shape (k, d_out) or (k, d_in), float64, on the CPU. On the write side of o_proj and
        down_proj the residual stream moves along the direction when one of them is added to the output.

    Raises:
        EditError: The source gives no such direction; see :func:`find_subspaces`.
        ModelError: No such matrix, or the direction is one of the residual stream and the matrix is not beside it.
    """
    projection = context.pathways.select([role], [layer])[0]
    return orthonormal(find_subspaces(context, direction, [projection], side=side)[projection].steps)


def find_subspaces(
    context: Context, direction: Direction, projections: Sequence[Projection], *, side: Side
) -> dict[Projection, Subspace]:
    """The directions of a source for several matrices, with one pass over the prompts.

    ========== ================================================== =====================================
    source     write side                                         read side
    ========== ================================================== =====================================
    file       residual stream                                    input of the matrix
    prompts    residual stream after the layer                    input of the matrix
    + layer    residual stream after that layer                   residual stream after that layer
    principal  output: eigenvectors of W C Wᵀ                     input: eigenvectors of C
    prediction residual stream                                    residual stream
    token      residual stream                                    residual stream
    ========== ================================================== =====================================

    Directions of the residual stream are carried through the norm in between.
    On the write side of a matrix that does not write into the stream (q_proj),
    file and prompts speak of its own output.

    Args:
        context: Of the edit.
        direction: The source.
        projections: The matrices.
        side: Which side of them.

    Returns:
        Matrix to subspace; a matrix on which the two sets of prompts look the same is left out.

    Raises:
        EditError: The source is missing, malformed, zero, not finite, of another dimension, or has too many
            directions; a token is several; or the two sets of prompts look the same to all matrices.
        ModelError: The source is of the residual stream, and a matrix does not read or write that.
    """
    streams, rows = _sources(context, direction, projections, side)
    found = {}
    for projection, own in rows.items():
        if not streams:
            basis = orthonormal(own)
            found[projection] = Subspace(basis, basis)
        else:
            found[projection] = carried(context.model, context.pathways, projection, own, side=side)
    return found


def _sources(
    context: Context, direction: Direction, projections: Sequence[Projection], side: Side
) -> tuple[bool, Mapping[Projection, Tensor]]:
    """Whether rows are of the residual stream, and the rows of each matrix, not yet orthonormal."""
    beside = side == "write" and all(projection.role in WRITE_ROLES for projection in projections)
    if direction.file is not None:
        rows = read_direction_file(Path(direction.file))
        for projection in projections:
            _check_dimension(rows, projection, side, direction.file)
        return beside, dict.fromkeys(projections, rows)
    if direction.principal is not None:
        context.statistics(projections)  # of all matrices in one pass over the texts
        return False, {p: _principal(context, direction.principal, p, side) for p in projections}
    if direction.positive:
        return beside or direction.layer is not None, _differences(context, direction, projections, side, beside)
    for projection in projections:
        _check_beside(context, projection, side)
    return True, dict.fromkeys(projections, _predicting(context, direction))


def _predicting(context: Context, direction: Direction) -> Tensor:
    """Directions of the residual stream that predictions are read off along, shape (k, d_model)."""
    model, pathways = context.model, context.pathways
    if direction.token is None:
        k, width = direction.prediction or 1, int(model.config.get_text_config().hidden_size)
        if k > width:
            raise EditError(f"prediction {k}: there are {width} prediction directions; ask for fewer")
        return model_prediction_basis(model, pathways, k).T.cpu()
    row = token_direction(model, pathways, token_id(context, direction.token)).unsqueeze(0)
    final = None if pathways.final_norm is None else model.get_submodule(pathways.final_norm)
    return row - row.mean() if isinstance(final, nn.LayerNorm) else row  # that norm never shows the mean


def token_id(context: Context, token: str) -> int:
    """Id of a token from its text.

    Raises:
        EditError: The text is several tokens, or none that the tokenizer knows.
    """
    ids = context.tokenizer(token, add_special_tokens=False)["input_ids"]
    if len(ids) != 1:
        pieces = ", ".join(repr(context.tokenizer.decode([piece])) for piece in ids) or "none"
        raise EditError(
            printable(f"token {token!r}: is {len(ids)} tokens ({pieces}), expected one; mind a leading space")
        )
    if ids[0] == context.tokenizer.unk_token_id:
        raise EditError(printable(f"token {token!r}: not in the model's vocabulary; expected one of its tokens"))
    return int(ids[0])


def _check_dimension(rows: Tensor, projection: Projection, side: Side, file: str) -> None:
    expected = projection.d_out if side == "write" else projection.d_in
    if rows.shape[1] != expected:
        what = "writes" if side == "write" else "reads"
        raise EditError(
            printable(
                f"{file}: '{FILE_TENSOR}' has shape {tuple(rows.shape)}, expected (k, {expected}): layer "
                f"{projection.layer} {projection.role} {what} {expected} features"
            )
        )


def _principal(context: Context, k: int, projection: Projection, side: Side) -> Tensor:
    """Top eigenvectors of C, or of W C Wᵀ, as rows."""
    C = context.statistics([projection]).second_moment(projection.site).cpu()
    if side == "write":
        W = weight_of(context.model, projection).double().cpu()
        C = W @ C @ W.T
    if k > len(C):
        raise EditError(f"principal {k}: layer {projection.layer} {projection.role} has {len(C)} dimensions there")
    return principal_basis(C, k).T


def _differences(
    context: Context, direction: Direction, projections: Sequence[Projection], side: Side, beside: bool
) -> Mapping[Projection, Tensor]:
    """Difference of the means of the two sets of prompts, (1, d) for each matrix that sees one."""
    if direction.layer is not None:
        for projection in projections:
            _check_beside(context, projection, side)
        source = next((p for p in context.pathways.projections if p.layer == direction.layer), None)
        if source is None:
            last = context.pathways.n_layers - 1
            raise EditError(f"direction.layer {direction.layer}: the model has layers 0 to {last}")
        places = dict.fromkeys(projections, Place("stream", source))
    else:
        what: Literal["stream", "input", "output"] = "stream" if beside else "input" if side == "read" else "output"
        places = {projection: Place(what, projection) for projection in projections}
    samples, positive = labelled_samples(context, direction, list(places.values()))
    found = {
        p: row for p, place in places.items() if (row := difference_of_means(samples.at(place), positive)) is not None
    }
    if not found:
        raise EditError(
            f"the positive and the negative prompts look the same to layer {projections[0].layer} "
            f"{projections[0].role}: expected prompts that differ, at or before their last token and in a way that the "
            "layer can see already (positions: all compares all tokens)"
        )
    return found


def labelled_samples(context: Context, direction: Direction, places: Sequence[Place]) -> tuple[Samples, Tensor]:
    """What the model computes on the positive and the negative prompts.

    Returns:
        The samples, and whether each row is of a positive prompt, shape (n,), bool.
    """
    sequences = prompt_ids(context, (*direction.positive, *direction.negative), direction.format)
    samples = sample(context.model, sequences, places, positions=direction.positions)
    return samples, samples.owners < len(direction.positive)


def prompt_ids(context: Context, prompts: Sequence[str], format: Format) -> list[tuple[int, ...]]:
    """Prompts as the model reads them."""
    return [tokens.ids for tokens in tokenised(prompts, context.tokenizer, format=format)]


def difference_of_means(rows: Tensor, positive: Tensor) -> Tensor | None:
    """Mean over the positive rows less that over the others, (1, d); None where there is none."""
    first, second = rows[positive].mean(dim=0, keepdim=True), rows[~positive].mean(dim=0, keepdim=True)
    return first - second if float((first - second).norm()) > _SAME * float(first.norm() + second.norm()) else None


def _check_beside(context: Context, projection: Projection, side: Side) -> None:
    """Refuse a direction of the residual stream for a matrix that is not beside it."""
    roles = READ_ROLES if side == "read" else WRITE_ROLES
    if projection.role not in roles:
        (input_norm if side == "read" else output_norm)(context.model, context.pathways, projection)
