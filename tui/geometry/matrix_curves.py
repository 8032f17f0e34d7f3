"""The fractions of one matrix over k, each beside its nulls, from a line of ``geometry.jsonl``.

Lines are of two kinds: those of a probe list every k, those of a training the
powers of two. What is no list of numbers counts as absent.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from readwrite_edit.runs.state import is_count, is_finite
from readwrite_edit.tui.geometry.band import isotropic_band

_MOST_POINTS = 28
_LARGEST_D = 1 << 20


@dataclass(frozen=True)
class Curve:
    """One side of a matrix.

    Attributes:
        side: ``read`` or ``write``.
        d: Dimension of the side.
        n: Rows or columns on the other side, that the band takes as independent.
        k: Numbers of directions, ascending.
        fraction: Of the update, for each k; None where it was not recorded.
        band: Ends of the 95 % interval of the isotropic null, for each k.
        energy: The energy null, for each k; None where it was not recorded.
    """

    side: str
    d: int
    n: int
    k: tuple[int, ...]
    fraction: tuple[float | None, ...]
    band: tuple[tuple[float, float], ...]
    energy: tuple[float | None, ...]


def curves_of(record: Mapping[str, Any]) -> tuple[Curve, ...]:
    """The sides that a line has a fraction of; none of a line without shape."""
    shape = _shape(record)
    if shape is None:
        return ()
    sides = (("read", shape[1], shape[0]), ("write", shape[0], shape[1]))
    return tuple(_curve(record, *side) for side in sides if is_finite(record.get(f"{side[0]}_fraction")))


def singular_values(record: Mapping[str, Any]) -> list[float]:
    """Of the update, largest first; none where they were not recorded."""
    return numbers(record.get("singular_values")) or []


def head_norms(record: Mapping[str, Any]) -> list[float]:
    """The norm of the update in each head, in order; none where the matrix has no heads."""
    heads = record.get("heads")
    if isinstance(heads, list):
        heads = [head.get("norm") if isinstance(head, dict) else None for head in heads]
    return numbers(record.get("head_norms")) or numbers(heads) or []


def numbers(found: object) -> list[float] | None:
    """A list of finite numbers, or None where it is none."""
    if not isinstance(found, list) or not found or not all(map(is_finite, found)):
        return None
    return [float(value) for value in found]


def _curve(record: Mapping[str, Any], side: str, d: int, n: int) -> Curve:
    at_k: dict[Any, Any] = {record.get("k"): record[f"{side}_fraction"]}
    fraction = _by_k(record, side, f"{side}_curve", d) or at_k
    null_at_k: dict[Any, Any] = {record.get("k"): record.get(f"{side}_energy_null")}
    energy = _by_k(record, side, f"{side}_energy_curve", d) or null_at_k
    powers = {1 << exponent for exponent in range(d.bit_length())}
    known = {k for k in (*fraction, record.get("k")) if is_count(k) and 1 <= k <= d}
    ks = sorted(_thinned(known | powers | {d}, keep=record.get("k")))
    return Curve(
        side=side,
        d=d,
        n=n,
        k=tuple(ks),
        fraction=tuple(_known(fraction.get(k)) for k in ks),
        band=tuple(isotropic_band(k, d, n) for k in ks),
        energy=tuple(_known(energy.get(k)) for k in ks),
    )


def _by_k(record: Mapping[str, Any], side: str, name: str, d: int) -> dict[Any, float]:
    """A list over k by its k: those that the line names, else 1, 2, 3 and so on."""
    values = numbers(record.get(name))
    if values is None:
        return {}
    named = record.get(f"{side}_curve_k")
    ks: Sequence[int] = named if isinstance(named, list) else range(1, len(values) + 1)
    if len(ks) != len(values) or not all(is_count(k) and 1 <= k <= d for k in ks):
        return {}
    return dict(zip(ks, values, strict=True))


def _thinned(ks: set[int], *, keep: object) -> set[int]:
    """So many that a chart can show, evenly apart in their logarithms."""
    if len(ks) <= _MOST_POINTS:
        return ks
    ordered = sorted(ks)
    factor = ordered[-1] ** (1 / (_MOST_POINTS - 1))
    chosen, least = {ordered[-1]} | {k for k in ks if k == keep}, 1.0
    for k in ordered:
        if k >= least or k & (k - 1) == 0:
            chosen.add(k)
            least = max(least * factor, k + 0.5)
    return chosen


def _shape(record: Mapping[str, Any]) -> tuple[int, int] | None:
    shape = record.get("shape")
    if not isinstance(shape, list):
        shape = [record.get("d_out"), record.get("d_in")]
    if len(shape) != 2 or not all(is_count(side) and 1 <= side <= _LARGEST_D for side in shape):
        return None
    return shape[0], shape[1]


def _known(value: object) -> float | None:
    return float(value) if is_finite(value) else None
