"""Small tables of every kind of edit, and run folders that hold them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

COMMAND = "readwrite-edit edit KIND bundled:tiny --prompt 'The Eiffel Tower is in' --controls 9"
EFFECT = 4.0
STATISTIC = "target log-probability, nats per token"
VERDICT = f"beyond its random controls: {STATISTIC}, mean over 6 prompts +4; reached by 0 of 9 random inputs (p = 0.1)"
NOTE = "C was shrunk before it was inverted."
PLACES = ("first_subject", "last_subject", "last")
LAYERS = 3


def preflight_frame(matrices: int = 1) -> pd.DataFrame:
    """Matrices of down_proj and o_proj, layer after layer."""
    return pd.DataFrame(
        {
            "layer": index // 2, "module": ("down_proj", "o_proj")[index % 2], "path": f"layers.{index // 2}.mlp",
            "d_out": 576, "d_in": 1536, "rank": 1, "norm": 2.5, "weight_norm": 50.0, "relative_norm": 0.05,
            "predicted_damage": 0.0123, "predicted_damage_per_output": 2e-5, "output_energy": 3.1,
            "relative_damage": 0.004, "condition": 2.3e5, "raw_condition": 1.1e6, "shrinkage": 0.012, "tokens": 8192.0,
            "under_step_fraction": 0.25, "step_dtype": "bfloat16",
        }
        for index in range(matrices)
    )  # fmt: skip


def price_tables(matrices: int = 1) -> dict[str, pd.DataFrame]:
    """What every edit is priced and measured by."""
    overlap = {"entry": "associate-1", "layer": 0, "module": "down_proj", "path": "layers.0.mlp", "cosine": 0.3,
               "output_cosine": -0.2, "read_overlap": 0.5, "changes_earlier": 1.5,
               "changed_by_earlier": 0.5}  # fmt: skip
    frame = preflight_frame(matrices)
    damage = [
        {"text": name, "layer": row.layer, "module": row.module, "path": row.path,
         "predicted": 0.0123 * (1 + row.layer), "measured": 0.0150 * (1 + row.layer),
         "ratio": 0.015 / 0.0123, "tokens": 1024}
        for name in ("prose", "chat") for row in frame.itertuples()
    ]  # fmt: skip
    texts = [
        {"text": name, "format": "text", "tokens": 1024, "kl": 0.0042, "perplexity_before": 14.2,
         "perplexity_after": 14.3}
        for name in ("prose", "chat")
    ]  # fmt: skip
    return {
        "preflight": frame,
        "overlaps": pd.DataFrame([overlap]),
        "texts": pd.DataFrame(texts),
        "damage": pd.DataFrame(damage),
    }


def outcome_tables() -> dict[str, pd.DataFrame]:
    """Metrics and prompts: the target rises from rank 120 to 1."""
    metrics = [
        {"metric": name, "version": 1, "kind": kind, "n": 6, "items": 1, "before": before, "after": after,
         "change": after - before, "low": after - 0.05, "high": after + 0.05, "change_low": after - before - 0.1,
         "change_high": after - before + 0.1}
        for name, kind, before, after in (
            ("efficacy_success", "prompt", 0.0, 1.0), ("efficacy_probability", "prompt", 0.001, 0.71),
            ("paraphrase_success", "paraphrase", 0.0, 0.8), ("locality_unchanged_top1", "locality", 1.0, 0.9),
        )
    ]  # fmt: skip
    prompts = [
        {"kind": kind, "item": 0, "text": text, "target": target, "true": None, "target_probability_before": 0.001,
         "target_probability_after": 0.71, "target_log_probability_before": -6.9, "target_log_probability_after": -0.34,
         "target_first_probability_before": 0.001, "target_first_probability_after": 0.71, "target_rank_before": 120,
         "target_rank_after": 1, "target_top1_before": False, "target_top1_after": True,
         "true_probability_before": None, "true_probability_after": None, "top_before": " Paris", "top_after": " Rome",
         "top_changed": True, "kl": 3.1}
        for kind, text, target in (
            ("prompt", "The Eiffel Tower is in", " Rome"), ("paraphrase", "You find the Eiffel Tower in", " Rome"),
            ("locality", "The Louvre is in", None),
        )
    ]  # fmt: skip
    return {"metrics": pd.DataFrame(metrics), "prompts": pd.DataFrame(prompts)}


def control_tables() -> dict[str, pd.DataFrame]:
    """Nine random inputs in each matching about 0, the sign flip at −3, the edit at 4."""
    families = [("random_input", "frobenius", 9), ("random_input", "energy", 9), ("random_output", "frobenius", 9),
                ("complement", "energy", 4), ("sign_flip", "both", 1)]  # fmt: skip
    controls = [
        {"family": family, "matching": matching, "index": index, "norm": 2.5, "energy": 0.0123,
         "effect": -3.0 if family == "sign_flip" else 0.05 * (index - 4), "statistic": STATISTIC, "version": 1}
        for family, matching, count in families for index in range(count)
    ]  # fmt: skip
    effects = [
        {"family": family, "matching": matching, "n_controls": count, "n_observations": 6, "effect": EFFECT,
         "control_mean": 0.0, "control_median": 0.0, "control_sd": 0.14 if count > 1 else None, "reached": 0,
         "difference": EFFECT, "low": 3.2, "high": 4.6, "p_value": 1 / (count + 1), "p_value_observations": 0.03,
         "effect_size": EFFECT / 0.14 if count > 1 else None, "statistic": STATISTIC, "version": 1}
        for family, matching, count in families
    ]  # fmt: skip
    return {"controls": pd.DataFrame(controls), "effects": pd.DataFrame(effects)}


def trace_tables() -> dict[str, pd.DataFrame]:
    """Two prompts of four tokens whose MLP at the subject's last token matters in layer 1."""
    tokens = (" Eiff", "el", " is", " in")
    trace = [
        {"prompt": prompt, "kind": kind, "layer": layer, "position": position + 1, "token": token,
         "place": ("first_subject", "last_subject", "further", "last")[position],
         "effect": 0.1 * (layer == 1) * (position == 1) - 0.01, "standard_error": 0.01, "probability": 0.3,
         "kl_effect": 0.5 * (layer == 1) * (position == 1) - 0.02, "kl_standard_error": 0.05}
        for prompt in (0, 1) for kind in ("hidden", "mlp", "attention") for layer in range(LAYERS)
        for position, token in enumerate(tokens)
    ]  # fmt: skip
    layers = [
        {"kind": kind, "layer": layer, "place": place, "n_prompts": 2, "effect": 0.1, "standard_error": 0.01,
         "kl_effect": 0.1 * layer, "kl_standard_error": 0.02, "recovered_fraction": 0.2}
        for kind in ("hidden", "mlp", "attention") for layer in range(LAYERS) for place in PLACES
    ]  # fmt: skip
    traced = {"prompt": 0, "text": "The Eiffel Tower is in", "subject": " Eiffel", "target": " Paris", "given": False,
              "clean_probability": 0.4, "corrupted_probability": 0.1, "corrupted_kl": 1.2}  # fmt: skip
    return {"layers": pd.DataFrame(layers), "trace": pd.DataFrame(trace), "traced": pd.DataFrame([traced])}


def associate_tables() -> dict[str, pd.DataFrame]:
    """One fact; the table of facts has no figure of its own."""
    fact = {"item": 0, "subject": "Eiffel Tower", "target": " Rome", "layer": 1, "margin": 2.0}
    return {"facts": pd.DataFrame([fact]), **outcome_tables(), **control_tables(), **price_tables()}


def attend_tables() -> dict[str, pd.DataFrame]:
    """A head that looks back."""
    score = {"prompt": 0, "text": "a cat sat", "head": 3, "key_value_head": 1, "query_token": 8, "key_token": 4,
             "gate": 1.0, "wanted": 2.0, "score_before": 0.5, "score_after": 2.5, "score_change": 2.0,
             "weight_before": 0.1, "weight_after": 0.4}  # fmt: skip
    without = {"prompt": 0, "text": "a dog sat", "gate_mean": 0.1, "moved_mean": 0.01, "moved_max": 0.05}
    own = {"scores": pd.DataFrame([score]), "without": pd.DataFrame([without])}
    return {**own, **control_tables(), **price_tables()}


def project_tables() -> dict[str, pd.DataFrame]:
    """A concept erased from many matrices."""
    places = [(layer, module) for layer in range(8) for module in ("o_proj", "down_proj")]
    projections = [
        {"layer": layer, "module": module, "side": "write", "action": "remove", "k": 1, "rank": 1,
         "energy_removed_fraction": 0.02 * (1 + layer), "norm_fraction": 0.04}
        for layer, module in places
    ]  # fmt: skip
    concept = {"layer": 0, "module": "o_proj", "side": "write", "vectors": 40, "shrinkage": 0.1, "accuracy_before": 0.9,
               "accuracy_after": 0.5, "separation_before": 2.0, "separation_after": 0.1}  # fmt: skip
    own = {"projections": pd.DataFrame(projections), "concept": pd.DataFrame([concept])}
    return {**own, **outcome_tables(), **control_tables(), **price_tables(16)}


def steer_tables() -> dict[str, pd.DataFrame]:
    """A pattern in one prompt and not in another."""
    patterns = [
        {"kind": "prompt", "prompt": 0, "text": "a cat", "token": 4, "gate": 1.0, "gate_elsewhere": 0.01,
         "gate_elsewhere_max": 0.03},
        {"kind": "locality", "prompt": 0, "text": "a dog", "token": None, "gate": None, "gate_elsewhere": 0.02,
         "gate_elsewhere_max": 0.04},
    ]  # fmt: skip
    return {"patterns": pd.DataFrame(patterns), **control_tables(), **price_tables()}


def extract_tables() -> dict[str, pd.DataFrame]:
    """Four matrices; nothing was aimed at, so there are no controls."""
    matrices = [
        {"layer": layer, "module": module, "path": "p", "d_out": 12, "d_in": 12, "rank": 4, "norm": 1.0,
         "projected_norm": 0.9, "retained_norm": 0.8, "subspace_energy_fraction": 0.81, "retained_fraction": 0.64,
         "retained_of_projected_fraction": 0.79}
        for layer in (0, 1) for module in ("q_proj", "k_proj")
    ]  # fmt: skip
    return {"matrices": pd.DataFrame(matrices), **price_tables(4)}


TABLES = {
    "associate": associate_tables,
    "attend": attend_tables,
    "project": project_tables,
    "steer": steer_tables,
    "extract": extract_tables,
    "project_adapter": extract_tables,
    "locate": trace_tables,
}
GENERATIONS = [{"prompt": "The Eiffel Tower is in", "before": " Paris, France.", "after": " Rome, Italy."}]
CERTIFICATE = {
    "passed": True,
    "checks": [{"name": "logits", "passed": True, "detail": "difference 0", "skipped": False}],
}


def write_edit(run: Path, kind: str, tables: Mapping[str, pd.DataFrame] | None = None, **changes: Any) -> Path:
    """Write the folder of a finished edit; ``changes`` replace entries of the summary."""
    run.mkdir(parents=True)
    found = TABLES[kind]() if tables is None else tables
    for name, table in found.items():
        table.to_parquet(run / f"{name}.parquet", index=False)
    section = {"prompt": "The Eiffel Tower is in", "layers": [1], "limit": None}
    command = COMMAND.replace("KIND", kind)
    recipe: dict[str, Any] = {kind: section, "command": command, "provenance": {"torch": "2.13.0"}}
    if kind == "locate":
        section["model"] = "bundled:tiny"
    else:
        recipe |= {"model": {"path": "bundled:tiny", "revision": None}, "controls": {"count": 9}}
    (run / "recipe.yaml").write_text(yaml.safe_dump(recipe, sort_keys=False))
    trace = kind == "locate"
    summary = {
        "schema": 1, "edit": kind, "title": "causal trace" if trace else "Eiffel Tower → Rome",
        "why": VERDICT if trace else "Layer 1, as a causal trace names it.", "main": next(iter(found), "effects"),
        "tables": sorted(found), "verdict": VERDICT, "notes": [NOTE], "generations": [] if trace else GENERATIONS,
        "figures": {"effect": EFFECT, "predicted_damage": 0.0123, "kl_prose": 0.0042, "odd": None},
        "certificate": None if trace else CERTIFICATE, "controls": 0 if trace else 9,
        "command": command,
    }  # fmt: skip
    (run / "summary.json").write_text(json.dumps(summary | changes))
    state = {"schema": 1, "status": "finished", "kind": "edit", "recipe": kind, "heartbeat_s": 1.76e9}
    (run / "state.json").write_text(json.dumps(state))
    return run
