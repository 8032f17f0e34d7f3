"""Directions that can not be had, and projections that can not be made: refused with the reason, before anything."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM

from readwrite_edit.edit.project import plan_project
from readwrite_edit.edit.settings import EditRecipe
from readwrite_edit.errors import DataError, EditError, ModelError
from tests.ready_context import ready_context
from tests.tiny_models import TINY, tiny_config

PAIR = {"positive": ["a red house"], "negative": ["the cat sang"]}


@pytest.fixture(scope="module")
def llama() -> Any:
    return TINY["llama"]()


def plan(model: Any, **project: Any) -> None:
    plan_project(ready_context(model, project=project))


@pytest.mark.parametrize(
    ("content", "kind", "message"),
    [
        (None, DataError, "r.safetensors: no such file"),
        (b"not a tensor", DataError, "r.safetensors: not a whole .safetensors file"),
        ({"other": torch.ones(48)}, DataError, "no tensor 'direction'; it holds other"),
        (
            {"direction": torch.ones(50)},
            EditError,
            r"has shape \(1, 50\), expected \(k, 48\): layer 0 o_proj writes 48",
        ),
        ({"direction": torch.ones(2, 3, 48)}, EditError, r"has shape \(2, 3, 48\); expected \(d,\) or \(k, d\)"),
        ({"direction": torch.zeros(48)}, EditError, "has a row of zeros"),
        ({"direction": torch.stack([torch.ones(48), torch.zeros(48)])}, EditError, "has a row of zeros"),
        ({"direction": torch.full((48,), torch.nan)}, EditError, "is not finite"),
        ({"direction": torch.full((48,), torch.inf)}, EditError, "is not finite"),
        ({"direction": torch.ones(0, 48)}, EditError, "has shape"),
        ({"direction": torch.ones(2, 48)}, EditError, "2 directions in 48 dimensions are zero or linearly dependent"),
        ({"direction": torch.eye(49)[:, :48] + 1}, EditError, "49 directions in 48 dimensions"),
    ],
)
def test_a_file_that_holds_no_direction_is_refused(
    tmp_path: Path, llama: Any, content: Any, kind: type[Exception], message: str
) -> None:
    file = tmp_path / "r.safetensors"
    if isinstance(content, bytes):
        file.write_bytes(content)
    elif content is not None:
        save_file(content, file)
    with pytest.raises(kind, match=message):
        plan(llama, direction={"file": str(file)})


@pytest.mark.parametrize(
    ("project", "kind", "message"),
    [
        ({"direction": {"token": "yes"}}, EditError, r"token 'yes': is 3 tokens \('y', 'e', 's'\), expected one"),
        ({"direction": {"token": "é"}}, EditError, "token 'é': not in the model's vocabulary"),
        ({"direction": {"principal": 49}}, EditError, "principal 49: layer 0 o_proj has 48 dimensions"),
        ({"direction": {"prediction": 49}}, EditError, "prediction 49: there are 48"),
        ({"direction": {**PAIR, "layer": 7}}, EditError, "direction.layer 7: the model has layers 0 to 1"),
        ({"direction": {"token": "y"}, "layers": [5]}, ModelError, "layer 5: llama here has layers 0 to 1"),
        ({"direction": {"positive": ["a cat"], "negative": ["a cat"]}}, EditError, "look the same"),
        ({"concept": {"positive": ["a cat"], "negative": ["a cat"]}}, EditError, "look the same"),
        (
            {"direction": {"token": "y"}, "action": "keep", "max_rank": 20},
            EditError,
            "keep: the change of layer 0 o_proj has rank 47 .it removes all but 1 directions., more than max_rank 20",
        ),
        ({"direction": {"principal": 30}, "max_rank": 20}, EditError, "remove: the change of layer 0 o_proj has rank"),
        ({"direction": {"principal": 48}, "action": "keep"}, EditError, "keep: 48 directions are all"),
    ],
)
def test_a_projection_that_can_not_be_made_is_refused(llama: Any, project: Any, kind: type[Exception], message: str):
    with pytest.raises(kind, match=message):
        plan(llama, **project)


@pytest.mark.parametrize(
    ("project", "message"),
    [
        ({"direction": {}}, "given: none; expected exactly one of file"),
        ({"direction": {"token": "y", "principal": 1}}, "given: principal, token; expected exactly one"),
        ({"direction": {"positive": ["a"]}}, "expected prompts on both sides"),
        ({"direction": {"token": "y", "positions": "all"}}, "positions say how prompts are compared"),
        ({"direction": {"token": "y"}, "concept": PAIR}, "expected one of direction and concept"),
        ({}, "expected one of direction and concept"),
        ({"concept": {"positive": ["a"]}}, "concept.negative\n  Field required"),
        ({"concept": {**PAIR, "layer": 1}}, "concept.layer\n  Extra inputs are not permitted"),
        ({"concept": PAIR, "action": "keep"}, "LEACE erases; expected action remove, not keep"),
        ({"direction": {"token": "y"}, "factor": 2.0}, "factor 2 is of action scale"),
        ({"direction": {"token": "y"}, "action": "scale", "factor": 1.0}, "a factor of 1 changes nothing"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(project: Any, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        EditRecipe.model_validate({"model": {"path": "tiny"}, "project": project})


def test_a_chat_for_a_tokenizer_without_a_template_is_refused(llama: Any) -> None:
    context = ready_context(llama, project={"direction": {**PAIR, "format": "chat"}})
    context.tokenizer.chat_template = None
    with pytest.raises(DataError, match="no chat template"):
        plan_project(context)


def test_a_stream_that_is_normalised_itself_has_no_direction_beside_a_matrix() -> None:
    """OPT-350m: the norm comes behind the sum, so what is removed from a summand is not removed from the stream."""
    config = tiny_config("opt")
    config.do_layer_norm_before = False
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config, attn_implementation="eager").eval()
    for modules in (["o_proj"], ["q_proj"]):
        with pytest.raises(ModelError, match="normalises the residual stream itself"):
            plan(model, direction={"token": "y"}, modules=modules)
        plan(model, direction={"principal": 1}, modules=modules)
