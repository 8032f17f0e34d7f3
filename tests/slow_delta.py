"""The delta probe's numbers the slow way: both models in memory, every matrix in float64, one formula a number."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import nn
from transformers import AutoModelForCausalLM

from readwrite_edit.models.pathways import Projection, find_pathways, weight_of
from readwrite_edit.statistics.moments import Moments, Statistics
from readwrite_edit.statistics.store import write_statistics

Matrix = NDArray[np.float64]
WRITERS = ("o_proj", "down_proj")


def load(folder: Path) -> Any:
    """A model as stock transformers loads it, in the types of its file."""
    return AutoModelForCausalLM.from_pretrained(folder, dtype="auto")


def random_moments(model: nn.Module, seed: int = 0) -> dict[str, Matrix]:
    """A second moment for every input of a model, with eigenvalues that are far apart."""
    generator = np.random.default_rng(seed)
    moments = {}
    for projection in find_pathways(model).projections:
        if projection.site not in moments:
            inputs = generator.normal(size=(3 * projection.d_in, projection.d_in))
            moments[projection.site] = np.cov(inputs * np.geomspace(1, 0.05, projection.d_in), rowvar=False)
    return moments


def write_moments(path: Path, moments: Mapping[str, Matrix]) -> Path:
    """The moments as a statistics file of 10 tokens whose inputs have mean zero."""
    sites = {name: Moments(torch.tensor(c * 10), torch.zeros(len(c)).double(), 10, 0.1) for name, c in moments.items()}
    write_statistics(path, Statistics(sites, 10))
    return path


def prediction_directions(model: Any) -> Matrix:
    """Right singular vectors of the unembedding as the residual stream sees it, largest first, (d_model, d_model)."""
    pathways = find_pathways(model)
    head = as_numpy(model.get_output_embeddings().weight)
    if pathways.output_projection is not None:
        head = head @ as_numpy(model.get_submodule(pathways.output_projection).weight)
    head = head - head.mean(axis=0)
    if pathways.final_norm is not None:
        head = head * (as_numpy(model.get_submodule(pathways.final_norm).weight) + pathways.norm_gain_offset)
    return np.linalg.eigh(head.T @ head)[1][:, ::-1]


def as_numpy(tensor: torch.Tensor) -> Matrix:
    return tensor.detach().double().numpy()


def head_slices(projection: Projection, d_head: int) -> list[tuple[slice, slice]]:
    """Rows of a head in what reads, columns in o_proj; none elsewhere."""
    if projection.role in ("q_proj", "k_proj", "v_proj"):
        return [(slice(start, start + d_head), slice(None)) for start in range(0, projection.d_out, d_head)]
    if projection.role == "o_proj":
        return [(slice(None), slice(start, start + d_head)) for start in range(0, projection.d_in, d_head)]
    return []


def share(part: Matrix, whole: Matrix) -> float:
    """Of the squared Frobenius norm; NaN of a zero matrix."""
    total = (whole**2).sum()
    return float((part**2).sum() / total) if total else np.nan


def slow_row(base: Matrix, tuned: Matrix, moment: Matrix | None, predicted: Matrix | None, k: int) -> dict[str, float]:
    """What the table ``geometry`` must say of one matrix."""
    delta = tuned - base
    row = {
        "norm": np.sqrt((delta**2).sum()),
        "relative_norm": np.sqrt((delta**2).sum() / (base**2).sum()),
        "cosine": (base * tuned).sum() / np.sqrt((base**2).sum() * (tuned**2).sum()),
        "changed_fraction": (delta != 0).mean(),
        "stable_rank": np.nan,
        "effective_rank": np.nan,
    }
    if delta.any():
        shares = np.linalg.svd(delta, compute_uv=False) ** 2 / (delta**2).sum()
        shares = shares[shares > 0]
        row |= {"stable_rank": 1 / shares.max(), "effective_rank": np.exp(-(shares * np.log(shares)).sum())}
    if moment is not None:
        values, vectors = np.linalg.eigh(moment)
        row |= {
            "read_fraction": share(delta @ vectors[:, ::-1][:, :k], delta),
            "read_isotropic_null": k / delta.shape[1],
            "read_energy_null": values[::-1][:k].sum() / values.sum(),
        }
    if predicted is not None:
        row |= {
            "write_fraction": share(predicted[:, :k].T @ delta, delta),
            "write_isotropic_null": k / delta.shape[0],
        }
    return row


def check_geometry(
    tables: Mapping[str, pd.DataFrame],
    base: Any,
    tuned: Any,
    moments: Mapping[str, Matrix],
    k: int,
    *,
    projections: list[Projection] | None = None,
    tolerance: float = 1e-6,
) -> int:
    """Compare every number of every matrix and head with the slow ones; returns how many were compared."""
    pathways = find_pathways(base)
    predicted = prediction_directions(base)
    rows = {(row["layer"], row["module"], row["path"]): row for row in tables["geometry"].to_dict("records")}
    heads = {(row["layer"], row["module"], row["head"]): row for row in tables["heads"].to_dict("records")}
    chosen = list(pathways.projections) if projections is None else projections
    compared = 0
    for projection in chosen:
        before, after = as_numpy(weight_of(base, projection)), as_numpy(weight_of(tuned, projection))
        moment = moments.get(projection.site)
        written = predicted if projection.role in WRITERS else None
        place = (projection.layer, projection.role, projection.module)
        expected = slow_row(before, after, moment, written, k)
        for name, value in expected.items():
            assert close(rows[place][name], value, tolerance), (place, name, rows[place][name], value)
            compared += 1
        for head, (part_rows, part_columns) in enumerate(head_slices(projection, pathways.d_head)):
            found = heads.get((projection.layer, projection.role, head))
            part = (after - before)[part_rows, part_columns]
            side_moment = moment if part_columns == slice(None) else None
            compared += _check_head(found, part, side_moment, written, k, tolerance)
    return compared


def _check_head(
    found: Mapping[str, Any] | None, delta: Matrix, moment: Matrix | None, predicted: Matrix | None, k: int, tol: float
) -> int:
    if moment is None and predicted is None:
        assert found is None
        return 0
    assert found is not None
    if moment is not None:
        value = share(delta @ np.linalg.eigh(moment)[1][:, ::-1][:, :k], delta)
    else:
        assert predicted is not None
        value = share(predicted[:, :k].T @ delta, delta)
    assert close(found["fraction"], value, tol), (found, value)
    assert close(found["norm"], np.sqrt((delta**2).sum()), tol)
    return 2


def close(found: float | None, value: float, tolerance: float) -> bool:
    """Equal to a tolerance relative to the value where it is above 1; None is NaN."""
    number = np.nan if found is None else float(found)
    if np.isnan(number) or np.isnan(value):
        return bool(np.isnan(number) and np.isnan(value))
    return abs(number - value) <= tolerance * max(1.0, abs(value))
