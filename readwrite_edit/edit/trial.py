"""An edit tried on before a run begins: what stock PEFT refuses, and what leaves the model without finite outputs."""

from __future__ import annotations

import math

import torch
from peft import PeftModel

from readwrite_edit.edit.assembly import ASK_LESS
from readwrite_edit.edit.context import Context
from readwrite_edit.edit.files import attach, detach, probe_ids
from readwrite_edit.edit.overlaps import by_matrix
from readwrite_edit.edit.plan import Plan
from readwrite_edit.errors import EditError
from readwrite_edit.interventions.forward import final_hidden
from readwrite_edit.models.language_head import language_model_head
from readwrite_edit.models.loading import build_meta_model
from readwrite_edit.models.pathways import unwrap

_PROMPTS = 4


def try_on(context: Context, plan: Plan) -> None:
    """Put an edit on as stock PEFT will and let the model read a few short texts with it.

    Where the model's weights are not needed (:attr:`Context.without_weights`) nothing is computed.

    Args:
        context: Of the edit.
        plan: The edit; its first prompts are read, and two short texts.

    Raises:
        EditError: Nothing changes, a number is not finite, stock PEFT can not put a layer on one of the matrices, or
            the edited model's outputs are not finite.
    """
    if context.without_weights:
        attach(build_meta_model(context.source), plan.changes)
        return
    wrapped = attach(context.model, plan.changes)
    try:
        texts = [*probe_ids(context.tokenizer), *(list(prompt.ids) for prompt in plan.prompts[:_PROMPTS])]
        finite = all(_is_finite(wrapped, ids) for ids in texts)
    finally:
        detach(wrapped)
    if not finite:
        raise EditError(f"with this edit the model's outputs are NaN or infinite ({_largest(plan)}): {ASK_LESS}")


def _is_finite(model: PeftModel, ids: list[int]) -> bool:
    bare = unwrap(model)
    with torch.no_grad():
        hidden = final_hidden(bare, torch.tensor([ids], device=model.device))[0]
        return bool(hidden.isfinite().all()) and bool(language_model_head(bare).logits(hidden).isfinite().all())


def _largest(plan: Plan) -> str:
    norms = {
        f"layer {projection.layer} {projection.role}": math.sqrt(float(update.squared_norm()))
        for projection, update in by_matrix(plan.changes).values()
    }
    name = max(norms, key=lambda matrix: norms[matrix])
    return f"largest change: {name}, ‖ΔW‖ {norms[name]:.3g}"
