"""Tables of the gradients probe, and the comparison of objectives in one line."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from scipy import stats
from torch import Tensor

from readwrite_edit.geometry import effective_rank, participation_ratio
from readwrite_edit.geometry.nulls import isotropic_curve
from readwrite_edit.job.result import Result
from readwrite_edit.models.pathways import Projection
from readwrite_edit.probe.delta.subspaces import Side, Subspaces
from readwrite_edit.probe.gradients.outputs import OutputGradients, output_moment, output_site
from readwrite_edit.statistics import Statistics

# What is compared between objectives: column, and the sentence's words for it.
MEASURES: Mapping[str, str] = {
    "prediction_relative": "write-side gradient energy in the prediction subspace",
    "pair_prediction_relative": "the same of the sum over a pair",
    "write_relative_isotropic": "write fraction of the weight gradient",
    "read_relative_isotropic": "read fraction of the weight gradient",
}
_HELD = (1, 16)
_ALPHA = 0.05
_FLOOR = 1e-12


@dataclass(frozen=True)
class _Matrix:
    """One matrix under one objective, and the sides it is measured on."""

    objective: str
    projection: Projection
    moment: Tensor
    weight_gradient: Tensor
    pairs: Tensor | None
    tokens: int
    read: Side | None
    write: Side | None

    @property
    def place(self) -> dict[str, Any]:
        """The columns that say which matrix a row is of."""
        return {"objective": self.objective, "layer": self.projection.layer, "module": self.projection.role}


def gradient_result(
    gradients: Mapping[str, OutputGradients],
    inputs: Statistics,
    projections: Sequence[Projection],
    prediction: Tensor | None,
    *,
    k: int,
    curve: int,
    device: str = "cpu",
    notes: tuple[str, ...] = (),
) -> Result:
    """Tables and verdict of what was collected.

    Args:
        gradients: By objective.
        inputs: Second moments of inputs over the same tokens.
        projections: The matrices.
        prediction: Prediction subspace, (d_model, K), or None where no matrix writes the residual stream.
        k: Dimension of the subspaces in the main table.
        curve: Directions of the curves, eigenvalues of the spectra.
        device: Where eigenvectors are computed.
        notes: For the reader.
    """
    rows: dict[str, list[dict[str, Any]]] = {"layers": [], "spectra": [], "curves": []}
    for matrix in _matrices(gradients, inputs, projections, prediction, k, curve, device):
        values = torch.linalg.eigvalsh(matrix.moment.to(device)).flip(0).clamp_min(0).cpu()
        rows["layers"].append(_layer(matrix, values, k))
        rows["spectra"] += _spectrum(matrix, values, curve)
        rows["curves"] += [row for side in ("read", "write") for row in _curve(matrix, side)]
    order = list(gradients)
    for found in rows.values():
        found.sort(key=lambda row: order.index(row["objective"]))
    frames = {name: pd.DataFrame(found) for name, found in rows.items()}
    frames["comparison"] = compare_objectives(frames["layers"], order)
    figures = _figures(frames["layers"], gradients, frames["comparison"])
    return Result("layers", frames, verdict_of_objectives(frames["layers"], frames["comparison"]), figures, notes)


def _matrices(
    gradients: Mapping[str, OutputGradients],
    inputs: Statistics,
    projections: Sequence[Projection],
    prediction: Tensor | None,
    k: int,
    curve: int,
    device: str,
) -> Iterator[_Matrix]:
    reader = Subspaces(inputs, None, k=k, curve=curve, device=device)
    writers = {
        name: Subspaces(None, prediction, output_moment=partial(output_moment, found.statistics), k=k, curve=curve)
        for name, found in gradients.items()
    }
    for projection in projections:
        for name, found in gradients.items():
            site = output_site(projection)
            yield _Matrix(
                objective=name,
                projection=projection,
                moment=output_moment(found.statistics, projection),
                weight_gradient=found.weight_gradients[site],
                pairs=found.pairs.get(site),
                tokens=found.statistics.tokens,
                read=reader.read(projection),
                write=writers[name].write(projection),
            )


def _layer(matrix: _Matrix, values: Tensor, k: int) -> dict[str, Any]:
    projection = matrix.projection
    return {
        **matrix.place,
        "path": projection.module,
        "d_out": projection.d_out,
        "d_in": projection.d_in,
        "k": k,
        "tokens": matrix.tokens,
        "trace": float(values.sum()),
        "effective_rank": effective_rank(values),
        "participation_ratio": participation_ratio(values),
        **{f"energy_top_{top}": float(values[:top].sum() / values.sum()) for top in _HELD},
        **_prediction(matrix, k),
        "norm": float(torch.linalg.vector_norm(matrix.weight_gradient)),
        **_side(matrix, "read", k),
        **_side(matrix, "write", k),
    }


def _prediction(matrix: _Matrix, k: int) -> dict[str, float]:
    """Energy of D, and of the sums over pairs, in the prediction subspace, with standard errors over pairs."""
    names = ("prediction", "pair_prediction")
    if matrix.write is None or matrix.pairs is None:
        return {f"{name}_{field}": math.nan for name in names for field in ("energy", "relative", "relative_se")}
    null = min(k, matrix.projection.d_out) / matrix.projection.d_out
    row: dict[str, float] = {}
    for name, columns in zip(names, matrix.pairs.double().split(2, dim=1), strict=True):
        share, error = ratio_with_error(columns[:, 0].numpy(), columns[:, 1].numpy())
        row |= {f"{name}_energy": share, f"{name}_relative": share / null, f"{name}_relative_se": error / null}
    return row


def ratio_with_error(part: NDArray[np.float64], whole: NDArray[np.float64]) -> tuple[float, float]:
    """Σ part / Σ whole with its jackknife standard error over the entries; NaN where not defined."""
    if not whole.sum() > 0:
        return math.nan, math.nan
    ratio, count = float(part.sum() / whole.sum()), len(part)
    rest = whole.sum() - whole
    if count < 2 or not (rest > 0).all():
        return ratio, math.nan
    without = (part.sum() - part) / rest
    return ratio, float(np.sqrt((count - 1) / count * np.square(without - without.mean()).sum()))


def _fractions(matrix: _Matrix, name: str) -> tuple[Tensor, Side] | None:
    """Fractions of G on one side for every k, (K,), float64."""
    side = matrix.read if name == "read" else matrix.write
    if side is None:
        return None
    gradient = matrix.weight_gradient if name == "read" else matrix.weight_gradient.T
    energy = (gradient @ side.basis).double().square().sum(dim=0)
    return energy.cumsum(0) / gradient.double().square().sum(), side


def _side(matrix: _Matrix, name: str, k: int) -> dict[str, float]:
    fields = ("fraction", "isotropic_null", "energy_null", "relative_isotropic", "relative_energy")
    found = _fractions(matrix, name)
    if found is None:
        return {f"{name}_{field}": math.nan for field in fields}
    fractions, side = found
    place = min(k, len(fractions)) - 1
    fraction, isotropic = float(fractions[place]), (place + 1) / side.basis.shape[0]
    energy = math.nan if side.energy is None else float(side.energy[place])
    values = (fraction, isotropic, energy, fraction / isotropic, fraction / energy if energy else math.nan)
    return {f"{name}_{field}": value for field, value in zip(fields, values, strict=True)}


def _spectrum(matrix: _Matrix, values: Tensor, leading: int) -> Iterator[dict[str, Any]]:
    cumulative = values.cumsum(0) / values.sum()
    for index, (value, share) in enumerate(zip(values[:leading].tolist(), cumulative.tolist(), strict=False), 1):
        yield {**matrix.place, "index": index, "eigenvalue": value, "cumulative": share}


def _curve(matrix: _Matrix, name: str) -> Iterator[dict[str, Any]]:
    found = _fractions(matrix, name)
    if found is None:
        return
    fractions, side = found
    shape = (matrix.projection.d_out, matrix.projection.d_in)
    null = isotropic_curve(shape, len(fractions), side=name)
    energy = [math.nan] * len(fractions) if side.energy is None else side.energy.tolist()
    columns = zip(fractions.tolist(), *(part.tolist() for part in null), energy, strict=True)
    for k, (fraction, isotropic, low, high, of_energy) in enumerate(columns, 1):
        yield {
            **matrix.place,
            "side": name,
            "k": k,
            "fraction": fraction,
            "isotropic_null": isotropic,
            "isotropic_low": low,
            "isotropic_high": high,
            "energy_null": of_energy,
        }


def compare_objectives(layers: pd.DataFrame, objectives: Sequence[str]) -> pd.DataFrame:
    """Each measure under an objective and the next, paired over layers.

    Args:
        layers: The table ``layers``.
        objectives: In the order of the comparison.

    Returns:
        One row a measure and pair: means over matrices, the geometric mean of the ratio over layers, and the
        two-sided p-value of a signed-rank test of its logarithm.
    """
    columns = ["measure", "first", "second", "matrices", "layers", "first_mean", "second_mean", "ratio", "p"]
    rows = [_compared(layers, measure, first, second) for first, second in pairwise(objectives) for measure in MEASURES]
    return pd.DataFrame([row for row in rows if row["layers"]], columns=columns)


def _compared(layers: pd.DataFrame, measure: str, first: str, second: str) -> dict[str, Any]:
    table = layers.pivot_table(index=["layer", "module"], columns="objective", values=measure, aggfunc="first")
    both = table.reindex(columns=[first, second]).dropna()
    logs = np.log(both.clip(lower=_FLOOR))
    by_layer = (logs[first] - logs[second]).groupby(level="layer").mean().to_numpy()
    tested = len(by_layer) > 1 and bool(by_layer.any())
    return {
        "measure": measure,
        "first": first,
        "second": second,
        "matrices": len(both),
        "layers": len(by_layer),
        "first_mean": float(both[first].mean()),
        "second_mean": float(both[second].mean()),
        "ratio": math.exp(by_layer.mean()) if len(by_layer) else math.nan,
        "p": float(stats.wilcoxon(by_layer).pvalue) if tested else math.nan,
    }


def verdict_of_objectives(layers: pd.DataFrame, comparison: pd.DataFrame) -> str | None:
    """The main measures in one line; None where no matrix writes the residual stream.

    Args:
        layers: The table ``layers``.
        comparison: See ``compare_objectives``.
    """
    names = list(dict.fromkeys(layers["objective"]))
    parts: list[str] = []
    for measure, words in MEASURES.items():
        means = layers.dropna(subset=[measure]).groupby("objective", sort=False)[measure].agg(["mean", "count"])
        if means.empty or (measure.startswith("read") and parts == []):
            continue
        shown = ", ".join(f"{means.loc[name, 'mean']:.2f} under {name}" for name in names if name in means.index)
        tests = [_tested(row) for _, row in comparison[comparison["measure"] == measure].iterrows()]
        parts.append(f"{words} {shown} times k/d{''.join(f' ({test})' for test in tests)}")
    if not parts:
        return None
    k = int(layers["k"].iloc[0])
    return f"{'; '.join(parts)}; k = {k}, means over matrices, tests paired over layers"


def _tested(row: pd.Series) -> str:
    if math.isnan(row["p"]):
        return f"{row['first']} against {row['second']} not tested"
    if row["p"] >= _ALPHA:
        return f"no difference shown, p = {row['p']:.2g}"
    higher, lower = (row["first"], row["second"]) if row["ratio"] > 1 else (row["second"], row["first"])
    return f"{higher} above {lower}, p = {row['p']:.2g}"


def _figures(
    layers: pd.DataFrame, gradients: Mapping[str, OutputGradients], comparison: pd.DataFrame
) -> dict[str, float | int | None]:
    figures: dict[str, float | int | None] = {}
    for name, found in gradients.items():
        rows = layers[layers["objective"] == name]
        figures[f"{name}_loss"] = found.loss
        for measure in ("effective_rank", *MEASURES):
            figures[f"{name}_{measure}"] = float(rows[measure].mean())
    for row in comparison.to_dict("records"):
        figures[f"{row['first']}_over_{row['second']}_{row['measure']}"] = row["ratio"]
        figures[f"{row['first']}_over_{row['second']}_{row['measure']}_p"] = row["p"]
    return figures
