"""What a ledger says of one edit, and the hash that its adapter is known by."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path

from pydantic import AwareDatetime, BaseModel, ConfigDict

from readwrite_edit.edit.ledger.naming import Name

_BLOCK_BYTES = 1 << 20


class _Strict(BaseModel):
    model_config = ConfigDict(strict=True, frozen=True, allow_inf_nan=False)


class Fact(_Strict):
    """An association that an edit makes.

    Attributes:
        prompt: Text that ends where the target follows; the subject stands in it, or ``{}``.
        subject: The subject.
        target: What is to follow.
    """

    prompt: str
    subject: str
    target: str

    @property
    def question(self) -> tuple[str, str]:
        """What the fact answers: two facts with one question and two targets contradict each other."""
        return " ".join(self.filled.split()), " ".join(self.subject.split())

    @property
    def filled(self) -> str:
        """The prompt with the subject in it."""
        return self.prompt.replace("{}", self.subject)

    @property
    def answer(self) -> str:
        """The target without the spaces around it."""
        return " ".join(self.target.split())


class Entry(_Strict):
    """One edit in a ledger.

    Attributes:
        name: Unique in its ledger, and the name of its folder.
        kind: The intervention.
        title: What it does in a few words.
        created: When it was entered, UTC.
        active: Whether it is in force; False once it is undone.
        adapter_sha256: Hash of its adapter folder, see :func:`adapter_hash`.
        run: Run folder that it comes from, where it was then.
        statistics_sha256: Hash of the statistics that it was computed with; None where it needed none.
        predicted_damage: Price that was computed beforehand; None where there was none.
        measured: Name to main figure.
        facts: Associations that it makes.
    """

    name: Name
    kind: str
    title: str
    created: AwareDatetime
    active: bool
    adapter_sha256: str
    run: str | None = None
    statistics_sha256: str | None = None
    predicted_damage: float | None = None
    measured: dict[str, float | None] = {}
    facts: tuple[Fact, ...] = ()

    def contradicts(self, facts: Iterable[Fact]) -> bool:
        """Whether it gives another target to a question that one of the facts answers."""
        answers = {fact.question: fact.answer for fact in self.facts}
        return any(answers.get(fact.question, fact.answer) != fact.answer for fact in facts)

    def made_of(self, facts: Iterable[Fact]) -> Fact | None:
        """The first of the facts that it makes too; None where it makes none of them."""
        answers = {(fact.question, fact.answer) for fact in self.facts}
        return next((fact for fact in facts if (fact.question, fact.answer) in answers), None)


def as_facts(facts: Iterable[Fact | Mapping[str, str]]) -> tuple[Fact, ...]:
    """Facts from mappings with ``prompt``, ``subject`` and ``target``; other keys are left out."""
    return tuple(fact if isinstance(fact, Fact) else Fact.model_validate(dict(fact)) for fact in facts)


def utc_now() -> datetime:
    """Now, to the second."""
    return datetime.now(UTC).replace(microsecond=0)


def adapter_hash(folder: Path) -> str:
    """SHA-256 over names, sizes and bytes of the files of an adapter folder, sorted by name.

    Raises:
        OSError: The folder, or a file of it, can not be read.
    """
    whole = hashlib.sha256()
    for path in sorted(path for path in folder.iterdir() if path.is_file()):
        whole.update(f"{path.name}\0{path.stat().st_size}\0".encode())
        with path.open("rb") as stream:
            while block := stream.read(_BLOCK_BYTES):
                whole.update(block)
    return whole.hexdigest()
