"""project on every known architecture, on both sides: the edited model itself lacks the direction, or the concept."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from readwrite_edit.edit.directions import labelled_samples
from readwrite_edit.edit.project import plan_project
from readwrite_edit.edit.samples import Place
from readwrite_edit.edit.settings.sources import Direction
from readwrite_edit.interventions.forward import edited
from readwrite_edit.models.architectures import READ_ROLES, WRITE_ROLES
from readwrite_edit.models.norms import input_norm, output_norm
from readwrite_edit.models.pathways import Projection, find_pathways, role_rows, weight_of
from tests.ready_context import ready_context
from tests.tiny_models import TINY

IDS = torch.tensor([[9, 40, 77, 23, 55, 61], [80, 12, 33, 99, 6, 7]])
CONCEPT = {"positive": ["a red house", "the cat sang", "old river"], "negative": ["ran to it", "dogs?", "birds"]}


def passed(model: Any, projections: list[Projection]) -> dict[Projection, tuple[Tensor, Tensor]]:
    """What each matrix reads, and writes in its own rows, in one pass; float64."""
    found, hooks = {}, []

    def keep(projection: Projection, inputs: Tensor, output: Tensor) -> None:
        rows = output.reshape(-1, output.shape[-1])[:, role_rows(projection)].double()
        found[projection] = (inputs.reshape(-1, inputs.shape[-1]).double(), rows.clone())

    for projection in projections:
        module = model.get_submodule(projection.module)
        hooks.append(module.register_forward_hook(lambda _m, given, out, p=projection: keep(p, given[0], out)))
    with torch.no_grad():
        model(IDS)
    for hook in hooks:
        hook.remove()
    return found


def bias(model: Any, projection: Projection) -> Tensor:
    found = model.get_submodule(projection.module).bias
    return torch.zeros(projection.d_out).double() if found is None else found[role_rows(projection)].double()


def unembedded(model: Any, token: int) -> Tensor:
    """The direction of the stream that a token's logit is read along, written out."""
    pathways = find_pathways(model)
    weight, norm = model.get_output_embeddings().weight.double(), model.get_submodule(pathways.final_norm)
    row = (weight[token] - weight.mean(0)) * (norm.weight.double() + pathways.norm_gain_offset)
    return row - row.mean() if isinstance(norm, torch.nn.LayerNorm) else row


@pytest.mark.parametrize("name", sorted(TINY))
def test_a_token_is_removed_from_what_is_written_and_from_what_is_read(name: str) -> None:
    model = TINY[name]()
    roles = find_pathways(model).roles
    context = ready_context(
        model, project={"direction": {"token": "y"}, "modules": roles}, measure={"texts": ["builtin:prose_eval"]}
    )
    plan = plan_project(context)
    r = torch.nn.functional.normalize(unembedded(model, context.tokenizer("y")["input_ids"][-1]), dim=0)
    projections = [change.projection for change in plan.changes]
    assert {projection.role for projection in projections} == set(roles)
    with edited(context.model, [plan.changes]):
        found = passed(context.model, projections)
    for projection in projections:
        x, y = found[projection]
        if projection.role in WRITE_ROLES:
            norm = output_norm(model, context.pathways, projection)
            gain = torch.ones(48).double() if norm is None else norm.gain
            assert float((y @ (gain * r)).abs().max()) < 1e-5
            continue
        norm = input_norm(model, context.pathways, projection)
        gain, offset, inner = torch.ones(48).double(), torch.zeros(48).double(), r
        if norm is not None:
            gain, offset = norm.gain, offset if norm.bias is None else norm.bias
            inner = r - r.mean() if norm.centres else r
        inner = inner / inner.norm()
        normal = (x - offset) / gain
        without = (normal - torch.outer(normal @ inner, inner)) * gain + offset
        wanted = without @ weight_of(model, projection).double().T + bias(model, projection)
        assert torch.allclose(y, wanted, atol=1e-4)
        assert not torch.allclose(y, y + (x - without) @ weight_of(model, projection).double().T, atol=1e-4)


@pytest.mark.parametrize("name", sorted(TINY))
def test_a_concept_is_erased_from_what_is_written_and_from_what_is_read(name: str) -> None:
    """In turn, in the edited model: what o_proj and down_proj write has equal means, and so has what others see."""
    model = TINY[name]()
    roles = find_pathways(model).roles
    source = Direction.model_validate({**CONCEPT, "positions": "all"})
    context = ready_context(
        model, project={"concept": source.model_dump(exclude_unset=True), "modules": roles}, measure={"texts": []}
    )
    plan = plan_project(context)
    places = [Place("output", change.projection) for change in plan.changes]
    before, positive = labelled_samples(context, source, places)
    with edited(context.model, [plan.changes]):
        after, _ = labelled_samples(context, source, places)
    for place in places:
        gaps = [
            float((found.at(place)[positive].mean(0) - found.at(place)[~positive].mean(0)).norm())
            for found in (before, after)
        ]
        assert gaps[1] < 1e-3 * gaps[0], place
    assert {change.projection.role for change in plan.changes} <= {*READ_ROLES, *WRITE_ROLES}
