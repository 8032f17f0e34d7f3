"""Records of data files (JSON lines, Parquet, CSV), one at a time, each with its place in the file.

A record that can not be read is handed on as a problem with its place, so that
all bad records of a file can be reported at once.
"""

from __future__ import annotations

import csv
import json
import re
import sys
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from readwrite_edit.errors import DataError
from readwrite_edit.terminal import printable

JSON_SUFFIXES = (".jsonl", ".ndjson", ".json")
RECORD_SUFFIXES = (*JSON_SUFFIXES, ".parquet", ".csv")
_SHOWN = 5
_MESSAGES_CELL = re.compile(r"""\s*\[\s*\{.*["']role["']""", re.DOTALL)
_ESCAPED_BYTE = re.compile("[\udc80-\udcff]")


@dataclass(frozen=True)
class Record:
    """One record, or what is wrong with it.

    Attributes:
        place: Where it stands: "line 3" of JSON lines, "row 3" elsewhere, counted from 1.
        value: Its fields; empty where there is a problem.
        problem: Why it can not be read, or None.
    """

    place: str
    value: dict[str, Any] = field(default_factory=dict)
    problem: str | None = None


class BadRecords:
    """Collects what is wrong with a file's records; the first few are explained, the rest counted."""

    def __init__(self) -> None:
        self._shown: list[str] = []
        self._count = 0

    def add(self, place: str, problem: str) -> None:
        """Note a bad record."""
        self._count += 1
        if self._count <= _SHOWN:
            self._shown.append(f"{place}: {problem}")

    def raise_if_any(self, source: str) -> None:
        """Report them all in one line.

        Raises:
            DataError: Where there is a bad record.
        """
        if not self._count:
            return
        more = self._count - len(self._shown)
        rest = f"; and {more} more bad {'row' if more == 1 else 'rows'}" if more else ""
        raise DataError(printable(f"{source}: {'; '.join(self._shown)}{rest}"))


def read_records(file: Path, wanted: Sequence[str]) -> Iterator[Record]:
    """Read a data file by its suffix, in its order.

    Args:
        file: An existing file with one of RECORD_SUFFIXES.
        wanted: Columns of use; of Parquet files only these are read.

    Raises:
        DataError: The file as a whole can not be read, or has none of the wanted columns.
    """
    suffix = file.suffix.lower()
    reader = {".parquet": _parquet, ".csv": _csv}.get(suffix, _json)
    try:
        yield from reader(file, wanted)
    except OSError as error:
        raise DataError(printable(f"{file}: can not be read ({error.strerror or error})")) from error


def useful_columns(source: str, columns: Collection[str], wanted: Sequence[str]) -> list[str]:
    """The wanted columns among those that there are.

    Raises:
        DataError: There is none.
    """
    found = [name for name in wanted if name in columns]
    if not found:
        there = ", ".join(sorted(map(str, columns))) or "none"
        raise DataError(printable(f"{source}: its columns are {there}; expected some of {', '.join(wanted)}"))
    return found


def _json(file: Path, wanted: Sequence[str]) -> Iterator[Record]:
    with file.open("rb") as stream:
        opening = stream.read(256).removeprefix(b"\xef\xbb\xbf").lstrip()
        stream.seek(0)
        if file.suffix.lower() == ".json" and opening.startswith(b"["):
            yield from _json_array(stream.read())
            return
        for number, line in enumerate(stream, 1):
            line = line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line
            if line.strip():
                yield _parsed(f"line {number}", line)


def _json_array(content: bytes) -> Iterator[Record]:
    value, problem = _json_value(content)
    if problem:
        yield Record("the whole file", problem=problem)
    for number, item in enumerate(value or [], 1):
        yield _record(f"row {number}", item)


def _parsed(place: str, line: bytes) -> Record:
    value, problem = _json_value(line)
    return Record(place, problem=problem) if problem else _record(place, value)


def _record(place: str, value: Any) -> Record:
    if isinstance(value, dict):
        return Record(place, value)
    return Record(place, problem=f"{kind_of(value)}; expected an object with the fields of a row")


def _json_value(content: bytes) -> tuple[Any, str | None]:
    """A JSON value, or why there is none."""
    try:
        return json.loads(content.decode("utf-8")), None
    except UnicodeDecodeError as error:
        return None, f"not valid UTF-8 (byte {error.start + 1})"
    except json.JSONDecodeError as error:
        return None, f"not JSON ({error.msg} at column {error.colno})"
    except RecursionError:
        return None, "nested too deeply"
    except ValueError as error:
        return None, f"not JSON ({error})"


def kind_of(value: Any) -> str:
    """The kind of a JSON value in words."""
    if value is None or isinstance(value, bool):
        return "null" if value is None else "a truth value"
    kinds = {str: "a text", dict: "an object", list: "a list", bytes: "binary", int: "a number", float: "a number"}
    return kinds.get(type(value), f"of type {type(value).__name__}")


def _csv(file: Path, wanted: Sequence[str]) -> Iterator[Record]:
    # Undecodable bytes become escapes, so that they are a problem of their row and not of the file.
    with file.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as stream:
        rows = _csv_rows(stream)
        header, problem = next(rows, ([], None))
        if problem:
            raise DataError(f"{file}: header: {problem}")
        if header:
            useful_columns(str(file), header, wanted)
        for number, (cells, problem) in enumerate(rows, 1):
            yield Record(f"row {number}", problem=problem) if problem else _csv_record(f"row {number}", header, cells)


def _csv_rows(stream: Any) -> Iterator[tuple[list[str], str | None]]:
    # The limit on a field's size belongs to the process: raised for one row, then put back.
    reader = csv.reader(stream, strict=True)
    while True:
        limit = csv.field_size_limit(sys.maxsize)
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield [], f"not CSV ({error})"
            return
        finally:
            csv.field_size_limit(limit)
        if cells:
            yield cells, None


def _csv_record(place: str, header: list[str], cells: list[str]) -> Record:
    if len(cells) != len(header):
        return Record(place, problem=f"{len(cells)} cells; expected {len(header)}, as in the header")
    if any(_ESCAPED_BYTE.search(cell) for cell in cells):
        return Record(place, problem="not valid UTF-8")
    value: dict[str, Any] = {}
    for name, cell in zip(header, cells, strict=True):
        value[name], problem = _json_value(cell.encode()) if _MESSAGES_CELL.match(cell) else (cell, None)
        if problem:
            return Record(place, problem=f"{name} looks like a list of messages and is {problem}")
    return Record(place, value)


def _parquet(file: Path, wanted: Sequence[str]) -> Iterator[Record]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    number = 0
    try:
        with pq.ParquetFile(file) as table:
            columns = useful_columns(str(file), table.schema_arrow.names, wanted)
            for batch in table.iter_batches(batch_size=1024, columns=columns):
                for index in range(batch.num_rows):
                    number += 1
                    yield _arrow_record(f"row {number}", batch.slice(index, 1))
    except pa.ArrowException as error:
        raise DataError(printable(f"{file}: not a Parquet file, or damaged ({first_line(error)})")) from error


def _arrow_record(place: str, row: Any) -> Record:
    try:
        return Record(place, row.to_pylist()[0])
    except UnicodeDecodeError:
        return Record(place, problem="not valid UTF-8")


def first_line(error: BaseException) -> str:
    """The first line of an error's message, or its kind where it has none."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
