"""One line of judgement: whether the change lies more in what the model reads than in what it predicts.

``verdict_of`` holds the definition.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd

from readwrite_edit.probe.delta.evidence import (
    ALPHA,
    FEWEST_LAYERS,
    LEVEL,
    ROLES,
    Asymmetry,
    NullEvidence,
    SideEvidence,
    measure_asymmetry,
    side_evidence,
)


@dataclass(frozen=True)
class Verdict:
    """The finding in one line, with its evidence.

    Attributes:
        shown: Whether the asymmetry is shown; see ``verdict_of``.
        sentence: One line of English.
        figures: The same evidence as plain numbers; None where not defined.
    """

    shown: bool
    sentence: str
    figures: dict[str, float | int | None]


def verdict_of(geometry: pd.DataFrame) -> Verdict:
    """Judge from a geometry table whether the change lies more in what the model reads than in what it predicts.

    The read side is ``q_proj`` and ``k_proj`` in the read subspace, the write side
    ``o_proj`` and ``down_proj`` in the prediction subspace; the size of an effect is
    fraction / null. Identical matrices have no fraction: they are counted and left out.

    "Shown" takes all three:

    1. more than half of the read matrices are above the isotropic null, q < 0.05;
    2. over layers, the read side's log ratio to that null is above 0 (Wilcoxon
       signed-rank, one-sided, p < 0.05);
    3. over layers, the read side's log ratio less the write side's is above 0 (the same
       test, p < 0.05), and the geometric mean of their quotient is above 1.

    The p-values of matrices are Benjamini-Hochberg's over layer × matrix, one family a
    side and a null: each is a claim of its own, and a rate controlled over a pool does
    not hold in a part of it. They count as many independent rows as the delta's spectrum
    allows for (``effective_count``), or all rows where no spectrum was taken, which is too
    many for real deltas and far too many for low-rank ones; so the layer is the unit of
    the tests that decide (2, 3). A layer's value is the mean over its roles of the mean of
    the logarithm, so that many experts do not outvote one attention matrix. Layers are
    taken as exchangeable and symmetric about their median; neighbouring layers share a
    residual stream, so p is a statement about this model's layers and not about other
    models, seeds or data. Fewer than 5 layers can not reach p < 0.05.

    The energy null decides nothing: to be above k/d and not above it means that the
    concentration needs no alignment signal. The line says of each null whether the read
    side beats it (1 and 2 with that null's values), or that it was not measured. A read
    adapter with a frozen basis has its read fraction by construction: there the line
    restates the choice of the basis.

    Args:
        geometry: One row a layer × matrix; columns ``layer``, ``module`` (role) and, where
            measured, ``{read,write}_relative_{isotropic,energy}`` and
            ``{read,write}_{isotropic,energy}_p``, ``norm``.

    Returns:
        The verdict.
    """
    sides = {name: side_evidence(geometry, name) for name in ROLES}
    asymmetry = measure_asymmetry(geometry)
    reasons = _reasons(sides, asymmetry)
    sentence = f"{_opening(reasons)}; {_evidence_in_words(sides, asymmetry)}."
    return Verdict(not reasons, sentence, _figures(sides, asymmetry, shown=not reasons))


def _reasons(sides: Mapping[str, SideEvidence], asymmetry: Asymmetry) -> list[str]:
    """Why the asymmetry is not shown; empty where it is."""
    if absent := [_absence(name, side) for name, side in sides.items() if not side.matrices]:
        return absent
    if asymmetry.layers < FEWEST_LAYERS:
        return [f"both sides changed in {_count(asymmetry.layers, 'layer')}, a test takes {FEWEST_LAYERS} at least"]
    reasons = []
    if not sides["read"].nulls["isotropic"].beaten:
        reasons.append("the read side does not beat its isotropic null")
    if not asymmetry.found:
        reasons.append("read is not above write beyond chance")
    return reasons


def _absence(name: str, side: SideEvidence) -> str:
    return f"the {name} side was not measured" if side.unmeasured else f"no {name} matrix changed"


def _opening(reasons: list[str]) -> str:
    if reasons:
        return f"Not shown: {', '.join(reasons)}"
    return "Shown: the change lies more in what the model reads than in what it predicts"


def _evidence_in_words(sides: Mapping[str, SideEvidence], asymmetry: Asymmetry) -> str:
    parts = [_side_in_words(name, side) for name, side in sides.items() if side.matrices]
    if asymmetry.layers:
        parts.append(_asymmetry_in_words(asymmetry))
    if unchanged := sum(side.unchanged for side in sides.values()):
        parts.append(f"{_count(unchanged, 'identical matrix', 'identical matrices')} left out")
    if unmeasured := sum(side.unmeasured for side in sides.values()):
        parts.append(f"{_count(unmeasured, 'changed matrix', 'changed matrices')} without a fraction left out")
    return "; ".join(parts or ["no such matrix in the table"])


def _side_in_words(name: str, side: SideEvidence) -> str:
    nulls = ", ".join(_null_in_words(null, evidence, name) for null, evidence in side.nulls.items())
    return f"{name} side ({', '.join(side.roles)}) {nulls}"


def _null_in_words(null: str, evidence: NullEvidence, side: str) -> str:
    if not evidence.measured:
        return f"{null} null not measured"
    count = f"q < {ALPHA} in {evidence.above} of {evidence.tested}" if evidence.tested else "no p-values"
    missed = ", not beaten" if side == "read" and not evidence.beaten else ""
    return f"{_number(evidence.relative)} times its {null} null ({count}{missed})"


def _asymmetry_in_words(asymmetry: Asymmetry) -> str:
    interval = ""
    if asymmetry.layers > 1:
        interval = f"{LEVEL:.0%} interval {_number(asymmetry.low)} to {_number(asymmetry.high)}, "
    test = f"one-sided Wilcoxon over {_count(asymmetry.layers, 'layer')} p = {asymmetry.p:.2g}"
    return f"read over write {_number(asymmetry.ratio)} ({interval}{test})"


def _count(number: int, one: str, many: str | None = None) -> str:
    return f"{number} {one if number == 1 else many or one + 's'}"


def _number(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def _figures(sides: Mapping[str, SideEvidence], asymmetry: Asymmetry, *, shown: bool) -> dict[str, float | int | None]:
    figures: dict[str, float | int | None] = {"shown": int(shown)}
    for name, side in sides.items():
        figures |= {f"{name}_layers": side.layers, f"{name}_matrices": side.matrices}
        figures |= {f"{name}_unchanged": side.unchanged, f"{name}_unmeasured": side.unmeasured}
        for null, evidence in side.nulls.items():
            figures[f"{name}_relative_{null}"] = _defined(evidence.relative)
            figures[f"{name}_above_{null}"] = evidence.above
            figures[f"{name}_tested_{null}"] = evidence.tested
            figures[f"{name}_layers_p_{null}"] = _defined(evidence.layers_p)
    figures["asymmetry_layers"] = asymmetry.layers
    for key in ("ratio", "low", "high", "p"):
        figures[f"asymmetry_{key}"] = _defined(getattr(asymmetry, key))
    return figures


def _defined(value: float) -> float | None:
    return None if math.isnan(value) else value
