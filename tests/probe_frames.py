"""Small tables of every kind of probe, and run folders that hold them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

COMMAND = "readwrite-edit probe KIND base-model tuned-model --k 4"
READERS, WRITERS = ("q_proj", "k_proj"), ("o_proj", "down_proj")
LAYERS, WIDTH, K = 3, 12, 4


def geometry_frame() -> pd.DataFrame:
    """Read side of q and k at twice k/d, write side of o and down at their null in layer 0, below it in layer 1."""
    return pd.DataFrame([_matrix(layer, module) for layer in range(LAYERS) for module in (*READERS, *WRITERS)])


def _matrix(layer: int, module: str) -> dict[str, Any]:
    null, reads = K / WIDTH, module in READERS
    write = {0: null, 1: 0.8 * null, 2: 1.5 * null}[layer]
    side = {"isotropic_null": null, "isotropic_low": 0.9 * null, "isotropic_high": 1.1 * null, "isotropic_p": 1e-30}
    return {
        "layer": layer, "module": module, "path": f"layers.{layer}.{module}", "d_out": WIDTH, "d_in": WIDTH, "k": K,
        "read_fraction": 2 * null if reads else None,
        **{f"read_{name}": value if reads else None for name, value in side.items()},
        "read_energy_null": 0.8 if reads else None, "read_energy_p": 1.0 if reads else None,
        "write_fraction": None if reads else write,
        **{f"write_{name}": None if reads else value for name, value in side.items()},
        "write_energy_null": None, "write_energy_p": None,
        "norm": 0.5, "relative_norm": 1e-3, "cosine": 0.9999, "stable_rank": 3.0, "effective_rank": 7.5,
        "spectrum": "exact", "changed_fraction": 0.25, "under_step_fraction": 0.0, "step_dtype": "bfloat16",
    }  # fmt: skip


def curves_frame() -> pd.DataFrame:
    """Cumulative fractions of the same matrices."""
    return pd.DataFrame(
        {
            "layer": layer, "module": module, "side": side, "k": k, "fraction": (k / WIDTH) ** 0.7,
            "isotropic_null": k / WIDTH, "isotropic_low": 0.9 * k / WIDTH, "isotropic_high": min(1, 1.1 * k / WIDTH),
            "energy_null": (k / WIDTH) ** 0.3 if side == "read" else None,
        }
        for layer in range(LAYERS)
        for side, modules in (("read", READERS), ("write", WRITERS))
        for module in modules
        for k in range(1, WIDTH + 1)
    )  # fmt: skip


def heads_frame() -> pd.DataFrame:
    """Two heads of q, k and o."""
    places = [(module, "write" if module == "o_proj" else "read") for module in ("q_proj", "k_proj", "o_proj")]
    return pd.DataFrame(
        {"layer": layer, "module": module, "head": head, "side": side, "k": K, "fraction": 0.5,
         "isotropic_null": K / WIDTH, "energy_null": 0.8, "norm": 0.1}
        for layer in range(LAYERS) for module, side in places for head in range(2)
    )  # fmt: skip


def tensors_frame() -> pd.DataFrame:
    """A measured, an identical and a missing tensor."""
    return pd.DataFrame(
        [
            {
                "name": "layers.0.q_proj.weight",
                "status": "measured",
                "detail": None,
                "norm": 0.5,
                "relative_norm": 1e-3,
            },
            {"name": "norm.weight", "status": "identical", "detail": None, "norm": 0.0, "relative_norm": 0.0},
            {"name": "lm_head.weight", "status": "missing", "detail": "not in the tuned model"},
        ]
    )


def _moments(keys: Mapping[str, Any], layer: int) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    values = [1 / (index * (1 + layer)) for index in range(1, WIDTH + 1)]
    total = sum(values)
    row = {"d": WIDTH, "tokens": 64, "trace": total, "effective_rank": 5.0 + layer, "participation_ratio": 3.0,
           "energy_top_1": 0.5, "energy_top_16": 1.0, "mean_share": 0.2, "first_position_share": 0.1}  # fmt: skip
    spectrum = [
        {**keys, "index": index, "eigenvalue": value, "cumulative": sum(values[:index]) / total}
        for index, value in enumerate(values, 1)
    ]
    return {**keys, **row}, spectrum


def activations_tables() -> dict[str, pd.DataFrame]:
    """Two sites."""
    keys = [{"site": site, "layer": layer} for site in ("attention_input", "mlp_input") for layer in range(LAYERS)]
    found = [_moments(key, key["layer"]) for key in keys]
    convergence = [
        {**key, "tokens": tokens, "effective_rank": 5.0, "overlap_4": tokens / 64, "overlap_16": None}
        for key in keys
        for tokens in (16, 32, 64)
    ]
    return {
        "layers": pd.DataFrame([row for row, _ in found]),
        "spectra": pd.DataFrame([row for _, rows in found for row in rows]),
        "convergence": pd.DataFrame(convergence),
    }


def gradients_tables() -> dict[str, pd.DataFrame]:
    """Two objectives."""
    keys = [
        {"objective": objective, "layer": layer, "module": module}
        for objective in ("sft", "dpo")
        for layer in range(LAYERS)
        for module in ("q_proj", "o_proj")
    ]
    found = [_moments(key, key["layer"]) for key in keys]
    prediction = {"prediction_relative": 2.0, "prediction_relative_se": 0.1}
    layers = [row | (prediction if row["module"] == "o_proj" else {}) for row, _ in found]
    curves = [
        {**key, "side": side, "k": k, "fraction": (k / WIDTH) ** 0.6, "isotropic_null": k / WIDTH,
         "isotropic_low": 0.9 * k / WIDTH, "isotropic_high": 1.1 * k / WIDTH, "energy_null": (k / WIDTH) ** 0.4}
        for key in keys for side in ("read", "write") for k in range(1, WIDTH + 1)
        if side == "read" or key["module"] == "o_proj"
    ]  # fmt: skip
    compared = {"measure": "prediction_relative", "first": "sft", "second": "dpo", "matrices": 3, "layers": 3,
                "first_mean": 3.0, "second_mean": 1.5, "ratio": 2.0, "p": 0.25}  # fmt: skip
    return {
        "layers": pd.DataFrame(layers),
        "comparison": pd.DataFrame([compared]),
        "spectra": pd.DataFrame([row for _, rows in found for row in rows]),
        "curves": pd.DataFrame(curves),
    }


def trajectory_tables() -> dict[str, pd.DataFrame]:
    """Three steps, against the first and the previous."""
    parts = [
        geometry_frame().assign(step=step, checkpoint=f"step{step}", against=against)
        for step in (1, 10, 100)
        for against in ("first", "previous")
    ]
    return {"geometry": pd.concat(parts, ignore_index=True)}


def contrast_tables() -> dict[str, pd.DataFrame]:
    """Three grades and two seeds; the write side has fewer modules."""
    modules = {"read": (*READERS, "all"), "write": (*WRITERS, "all")}
    quantities = ("fraction", "relative_isotropic", "relative_energy")
    places = [(side, module, quantity) for side in modules for module in modules[side] for quantity in quantities]
    contrast = [
        {"grade": grade, "side": side, "module": module, "quantity": quantity, "mean": 2 - grade, "low": 1.9 - grade,
         "high": 2.1 - grade, "n_seeds": 2}
        for side, module, quantity in places for grade in (0.0, 0.5, 1.0)
    ]  # fmt: skip
    trend = {"slope": -1.0, "slope_low": -1.2, "slope_high": -0.8, "change": -1.0, "change_low": -1.1,
             "change_high": -0.9, "spearman": -1.0, "n_seeds": 2, "n_grades": 3}  # fmt: skip
    arm = {"steps": 5, "loss_first": 0.69, "loss_last": 0.6, "held_out_accuracy": 0.5, "delta_norm": 0.1}
    return {
        "contrast": pd.DataFrame(contrast),
        "trend": pd.DataFrame([{"side": s, "module": m, "quantity": q, **trend} for s, m, q in places]),
        "arms": pd.DataFrame([{"grade": g, "seed": s, "module": "q_proj", **arm} for g in (0.0, 1.0) for s in (0, 1)]),
    }


def causal_tables() -> dict[str, pd.DataFrame]:
    """Two matrices with a few controls."""
    families = (("principal", "both", 1), ("sign_flip", "both", 1), ("random", "energy", 9), ("random", "frobenius", 9))
    controls = [
        {"layer": layer, "module": module, "side": side, "direction": 0, "family": family, "factor": "input",
         "matching": matching, "index": index, "dose": dose, "epsilon": dose, "kl": dose**2 * (1 + 0.1 * index),
         "target_change": -dose}
        for layer, module, side in ((1, "q_proj", "read"), (1, "o_proj", "write"))
        for family, matching, count in families for dose in (0.01, 0.1) for index in range(count)
    ]  # fmt: skip
    effect = {"direction": 0, "factor": "input", "relative_norm": 0.1, "kl": 0.02, "low": 0.01, "high": 0.03,
              "control_median": 0.01, "ratio": 2.0, "ratio_low": 1.5, "ratio_high": 2.5, "p_value": 0.1,
              "prompt_p_value": 0.05, "q_value": 0.1, "target_change": -0.02, "target_p_value": 0.2}  # fmt: skip
    frame = pd.DataFrame(controls)
    dose = frame.groupby(["layer", "module", "side", "direction", "family", "factor", "matching", "dose"], sort=False)
    return {
        "effects": pd.DataFrame(
            [{"layer": 1, "module": m, "matching": "energy", **effect} for m in ("q_proj", "o_proj")]
        ),
        "controls": frame,
        "dose": dose.agg(kl=("kl", "mean"), n=("kl", "size")).reset_index(),
    }


def sensitivity_tables() -> dict[str, pd.DataFrame]:
    """Three definitions, one of which turns the verdict."""
    numbers = {"k": 16, "matrices": 12, "read_relative_energy": 0.1, "read_above_isotropic": 5, "asymmetry_p": 0.01,
               "read_tested_isotropic": 6, "write_above_isotropic": 1, "write_tested_isotropic": 6}  # fmt: skip
    definitions = (("as given", "as given", 1, 2.0), ("k", "k = 4", 1, 2.5), ("k", "k = 64", 0, 1.1))
    rows = [
        {"group": group, "variant": variant, "shown": shown, "read_relative_isotropic": read,
         "write_relative_isotropic": 1.1, "asymmetry_ratio": read / 1.1, "asymmetry_low": read / 1.3,
         "asymmetry_high": read, **numbers}
        for group, variant, shown, read in definitions
    ]  # fmt: skip
    return {"variants": pd.DataFrame(rows)}


def delta_tables() -> dict[str, pd.DataFrame]:
    """All of a delta probe."""
    return {
        "geometry": geometry_frame(),
        "curves": curves_frame(),
        "heads": heads_frame(),
        "tensors": tensors_frame(),
    }


TABLES = {
    "delta": delta_tables,
    "activations": activations_tables,
    "gradients": gradients_tables,
    "trajectory": trajectory_tables,
    "contrast": contrast_tables,
    "causal": causal_tables,
    "sensitivity": sensitivity_tables,
}


def write_probe(run: Path, kind: str, tables: Mapping[str, pd.DataFrame] | None = None, **changes: Any) -> Path:
    """Write the folder of a finished probe; ``changes`` replace entries of the summary or of the recipe."""
    run.mkdir(parents=True)
    found = TABLES[kind]() if tables is None else tables
    for name, table in found.items():
        table.to_parquet(run / f"{name}.parquet", index=False)
    settings = {"base": "base-model", "tuned": "tuned-model", "k": K, "centred": False, "layers": None}
    recipe = {"probe": kind, "command": COMMAND.replace("KIND", kind), "settings": settings}
    recipe |= {"provenance": {"torch": "2.13.0"}}
    summary = {"schema": 1, "probe": kind, "main": next(iter(TABLES[kind]())), "tables": sorted(found)}
    summary |= {"verdict": "Shown: the read side; 2 times k/d.", "notes": ["One tensor is missing."]}
    summary |= {"figures": {"read_relative_isotropic": 2.0, "matrices": 12, "write_relative_energy": None}}
    (run / "recipe.yaml").write_text(yaml.safe_dump({name: changes.get(name, value) for name, value in recipe.items()}))
    (run / "summary.json").write_text(json.dumps({name: changes.get(name, value) for name, value in summary.items()}))
    state = {"schema": 1, "status": "finished", "kind": "probe", "recipe": kind, "heartbeat_s": 1.76e9}
    (run / "state.json").write_text(json.dumps(state))
    return run
