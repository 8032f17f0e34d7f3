"""Data sets on the Hugging Face Hub, read without running anything that they bring along."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import datasets
from datasets.exceptions import DatasetNotFoundError
from huggingface_hub import errors as hub_errors
from huggingface_hub.utils import logging as hub_logging

from readwrite_edit.align.records import Record, first_line, useful_columns
from readwrite_edit.errors import DataError
from readwrite_edit.terminal import printable

# Readers of `datasets` that only parse; others (pandas) load pickles, which can run code.
_PLAIN_READERS = {"parquet", "json", "csv", "text", "arrow", "cache"}


def hub_records(
    path: str, wanted: Sequence[str], *, name: str | None, split: str, revision: str | None
) -> Iterator[Record]:
    """Rows of a Hub data set, downloaded or from the cache.

    ``HF_HUB_OFFLINE`` is honoured: then only the cache is asked.

    Args:
        path: Id on the Hub.
        wanted: Columns of use.
        name: Configuration.
        split: Split, also in the notation of `datasets`, as in "train[:1000]".
        revision: Branch, tag or commit.

    Raises:
        DataError: No such data set, configuration, split or revision; no network; or it needs code.
    """
    described = printable(", ".join(_description(path, name, split, revision)))
    with _reported(described):
        builder = datasets.load_dataset_builder(path, name, revision=revision)
        _refuse_readers_that_run_code(builder, described)
        builder.download_and_prepare()
        table = builder.as_dataset(split=split)
    columns = useful_columns(described, table.column_names, wanted)
    for number, row in enumerate(table.select_columns(columns), 1):
        yield Record(f"row {number}", row)


def _description(path: str, name: str | None, split: str, revision: str | None) -> Iterator[str]:
    yield f"Hub data set {path}"
    if name:
        yield f"configuration {name}"
    yield f"split {split}"
    if revision:
        yield f"revision {revision}"


def _refuse_readers_that_run_code(builder: datasets.DatasetBuilder, described: str) -> None:
    packaged = "datasets.packaged_modules."
    readers = [kind.__module__ for kind in type(builder).__mro__ if kind.__module__.startswith(packaged)]
    reader = readers[0].split(".")[2] if readers else "a script"
    if reader not in _PLAIN_READERS:
        raise DataError(
            f"{described}: its files need the reader {reader!r}, and only {', '.join(sorted(_PLAIN_READERS))} are "
            "read here (code and pickles are never run); convert it to Parquet or JSON lines"
        )


@contextmanager
def _reported(described: str) -> Iterator[None]:
    # The client logs each of its retries; one line at the end says it all.
    before = hub_logging.get_verbosity()
    hub_logging.set_verbosity_error()
    try:
        yield
    except DataError:
        raise
    except DatasetNotFoundError as error:
        raise DataError(
            f"{described}: no such file and no such Hub data set, or it is private or gated (`hf auth login`)"
        ) from error
    except (ConnectionError, hub_errors.LocalEntryNotFoundError) as error:
        raise DataError(
            f"{described}: no such file, not in the cache, and the Hub can not be reached (network, or HF_HUB_OFFLINE "
            "set); connect, or name a local file, or use builtin:concise"
        ) from error
    except Exception as error:  # whatever `datasets` or the HTTP client raises: the kinds change between releases
        raise DataError(f"{described}: can not be loaded ({printable(first_line(error)[:200])})") from error
    finally:
        hub_logging.set_verbosity(before)
