"""Controls as tables, and the comparison in a line."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from readwrite_edit.edit.controls.families import BOTH, ENERGY, FROBENIUS, RANDOM, Control
from readwrite_edit.edit.plan import Effect
from readwrite_edit.evaluate.intervals import Array, mean_interval
from readwrite_edit.interventions.inference import rank_p_value, sign_flip_p_value

_LEVEL = 0.05
_LEAST_FLIPS = 6  # with five observations no pattern of signs has p < 0.03
_LEAST_SD = 2
_MATCHED = {FROBENIUS: "of the same norm", ENERGY: "of the same output energy", BOTH: "of the same norm and energy"}
_FAMILY = {"random_input": "random inputs", "random_output": "random outputs"}

Measured = Sequence[tuple[Control, Array]]


def controls_table(effect: Effect, found: Measured) -> pd.DataFrame:
    """One row a control, with its mean effect over observations."""
    rows = [
        {
            "family": control.family,
            "matching": control.matching,
            "index": control.index,
            "norm": control.norm,
            "energy": control.energy,
            "effect": float(values.mean()),
        }
        for control, values in found
    ]
    columns = ["family", "matching", "index", "norm", "energy", "effect"]
    return pd.DataFrame(rows, columns=columns).assign(statistic=effect.name, version=effect.version)


def effects_table(effect: Effect, tested: Array, found: Measured, *, seed: int) -> pd.DataFrame:
    """One row a family and matching: the edit beside these controls.

    Args:
        effect: The statistic T.
        tested: T of the edit on each observation.
        found: Controls with their T.
        seed: Of bootstrap and sign flips.
    """
    groups: dict[tuple[str, str], list[Array]] = {}
    for control, values in found:
        groups.setdefault((control.family, control.matching), []).append(values)
    rows = [
        {"family": family, "matching": matching, **_compared(tested, np.stack(values), seed)}
        for (family, matching), values in groups.items()
    ]
    return pd.DataFrame(rows).assign(statistic=effect.name, version=effect.version)


def _compared(tested: Array, controls: Array, seed: int) -> dict[str, Any]:
    """Figures of one family, T of the edit (observations,) beside (controls, observations)."""
    means = controls.mean(axis=1)
    differences = tested - controls.mean(axis=0)
    interval = mean_interval(differences, seed=seed)
    spread = float(means.std(ddof=1)) if len(means) >= _LEAST_SD else math.nan
    enough = len(tested) >= _LEAST_FLIPS
    return {
        "n_controls": len(controls),
        "n_observations": len(tested),
        "effect": float(tested.mean()),
        "control_mean": float(means.mean()),
        "control_median": float(np.median(means)),
        "control_sd": spread,
        "reached": int((~(means < tested.mean())).sum()),
        "difference": float(differences.mean()),
        "low": interval.low,
        "high": interval.high,
        "p_value": rank_p_value(float(tested.mean()), means),
        "p_value_observations": sign_flip_p_value(tested - np.median(controls, axis=0), seed=seed)
        if enough
        else math.nan,
        "effect_size": float(differences.mean()) / spread if spread > 0 else math.nan,
    }


def verdict(effect: Effect, effects: pd.DataFrame) -> str:
    """Whether an edit does more than random edits of the same size, in one line.

    It does where p ≤ 0.05 in every matching against random inputs and against random outputs.

    Args:
        effect: The statistic T.
        effects: From :func:`effects_table`.
    """
    random = effects[effects["family"].isin(RANDOM)]
    if random.empty:
        return "no random controls"
    first = random.iloc[0]
    counts = [
        f"{row.reached} of {row.n_controls} {_FAMILY[row.family]} {_MATCHED[row.matching]} (p = {row.p_value:.2g})"
        for row in random.itertuples()
    ]
    beaten = bool((random["p_value"] <= _LEVEL).all())
    place = "beyond its random controls" if beaten else "NOT beyond its random controls"
    if 1 / (1 + int(random["n_controls"].min())) > _LEVEL:
        place = "too few random controls to tell"
    over = f"{first.n_observations} prompt{'s' if first.n_observations > 1 else ''}"
    return f"{place}: {effect.name}, mean over {over} {first.effect:+.3g}; reached by {', '.join(counts)}"
