"""Statistics files that do not belong to an edit's matrices or model are refused; nothing else takes their place."""

from __future__ import annotations

from pathlib import Path

import pytest

from readwrite_edit.edit.context import Context
from readwrite_edit.edit.settings import EditRecipe
from readwrite_edit.errors import DataError, EditError
from readwrite_edit.job.session import Session
from readwrite_edit.statistics import Statistics, collect_token_statistics, write_statistics
from tests.small_runs import write_model


def context_with(model: Path, file: Path) -> Context:
    recipe = {"model": {"path": str(model)}, "statistics": {"file": str(file)}}
    return Context(EditRecipe.model_validate({**recipe, "extract": {"tuned": "x"}}), Session())


@pytest.fixture
def place(tmp_path: Path) -> Path:
    write_model(tmp_path / "llama")
    write_model(tmp_path / "qwen2", "qwen2")
    return tmp_path


def test_a_file_must_hold_the_sites_and_be_of_the_model(place: Path) -> None:
    context = context_with(place / "llama", place / "st.safetensors")
    down, q = (context.pathways.select([role], [0])[0] for role in ("down_proj", "q_proj"))
    found = collect_token_statistics(context.model, [[5, 6, 7, 8]] * 4, [down])
    origin = {"weights_sha256": context.fingerprint}
    write_statistics(place / "st.safetensors", Statistics(found.sites, found.tokens, False, origin))
    assert context.metric(down).tokens == 16
    assert context.statistics_hash([down]) is not None and context.statistics_hash([q]) is None
    with pytest.raises(DataError) as caught:
        context.metric(q)
    assert "no statistics of site 'model.layers.0.attention_input'; it holds model.layers.0.mlp_hidden; " in str(
        caught.value
    )
    kinds = "--sites mlp_hidden,attention_input --save FILE"
    assert str(caught.value).endswith(f"readwrite-edit probe activations {place / 'llama'} {kinds}")
    other = context_with(place / "qwen2", place / "st.safetensors")
    assert other.model is not None
    with pytest.raises(DataError, match="statistics of another model"):
        other.metric(down)


def test_a_context_is_shared_only_by_edits_of_one_model_and_one_statistics(place: Path) -> None:
    context = context_with(place / "llama", place / "a.safetensors")
    assert context.model is context.again(context.recipe).model
    with pytest.raises(EditError, match="context of their own"):
        context.again(context_with(place / "llama", place / "b.safetensors").recipe)
