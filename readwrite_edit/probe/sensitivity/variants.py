"""The definitions that the sensitivity probe varies, one at a time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from readwrite_edit.probe.settings.delta import DeltaSettings
from readwrite_edit.probe.settings.sensitivity import SensitivitySettings

DEFAULT = "as given"
_COLLECTED = ("first position", "calibration text", "calibration size", "normalisation")


@dataclass(frozen=True)
class Variant:
    """One way to measure.

    Attributes:
        group: What is varied.
        name: How.
        settings: Of the delta probe.
    """

    group: str
    name: str
    settings: DeltaSettings


def variants(settings: SensitivitySettings) -> list[Variant]:
    """The starting point, and each definition changed by itself; what given statistics fix is left out."""
    start = DeltaSettings.model_validate(settings.model_dump(include=set(DeltaSettings.model_fields)))
    found = [Variant(DEFAULT, DEFAULT, start), *_changes(settings, start)]
    if settings.statistics is None:
        return found
    return [variant for variant in found if variant.group not in _COLLECTED]


def _changes(settings: SensitivitySettings, start: DeltaSettings) -> Iterator[Variant]:
    def change(group: str, name: str, **update: object) -> Variant:
        return Variant(group, name, start.model_copy(update=update))

    for k in settings.ks:
        if k != start.k:
            yield change("k", f"k = {k}", k=k)
    yield change("centring of inputs", "not centred" if start.centred else "centred", centred=not start.centred)
    counted = start.first_position
    yield change("first position", "left out" if counted else "counted", first_position=not counted)
    for text in settings.texts:
        if text != start.text:
            yield change("calibration text", text, text=text, text_format=None)
    yield change("calibration size", f"{start.tokens // 4} tokens", tokens=max(1, start.tokens // 4))
    unit = start.unit_norm
    yield change("normalisation", "inputs as they are" if unit else "inputs of norm 1", unit_norm=not unit)
    centred = start.centred_unembedding
    yield change("prediction subspace", "uncentred" if centred else "centred", centred_unembedding=not centred)
    yield change("prediction subspace", "without gain" if start.gain else "with gain", gain=not start.gain)
    if start.frequency is None:
        yield change("prediction subspace", f"tokens weighted as in {start.text}", frequency=start.text)
    else:
        yield change("prediction subspace", "tokens unweighted", frequency=None)
