"""One preference row: from any of TRL's formats to prompt, chosen and rejected, or what is wrong with it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from readwrite_edit.align.messages import BadRowError, check_characters, checked_messages
from readwrite_edit.align.records import BadRecords, Record, kind_of
from readwrite_edit.errors import DataError
from readwrite_edit.terminal import printable

SIDES = ("prompt", "chosen", "rejected")
# Of the columns beside the texts, these change what TRL tokenises.
TEMPLATE_COLUMNS = ("tools", "chat_template_kwargs")
COLUMNS = (*SIDES, *TEMPLATE_COLUMNS)


def preference_rows(records: Iterable[Record], source: str) -> list[dict[str, Any]]:
    """Check every record of a source.

    Args:
        records: With their places.
        source: Its name in messages.

    Returns:
        Rows with prompt, chosen and rejected, all texts or all lists of messages.

    Raises:
        DataError: Some records are bad (the first few are explained), or there is none.
    """
    rows: list[dict[str, Any]] = []
    bad = BadRecords()
    for record in records:
        try:
            if record.problem:
                raise BadRowError(record.problem)
            row = preference_row(record.value)
            if rows and is_chat(row) != is_chat(rows[0]):
                raise BadRowError(f"{_form(row)}, unlike the rows before; expected one form in the whole data set")
            rows.append(row)
        except BadRowError as problem:
            bad.add(record.place, str(problem))
    bad.raise_if_any(source)
    if not rows:
        raise DataError(printable(f"{source}: no rows; expected preference pairs with chosen and rejected"))
    return rows


def preference_row(record: Mapping[str, Any]) -> dict[str, Any]:
    """A row with an explicit prompt, from a row of any of TRL's preference formats.

    Without a prompt, what chosen and rejected begin with in common becomes it,
    by TRL's own rule.

    Raises:
        BadRowError: What is wrong with it.
    """
    missing = [key for key in ("chosen", "rejected") if key not in record]
    if missing:
        raise BadRowError(f"no {' and no '.join(missing)} (its fields: {', '.join(map(str, record)) or 'none'})")
    row = {key: _side(key, record[key]) for key in SIDES if key in record}
    if len({isinstance(value, list) for value in row.values()}) > 1:
        forms = ", ".join(f"{key} is {'messages' if isinstance(row[key], list) else 'a text'}" for key in row)
        raise BadRowError(f"{forms}; expected one form (leave prompt out where chosen holds the whole conversation)")
    if row["chosen"] == row["rejected"]:
        raise BadRowError("chosen and rejected are identical")
    if "prompt" not in row:
        row = _with_prompt(row)
    elif is_chat(row):
        _check_not_repeated(row)
    if is_chat(row):
        _check_ends(row)
    return row | {key: record[key] for key in TEMPLATE_COLUMNS if record.get(key) is not None}


def is_chat(row: Mapping[str, Any]) -> bool:
    """Whether a checked row is conversational, in TRL's words."""
    return isinstance(row["chosen"], list)


def _form(row: Mapping[str, Any]) -> str:
    return "conversational (lists of messages)" if is_chat(row) else "standard (plain texts)"


def _side(key: str, value: Any) -> str | list[dict[str, Any]]:
    if isinstance(value, list):
        messages = checked_messages(key, value)
        if not any((message.get("content") or "").strip() or message.get("tool_calls") for message in messages):
            raise BadRowError(f"{key} is empty")
        return messages
    if not isinstance(value, str):
        raise BadRowError(f"{key} is {kind_of(value)}; expected a text or a list of messages")
    if not (value if key == "prompt" else value.strip()):
        raise BadRowError(f"{key} is empty")
    check_characters(key, value)
    return value


def _with_prompt(row: dict[str, Any]) -> dict[str, Any]:
    # Without a common beginning TRL's rule gives an empty prompt, or (for texts) one cut from the end.
    shared = row["chosen"][0] == row["rejected"][0] and min(len(row["chosen"]), len(row["rejected"])) > 1
    if not shared:
        raise BadRowError("no prompt, and chosen and rejected share no beginning that could be it; add a prompt")
    from trl import extract_prompt  # loads torch, which rows with a prompt can do without

    extracted: dict[str, Any] = extract_prompt(row)
    for key in ("chosen", "rejected"):
        if isinstance(extracted[key], str) and not extracted[key].strip():
            raise BadRowError(f"{key} is empty after the beginning that both share")
    return extracted


def _check_not_repeated(row: Mapping[str, Any]) -> None:
    prompt = row["prompt"]
    for key in ("chosen", "rejected"):
        if row[key][: len(prompt)] == prompt:
            raise BadRowError(f"{key} repeats the prompt; leave the prompt out, or only the answer in {key}")


def _check_ends(row: Mapping[str, Any]) -> None:
    for key in ("chosen", "rejected"):
        last = row[key][-1]
        if last["role"] != "assistant":
            raise BadRowError(f"{key} ends with the role {last['role']!r}; expected 'assistant'")
        if not (last.get("content") or "").strip() and not last.get("tool_calls"):
            raise BadRowError(f"the last message of {key} is empty")
