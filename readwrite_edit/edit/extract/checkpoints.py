"""``extract``: the best adapter of what a full fine-tune changed in chosen pathways and subspaces."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing

from readwrite_edit.edit.context import Context
from readwrite_edit.edit.extract.deltas import changed_biases, read_delta, rows_of
from readwrite_edit.edit.extract.parts import Part, part_of
from readwrite_edit.edit.extract.subspaces import Subspaces
from readwrite_edit.edit.extract.summary import plan_of
from readwrite_edit.edit.plan import Plan
from readwrite_edit.edit.settings.extract import Extract
from readwrite_edit.errors import EditError, ModelError
from readwrite_edit.models.loading import model_folder
from readwrite_edit.probe.checkpoint import Checkpoint, resolve_checkpoint
from readwrite_edit.probe.delta.anatomy import Anatomy
from readwrite_edit.probe.delta.comparison import Comparison, compare
from readwrite_edit.probe.delta.pairing import Pair
from readwrite_edit.progress import progress_bar

_FEW = 4


def plan_extract(context: Context) -> Plan:
    """Take a tuned model's change apart, one pair of stored tensors at a time.

    For each chosen matrix ΔW = W_tuned − W_base is projected (ΔW U Uᵀ for what
    reads, V Vᵀ ΔW for what writes) and truncated to the best rank r. Neither
    model is built; the base is loaded only to collect statistics for a basis.

    Args:
        context: With the recipe; ``model`` is the base.

    Returns:
        The changes, and the table ``matrices`` with the energy that each keeps.

    Raises:
        EditError: Nothing differs, or the tuned model is an adapter.
        ModelError: The two do not fit together, lack a chosen matrix, or a file is damaged.
        DataError: Statistics are missing, damaged or of another model.

    Source: Eckart and Young, Psychometrika 1 (1936); the subspaces are those of arXiv 2605.16600.
    """
    options = context.recipe.intervention
    assert isinstance(options, Extract)
    base, tuned = base_checkpoint(context), resolve_checkpoint(options.tuned)
    if tuned.kind == "adapter":
        raise EditError(
            f"{options.tuned} is an adapter, not a full model: use readwrite-edit edit project-adapter {options.tuned}"
        )
    layers = None if options.layers == "all" else options.layers
    compared = compare(base, tuned, modules=options.modules, layers=layers, unrelated=options.unrelated)
    with closing(compared) as comparison:
        _require_all(comparison)
        subspaces = Subspaces(context, options, comparison.base, comparison.anatomy, comparison.selected)
        parts = _parts(comparison, subspaces, options)
        notes = [*_notes(comparison), *_of_quantization(context)]
    return plan_of(parts, options, name=tuned.name, widths=widths(comparison.anatomy), notes=notes)


def base_checkpoint(context: Context) -> Checkpoint:
    """Files of the recipe's model, without loading it."""
    wanted = context.recipe.model
    name = f"{wanted.path}@{wanted.revision}" if wanted.revision else wanted.path
    return Checkpoint(name, "model", model_folder(context.source))


def widths(anatomy: Anatomy) -> dict[str, int]:
    """Output features of each module with a projection, all roles together."""
    return {
        name.removesuffix(".weight"): anatomy.shapes[name][1 if name in anatomy.transposed else 0]
        for name in anatomy.projections
    }


def _parts(comparison: Comparison, subspaces: Subspaces, options: Extract) -> list[Part]:
    parts = []
    pairs = [pair for pair in comparison.pairs if pair.projections]
    with progress_bar("change of the tuned model", "tensor") as advance:
        for done, pair in enumerate(pairs):
            advance(done, len(pairs))
            parts += _parts_of(comparison, pair, subspaces, options)
        advance(len(pairs), len(pairs))
    return parts


def _parts_of(comparison: Comparison, pair: Pair, subspaces: Subspaces, options: Extract) -> list[Part]:
    assert comparison.tuned is not None
    delta = read_delta(comparison.base, comparison.tuned, pair)
    return [part_of(p, rows_of(delta, p), subspaces.of(p), options) for p in pair.projections]


def _require_all(comparison: Comparison) -> None:
    """Refuse to leave out a chosen matrix by silence.

    Raises:
        ModelError: One is missing, of another shape or not stored as plain numbers.
    """
    paired = {projection for pair in comparison.pairs for projection in pair.projections}
    lacking = [projection for projection in comparison.selected if projection not in paired]
    if not lacking:
        return
    name = f"{lacking[0].module}.weight"
    reason = next((f"{name}: {found.detail}" for found in comparison.misfits if found.name == name), name)
    raise ModelError(
        f"{len(lacking)} of {len(comparison.selected)} chosen matrices can not be compared, such as {reason}; choose "
        "other modules or layers, or give full weights of both"
    )


def _notes(comparison: Comparison) -> list[str]:
    assert comparison.tuned is not None
    found = [f"{misfit.name}: {misfit.detail}" for misfit in comparison.misfits]
    biases = changed_biases(comparison.base, comparison.tuned, comparison.pairs)
    if biases:
        listed = ", ".join(biases[:_FEW]) + (", …" if len(biases) > _FEW else "")
        found.append(f"{len(biases)} biases of the chosen matrices changed too and are not in the adapter: {listed}")
    found.append("shares are of the change of the chosen matrices; no other tensor was looked at")
    return found


def _of_quantization(context: Context) -> Sequence[str]:
    if context.recipe.model.quantization is None:
        return []
    return [
        f"the change is that of the stored weights; in {context.recipe.model.quantization} the adapter adds it to the "
        "quantised ones, whose own rounding stays"
    ]
