"""What an intervention hands on: the changes themselves, and what to measure them on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import pandas as pd
from torch import Tensor

from readwrite_edit.interventions.changes import Change, Variant


@dataclass(frozen=True)
class Prompt:
    """One sequence on which something is measured before and after.

    Attributes:
        kind: ``prompt`` (what the edit is about), ``context`` (the same behind a prefix), ``paraphrase``, ``chat``,
            ``locality`` (where nothing should change).
        item: Number of the fact or example that it belongs to, from 0.
        text: As a user would read it.
        ids: Its tokens.
        target: Tokens that should follow; empty where none are wanted.
        true: Tokens that followed before, to compare with; empty where not known.
    """

    kind: str
    item: int
    text: str
    ids: tuple[int, ...]
    target: tuple[int, ...] = ()
    true: tuple[int, ...] = ()


class Effect(Protocol):
    """What an edit is for, as one number an observation: the statistic T that controls are ranked by."""

    @property
    def name(self) -> str:
        """In tables, with the unit in words."""

    @property
    def version(self) -> int:
        """Rises when the definition changes."""

    @property
    def observations(self) -> Sequence[str]:
        """What each column is, for tables."""

    def measure(self, variants: Sequence[Variant]) -> Tensor:
        """T of each variant, larger is more of what was wanted; change from the base, (variants, observations)."""


@dataclass(frozen=True)
class Plan:
    """An edit, computed and not yet applied.

    Attributes:
        changes: ΔW of each matrix that changes.
        why: Which layers and why, in a sentence.
        title: What it does in a few words, such as ``Eiffel Tower → Rome``.
        facts: Associations that it makes, as ``prompt``, ``subject`` and ``target``: contradictions are found by them.
        prompts: What to measure before and after.
        effect: What controls are ranked by; None where nothing was aimed at (``extract``).
        tables: Name to table of the intervention's own (values found, retained energy, the causal trace).
        figures: Name to number of the intervention's own.
        notes: What the reader must know.
    """

    changes: tuple[Change, ...]
    why: str
    title: str = ""
    facts: tuple[Mapping[str, str], ...] = ()
    prompts: tuple[Prompt, ...] = ()
    effect: Effect | None = None
    tables: Mapping[str, pd.DataFrame] = field(default_factory=dict)
    figures: Mapping[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
