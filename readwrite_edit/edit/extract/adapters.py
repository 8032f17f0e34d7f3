"""``project-adapter``: the part of an existing LoRA adapter that lies in chosen pathways and subspaces."""

from __future__ import annotations

from collections.abc import Sequence

from readwrite_edit.edit.context import Context
from readwrite_edit.edit.extract.checkpoints import base_checkpoint, widths
from readwrite_edit.edit.extract.parts import part_of
from readwrite_edit.edit.extract.subspaces import Subspaces
from readwrite_edit.edit.extract.summary import plan_of
from readwrite_edit.edit.plan import Plan
from readwrite_edit.edit.settings.extract import ProjectAdapter
from readwrite_edit.errors import AdapterError, EditError, ModelError
from readwrite_edit.models.pathways import Pathways, Projection
from readwrite_edit.models.tensor_files import TensorFiles
from readwrite_edit.probe.checkpoint import Checkpoint, resolve_checkpoint
from readwrite_edit.probe.delta.anatomy import anatomy_of
from readwrite_edit.probe.delta.factors import Factors, read_factors

_FEW = 4


def base_of_adapter(path: str) -> str:
    """The model that an adapter's files, or its run's recipe, name as its base; of the Hub with ``@revision``.

    Args:
        path: Adapter folder, run folder or Hub id of an adapter.

    Raises:
        EditError: It is a full model.
        AdapterError: It names no base, or is damaged.
    """
    base = _adapter(path).base
    if not base:
        raise AdapterError(f"{path} names no base model: name it (--model, or model.path in a recipe)")
    return base


def plan_project_adapter(context: Context) -> Plan:
    """Project an adapter's updates and compress what is left, from the factors alone.

    ΔW = B A becomes B (A U Uᵀ) for what reads and (V Vᵀ B) A for what writes;
    a QR of each factor and the SVD of the small core give the best rank r.

    Args:
        context: With the recipe; ``model`` is the adapter's base.

    Returns:
        The changes, and the table ``matrices`` with the energy that each keeps.

    Raises:
        EditError: The adapter changes nothing there, or is a full model.
        AdapterError: It is damaged, of another base, or its update is not B A.
        DataError: Statistics are missing, damaged or of another model.
    """
    options = context.recipe.intervention
    assert isinstance(options, ProjectAdapter)
    base, adapter = base_checkpoint(context), _adapter(options.adapter)
    if not options.unrelated:
        _require_base(adapter, base)
    anatomy = anatomy_of(base.source)
    factors = read_factors(adapter, anatomy)
    selected = _selected(factors, anatomy.pathways, options)
    with TensorFiles(base.files) as files:
        subspaces = Subspaces(context, options, files, anatomy, selected)
        parts = []
        for projection in selected:
            update = factors.of(projection)
            assert update is not None
            parts.append(part_of(projection, update, subspaces.of(projection), options))
    return plan_of(parts, options, name=adapter.name, widths=widths(anatomy), notes=_left_out(factors, selected))


def _adapter(path: str) -> Checkpoint:
    found = resolve_checkpoint(path)
    if found.kind == "model":
        raise EditError(f"{path} is a full model, not an adapter: use readwrite-edit edit extract MODEL {path}")
    return found


def _require_base(adapter: Checkpoint, base: Checkpoint) -> None:
    if adapter.base_id is not None and adapter.base_id != base.model_id:
        raise AdapterError(
            f"{adapter.name} is of {adapter.base}, not of {base.name}: name its own base, or go on with --unrelated "
            "where the two are the same weights"
        )


def _selected(factors: Factors, pathways: Pathways, options: ProjectAdapter) -> tuple[Projection, ...]:
    """Matrices to keep that the adapter changes."""
    chosen = pathways.projections if options.modules is None else pathways.select(options.modules)
    if options.layers != "all":
        beyond = [layer for layer in options.layers if layer >= pathways.n_layers]
        if beyond:
            raise ModelError(f"layer {beyond[0]}: {pathways.model_type} here has layers 0 to {pathways.n_layers - 1}")
        chosen = tuple(projection for projection in chosen if projection.layer in options.layers)
    changed = tuple(projection for projection in chosen if factors.of(projection) is not None)
    if not changed:
        raise AdapterError(
            f"{options.adapter} adapts none of the {len(chosen)} chosen matrices; it adapts "
            f"{_listed(sorted(factors.modules))}"
        )
    return changed


def _left_out(factors: Factors, selected: Sequence[Projection]) -> list[str]:
    found = [f"{misfit.name}: {misfit.detail.removesuffix('; not measured')}; left out" for misfit in factors.misfits]
    kept = {f"{projection.module}.weight" for projection in selected}
    others = sorted(name for name in factors.modules if name not in kept)
    if others:
        found.append(f"{len(others)} adapted modules are not among the chosen pathways, left out: {_listed(others)}")
    return found


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:_FEW]) + (", …" if len(names) > _FEW else "")
