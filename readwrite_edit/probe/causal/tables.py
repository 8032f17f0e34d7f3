"""Tables and verdict of the causal probe, from what each edit did to each prompt."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from readwrite_edit.geometry import benjamini_hochberg
from readwrite_edit.interventions.controls import seed_of
from readwrite_edit.interventions.inference import Array, bootstrap, rank_p_value, sign_flip_p_value
from readwrite_edit.probe.causal.plan import Matrix, Trial

_LEVEL = 0.05
_TESTS = (("input", "frobenius", "random"), ("input", "energy", "random"), ("output", "both", "random_output"))


@dataclass(frozen=True, eq=False)
class Outcome:
    """What an edit did.

    Attributes:
        matrix: The tested matrix (an edit of another layer is a control of this one).
        trial: The edit.
        kl: Mean KL of each prompt, nats per token, shape (prompts,).
        target_change: Mean change of the target's log-probability, likewise.
        evaluation_energy: ε² E[(vᵀx)²] on the evaluation text.
    """

    matrix: Matrix
    trial: Trial
    kl: Array
    target_change: Array
    evaluation_energy: float


def controls_table(outcomes: Iterable[Outcome]) -> pd.DataFrame:
    """Every edit that was measured, the tested ones included."""
    return pd.DataFrame([_control_row(outcome) for outcome in outcomes])


def _control_row(outcome: Outcome) -> dict[str, Any]:
    trial, matrix = outcome.trial, outcome.matrix
    return {
        **_place(matrix, trial.direction),
        "family": trial.family,
        "factor": trial.factor,
        "matching": trial.matching,
        "index": trial.index,
        "dose": trial.dose,
        "epsilon": trial.edit.epsilon,
        "relative_norm": abs(trial.edit.epsilon) / matrix.norm,
        "output_energy": trial.energy,
        "evaluation_energy": outcome.evaluation_energy,
        "kl": outcome.kl.mean(),
        "target_change": outcome.target_change.mean(),
    }


def dose_table(controls: pd.DataFrame) -> pd.DataFrame:
    """Mean effect of each family at each dose."""
    keys = ["layer", "module", "side", "direction", "family", "factor", "matching", "dose"]
    grouped = controls.groupby(keys, sort=False, dropna=False)
    named = {"epsilon": ("epsilon", "mean"), "kl": ("kl", "mean"), "target_change": ("target_change", "mean")}
    return grouped.agg(**named, n=("kl", "size")).reset_index()  # type: ignore[call-overload, no-any-return]


def effects_table(outcomes: Sequence[Outcome], dose: float, *, seed: int) -> pd.DataFrame:
    """Each tested direction beside its random controls at one dose."""
    at_dose = [outcome for outcome in outcomes if outcome.trial.dose == dose]
    rows = []
    for tested in (outcome for outcome in at_dose if outcome.trial.family == "principal"):
        same = [o for o in at_dose if o.matrix is tested.matrix and o.trial.direction == tested.trial.direction]
        rows += list(_effect_rows(tested, same, seed))
    table = pd.DataFrame(rows)
    # matchings are families of their own: the easy one must not lend the hard one its small p-values
    table["q_value"] = table.groupby("matching")["p_value"].transform(benjamini_hochberg)
    columns = [name for name in table.columns if name not in ("q_value", "n_controls")]
    return table[[*columns, "q_value", "n_controls"]]


def _effect_rows(tested: Outcome, same: Sequence[Outcome], seed: int) -> Iterator[dict[str, Any]]:
    for factor, matching, family in _TESTS:
        controls = [o for o in same if o.trial.family == family and o.trial.matching == matching]
        if controls and (factor == "input" or tested.matrix.prediction is not None):
            yield {**_test_place(tested, factor, matching), **_effect(tested, controls, seed)}


def _test_place(tested: Outcome, factor: str, matching: str) -> dict[str, Any]:
    trial = tested.trial
    place = _place(tested.matrix, trial.direction)
    return {
        **place,
        "factor": factor,
        "matching": matching,
        "epsilon": trial.edit.epsilon,
        "relative_norm": trial.dose,
    }


def _effect(tested: Outcome, controls: Sequence[Outcome], seed: int) -> dict[str, Any]:
    """Effect, controls, ratio and p-values of one test."""
    kls = np.stack([control.kl for control in controls])  # (controls, prompts)
    changes = np.array([control.target_change.mean() for control in controls])
    kl, median = float(tested.kl.mean()), float(np.median(kls.mean(axis=1)))
    own = seed_of(seed, tested.matrix.name, tested.trial.direction)
    interval = bootstrap(tested.kl, kls, seed=own)
    return {
        "kl": kl,
        "low": interval.low,
        "high": interval.high,
        "control_median": median,
        "ratio": kl / median if median else None,
        "ratio_low": interval.ratio_low,
        "ratio_high": interval.ratio_high,
        "p_value": rank_p_value(kl, kls.mean(axis=1)),
        "p_value_below": rank_p_value(-kl, -kls.mean(axis=1)),
        "prompt_p_value": sign_flip_p_value(tested.kl - np.median(kls, axis=0), seed=own),
        "target_change": float(tested.target_change.mean()),
        "target_control_median": float(np.median(changes)),
        "target_p_value": rank_p_value(float(abs(tested.target_change.mean())), np.abs(changes)),
        "n_controls": len(controls),
    }


def _place(matrix: Matrix, direction: int) -> dict[str, Any]:
    projection = matrix.projection
    return {"layer": projection.layer, "module": projection.role, "side": matrix.side, "direction": direction}


def verdict(effects: pd.DataFrame) -> str:
    """What the directions do beside random ones of the same output energy, the sides apart."""
    inputs = "principal input directions against random ones of the same output energy"
    claims = (
        ("read", "energy", inputs),
        ("write", "energy", inputs),
        ("write", "both", "prediction directions against random outputs"),
    )
    parts = []
    for side, matching, what in claims:
        own = effects[effects.side == side]
        tests = own[own.matching == matching]
        if len(tests):
            by_norm = own[own.matching == "frobenius"] if matching == "energy" else None
            parts.append(f"{side} side, {what}: {_claim(tests, by_norm)}")
    return "; ".join(parts)


def _claim(tests: pd.DataFrame, by_norm: pd.DataFrame | None) -> str:
    """``shown`` where more than half of the tests stand out after Benjamini-Hochberg."""
    above = int((tests.q_value <= _LEVEL).sum())
    said = "shown" if 2 * above > len(tests) else "not shown"
    below = int((tests.p_value_below <= _LEVEL).sum())
    beneath = f", {below} below nearly all controls" if below else ""
    ratio = f"median ratio of KL {tests.ratio.median():.3g}"
    against_norm = "" if by_norm is None else f", {by_norm.ratio.median():.3g} where only the norm is matched"
    return f"{said} ({above} of {len(tests)} with q ≤ {_LEVEL}{beneath}, {ratio}{against_norm})"


def figures(effects: pd.DataFrame, dose: pd.DataFrame) -> dict[str, float]:
    """Main numbers: ratios per side and matching, and how KL grows with the dose."""
    found: dict[str, float] = {}
    for (side, factor, matching), tests in effects.groupby(["side", "factor", "matching"]):
        name = f"{side}_{factor}" + ("" if matching == "both" else f"_{matching}")
        found[f"{name}_median_ratio"] = float(tests.ratio.median())
        found[f"{name}_smallest_q"] = float(tests.q_value.min())
        found[f"{name}_shown"] = int((tests.q_value <= _LEVEL).sum())
        found[f"{name}_tests"] = len(tests)
    slope = _dose_exponent(dose[dose.family == "principal"])
    return found if slope is None else {**found, "dose_exponent": slope}


def _dose_exponent(principal: pd.DataFrame) -> float | None:
    """Median over directions of the slope of log KL to log dose; 2 where KL is quadratic."""
    slopes = [
        float(np.polyfit(np.log(rows.dose), np.log(rows.kl), 1)[0])
        for _, rows in principal.groupby(["layer", "module", "direction"])
        if len(rows) > 1 and (rows.kl > 0).all()
    ]
    return float(np.median(slopes)) if slopes else None
