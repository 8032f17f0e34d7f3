"""Edits of 4-bit and 8-bit bases through the adapter, with bitsandbytes."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import PreTrainedModel

from readwrite_edit.edit import EditRecipe, prepare_edit, start_edit
from readwrite_edit.models.loading import load_model
from readwrite_edit.models.pathways import find_pathways, weight_of
from readwrite_edit.models.source import parse_source
from tests.small_runs import write_model

pytest.importorskip("bitsandbytes")
QUANTISED = pytest.mark.parametrize("quantization", ["nf4", "int8"])
IDS = torch.arange(5, 17).reshape(2, 6)


def quantised(folder: Path, quantization: str) -> PreTrainedModel:
    return load_model(parse_source(str(folder)), quantization=quantization).requires_grad_(False)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("quantised") / "base"
    write_model(folder)
    return folder


def restored(model: PreTrainedModel, base: Path) -> PreTrainedModel:
    """The unquantised model with the weights that the quantised one stands for."""
    plain = load_model(parse_source(str(base))).requires_grad_(False)
    for found in find_pathways(model).projections:
        plain.get_submodule(found.module).weight.data.copy_(weight_of(model, found))
    return plain


@QUANTISED
def test_reading_weights_leaves_the_model_as_it_is(base: Path, quantization: str) -> None:
    """What was read computes what the quantised model does, up to the precision of its arithmetic."""
    model = quantised(base, quantization)
    with torch.no_grad():
        before = model(IDS).logits
        expected = restored(model, base)(IDS).logits
        assert torch.equal(model(IDS).logits, before)
    assert (before - expected).norm() <= 0.03 * expected.norm()


def test_gradients_pass_through_four_bits_after_a_pass_without(base: Path) -> None:
    """They are those of the restored weights, and no operator lacks its derivative."""
    model, found = quantised(base, "nf4"), []
    for one in (model, restored(model, base)):
        with torch.no_grad():
            one(IDS)
        given = one.get_input_embeddings()(IDS).detach().requires_grad_(True)
        with warnings.catch_warnings():
            warnings.filterwarnings("error", message=".*autograd kernel.*")
            found.append(torch.autograd.grad(one(inputs_embeds=given).logits.logsumexp(-1).sum(), given)[0])
    assert torch.nn.functional.cosine_similarity(found[0].flatten(), found[1].flatten(), dim=0) > 0.99


@QUANTISED
def test_an_edit_runs_to_its_certificate(base: Path, tmp_path: Path, quantization: str) -> None:
    fact = {"prompt": "the cat sat on a", "subject": "cat", "target": "b"}
    sections: dict[str, Any] = {
        "model": {"path": str(base), "quantization": quantization},
        "associate": {"facts": [fact], "layers": [0], "prefixes": 0},
        "statistics": {"tokens": 300, "max_length": 32, "batch_size": 4},
        "measure": {"tokens": 60, "max_new_tokens": 2},
        "controls": {"count": 3, "others": 1},
        "ledger": {"enter": False},
    }
    outcome = start_edit(prepare_edit(EditRecipe.model_validate(sections)), tmp_path / "run", "quantised", "command")
    assert outcome.summary["certificate"]["passed"]
