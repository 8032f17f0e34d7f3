"""Facts of a recipe or a file: read, checked, and free of duplicates and contradictions."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from readwrite_edit.align.data_source import find_source
from readwrite_edit.align.messages import BadRowError, check_characters, short
from readwrite_edit.align.records import BadRecords, Record, kind_of, read_records
from readwrite_edit.edit.settings.associate import Associate, Fact
from readwrite_edit.errors import DataError, EditError
from readwrite_edit.terminal import printable

SLOT = "{}"
_SUFFIXES = (".json", ".jsonl", ".ndjson")
# One name a field here; CounterFact's, its flattened copies' and this project's own.
_NAMES: Mapping[str, tuple[str, ...]] = {
    "prompt": ("prompt",),
    "subject": ("subject",),
    "target": ("target", "target_new"),
    "true": ("true", "target_true", "ground_truth"),
    "paraphrases": ("paraphrases", "paraphrase_prompts", "rephrase_prompt"),
    "locality": ("locality", "neighborhood_prompts", "locality_prompt"),
}
_NESTED = "requested_rewrite"
_LISTS = ("paraphrases", "locality")
_FIELDS = {other: name for name, names in _NAMES.items() for other in names}
_ALIKE = 0.85  # share of letters at which a field is taken for a misspelt one; CounterFact's own others are below


def read_facts(settings: Associate) -> tuple[tuple[Fact, ...], tuple[str, ...]]:
    """The facts of a recipe, each once, the subject in its prompt.

    Args:
        settings: With facts, a file of them, or one in the short form.

    Returns:
        The facts, and notes on what was merged and on subjects that stand in their prompt several times.

    Raises:
        DataError: The file can not be read, or some facts are bad (the first few are explained).
        EditError: Two facts give one prompt and subject different targets.
    """
    source, rows = _rows(settings)
    found: list[tuple[str, Fact]] = []
    bad = BadRecords()
    for record in rows:
        if settings.limit is not None and len(found) == settings.limit:
            break
        try:
            if record.problem:
                raise BadRowError(record.problem)
            found.append((record.place, _checked(_fact(record.value))))
        except BadRowError as problem:
            bad.add(record.place, str(problem))
    bad.raise_if_any(source)
    if not found:
        raise DataError(printable(f"{source}: no facts; expected objects with prompt, subject and target"))
    return _distinct(found)


def filled(prompt: str, subject: str) -> tuple[str, int]:
    """A prompt with the subject in it, and the character at which the subject begins.

    Where the subject occurs several times the last whole word counts.

    Raises:
        BadRowError: It does not stand in the prompt.
    """
    if SLOT in prompt:
        return prompt.replace(SLOT, subject, 1), prompt.index(SLOT)
    words = _whole_words(prompt, subject)
    start = words[-1] if words else prompt.rfind(subject)
    if start < 0:
        raise BadRowError(
            f"subject {short(subject)} is not in the prompt {short(prompt)}; expected it there as it is written, "
            f"or {SLOT} in its place"
        )
    return prompt, start


def _whole_words(prompt: str, subject: str) -> list[int]:
    """Where a subject begins in a prompt, as words of its own."""
    return [match.start() for match in re.finditer(rf"(?<!\w){re.escape(subject)}(?!\w)", prompt)]


def _rows(settings: Associate) -> tuple[str, Iterable[Record]]:
    """Name of the source in messages, and its records."""
    if isinstance(settings.facts, str):
        path = find_source(settings.facts, builtin=(), suffixes=_SUFFIXES).file
        if path is None:
            raise DataError(printable(f"{settings.facts}: no such file; expected a .json or .jsonl file of facts"))
        return settings.facts, read_records(Path(path), ())
    if settings.facts is not None:
        given = [fact.model_dump() for fact in settings.facts]
    else:
        given = [{name: getattr(settings, name) for name in _NAMES if hasattr(settings, name)}]
    return "associate", (Record(f"fact {number}", fact) for number, fact in enumerate(given, 1))


def _fact(row: Mapping[str, Any]) -> Fact:
    """A fact from a row with any of the known names; other columns are passed over, unless one seems misspelt.

    Raises:
        BadRowError: What is wrong with it.
    """
    nested = row.get(_NESTED)
    given = {**row, **nested} if isinstance(nested, Mapping) else dict(row)
    values: dict[str, Any] = {}
    for name, names in _NAMES.items():
        known = [other for other in names if given.get(other) is not None]
        if known:
            key = known[0]
            values[name] = _texts(key, given[key]) if name in _LISTS else _text(key, given[key])
    missing = [name for name in ("prompt", "subject", "target") if name not in values]
    misspelt = [f"did you mean {near} by {short(field)}?" for field, near in _misspelt(given, values)]
    if missing:
        fields = ", ".join(map(str, row)) or "none"
        raise BadRowError("; ".join([f"no {' and no '.join(missing)} (its fields: {short(fields)})", *misspelt]))
    if misspelt:
        raise BadRowError(f"unknown field: {'; '.join(misspelt)}")
    return Fact(**values)


def _misspelt(given: Mapping[str, Any], values: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Fields that look like one that the row lacks, with that one's name; the id of a text is no text."""
    for field in given:
        near = get_close_matches(field, _FIELDS, n=1, cutoff=_ALIKE)
        if near and field not in _FIELDS and not field.endswith("_id") and _FIELDS[near[0]] not in values:
            yield field, near[0]


def _text(key: str, value: Any) -> str:
    if isinstance(value, Mapping) and isinstance(value.get("str"), str):
        value = value["str"]
    if not isinstance(value, str):
        raise BadRowError(f"{key} is {kind_of(value)}; expected a text")
    if not value.strip():
        raise BadRowError(f"{key} is empty; expected a text")
    check_characters(key, value)
    return value


def _texts(key: str, value: Any) -> tuple[str, ...]:
    items = [value] if isinstance(value, str) else value
    if not isinstance(items, list | tuple):
        raise BadRowError(f"{key} is {kind_of(value)}; expected a text or a list of texts")
    return tuple(_text(key, item) for item in items)


def _checked(fact: Fact) -> Fact:
    """The fact with its subject in its prompts, and without spaces at the ends."""
    subject = fact.subject.strip()
    if fact.prompt.count(SLOT) > 1:
        raise BadRowError(f"the prompt {short(fact.prompt)} has {fact.prompt.count(SLOT)} places {SLOT}; expected one")
    filled(fact.prompt, subject)
    paraphrases = tuple(text.replace(SLOT, subject).rstrip(" ") for text in fact.paraphrases)
    changed = {"subject": subject, "prompt": fact.prompt.rstrip(" "), "target": fact.target.strip()}
    return fact.model_copy(update={**changed, "paraphrases": paraphrases})


def _distinct(found: Iterable[tuple[str, Fact]]) -> tuple[tuple[Fact, ...], tuple[str, ...]]:
    """Each question once, with the paraphrases of all its rows."""
    known: dict[tuple[str, str], tuple[str, Fact]] = {}
    merged = 0
    for place, fact in found:
        question = " ".join(filled(fact.prompt, fact.subject)[0].split()), " ".join(fact.subject.split())
        if question not in known:
            known[question] = place, fact
            continue
        first, earlier = known[question]
        if earlier.target != fact.target:
            raise EditError(
                printable(
                    f"contradiction: {question[0]!r} gets {earlier.target!r} in {first} and {fact.target!r} in "
                    f"{place}; leave one of them out"
                )
            )
        merged += 1
        known[question] = first, _joined(earlier, fact)
    facts = tuple(fact for _, fact in known.values())
    notes = [f"{merged} of {len(facts) + merged} facts repeat another one and were merged with it"] if merged else []
    return facts, (*notes, *_repeated_subjects(facts))


def _repeated_subjects(facts: Sequence[Fact]) -> Iterator[str]:
    """A note where a subject stands in its prompt more than once and no place was chosen."""
    several = [fact for fact in facts if SLOT not in fact.prompt and len(_whole_words(fact.prompt, fact.subject)) > 1]
    if several:
        first = f"subject {short(several[0].subject)} stands in {short(several[0].prompt)} more than once"
        others = f" (as in {len(several) - 1} more of the facts)" if len(several) > 1 else ""
        yield f"{first}{others}: its last place is taken; write {SLOT} in the prompt to choose another"


def _joined(first: Fact, second: Fact) -> Fact:
    both = {name: tuple(_once((*getattr(first, name), *getattr(second, name)))) for name in _LISTS}
    return first.model_copy(update=both)


def _once(items: Iterable[str]) -> Iterator[str]:
    return iter(dict.fromkeys(items))
