"""A finished run entered in a ledger, at its end or later: by what the run itself says of its edit."""

from __future__ import annotations

import json
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from readwrite_edit.edit.ledger.entries import Entry, Fact, adapter_hash
from readwrite_edit.edit.ledger.naming import Name
from readwrite_edit.edit.ledger.store import Ledger, check_base
from readwrite_edit.errors import EditError
from readwrite_edit.models.identity import Base
from readwrite_edit.runs.folder import RunFolder


class Offer(BaseModel):
    """What a run's summary says for a ledger, under ``entry``.

    Attributes:
        base: The model.
        name: That the recipe gave; None where the ledger is to choose one.
        kind: The intervention.
        title: What the edit does in a few words.
        adapter_sha256: Hash of the adapter that was certified.
        statistics_sha256: Hash of the statistics that it was computed with; None where it needed none.
        predicted_damage: Price that was computed beforehand.
        facts: Associations that it makes.
    """

    model_config = ConfigDict(strict=True, frozen=True)

    base: Base
    name: Name | None
    kind: str
    title: str
    adapter_sha256: str
    statistics_sha256: str | None
    predicted_damage: float | None
    facts: tuple[Fact, ...]


def enter_run(ledger: Ledger, run: RunFolder, *, name: str | None = None) -> Entry:
    """Enter the edit of a finished run.

    Args:
        ledger: Of the edited model.
        run: Its folder.
        name: Of the entry; by default the recipe's, or the ledger's choice.

    Raises:
        EditError: The run did not finish with a certificate, its adapter is no longer the certified one, or the
            ledger is of another base, has the name, contradicts the edit or holds it, or can not be written.
    """
    summary = _summary(run)
    offer = _offer(run, summary)
    check_base(ledger.folder, ledger.base, offer.base)
    return ledger.add(
        name=name or offer.name,
        kind=offer.kind,
        title=offer.title,
        facts=offer.facts,
        run=run,
        statistics_sha256=offer.statistics_sha256,
        predicted_damage=offer.predicted_damage,
        measured=summary["figures"],
    )


def read_offer(run: RunFolder) -> Offer:
    """What a finished run says of its edit, once it is sure that its adapter is the one that was certified.

    Raises:
        EditError: It is no finished edit, did not pass its certificate, or its adapter is another one now.
    """
    return _offer(run, _summary(run))


def _offer(run: RunFolder, summary: dict[str, Any]) -> Offer:
    certificate = summary.get("certificate")
    if not isinstance(certificate, dict) or certificate.get("passed") is not True:
        raise EditError(f"{run.path}: its adapter has passed no certificate, and only what has is entered")
    try:
        offer = Offer.model_validate_json(json.dumps(summary.get("entry")))
    except ValidationError:
        raise EditError(
            f"{run.path} is no edit that this version can enter ({run.summary.name} says nothing for a ledger under "
            "'entry'): make it again"
        ) from None
    try:
        found = adapter_hash(run.adapter)
    except OSError as error:
        raise EditError(f"{run.adapter} can not be read ({error.strerror or error}): make the edit again") from None
    if found != offer.adapter_sha256:
        raise EditError(f"{run.adapter} is not the adapter that was certified: make the edit again")
    return offer


def _summary(run: RunFolder) -> dict[str, Any]:
    """Of a run that came to its end.

    Raises:
        EditError: There is none.
    """
    try:
        summary = json.loads(run.summary.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is damaged"
        raise EditError(
            f"{run.path} is no finished edit: {run.summary.name} can not be read ({why}); expected the run folder of "
            "an edit, see readwrite-edit runs"
        ) from None
    if not isinstance(summary, dict) or not isinstance(summary.get("figures"), dict):
        raise EditError(f"{run.path} is no finished edit: {run.summary.name} is damaged or of another kind")
    return summary
