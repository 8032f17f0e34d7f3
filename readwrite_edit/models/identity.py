"""Which model it was: what an adapter and a ledger of edits say of their base."""

from __future__ import annotations

import re
from pathlib import PurePath
from typing import Any

from pydantic import BaseModel, ConfigDict

from readwrite_edit.models.source import ModelSource, parse_source

_BUNDLED = "bundled:"
_UNSAFE = re.compile(r"[^A-Za-z0-9_-]+")
_LONGEST_SLUG = 40


class Base(BaseModel):
    """The base of an adapter or an edit.

    Attributes:
        source: Where it was loaded from: ``bundled:NAME``, an absolute path, or a Hub id.
        revision: Commit on the Hub; None elsewhere.
        weights_hash: Of the weights as loaded, in their dtype; None where they never were.
        dtype: Of the weights in memory.
        quantization: ``nf4`` or ``int8`` (bitsandbytes), None for none.
    """

    model_config = ConfigDict(strict=True, frozen=True)

    source: str
    revision: str | None
    weights_hash: str | None
    dtype: str
    quantization: str | None

    @classmethod
    def of(cls, source: ModelSource, *, weights_hash: str | None, dtype: object, quantization: str | None) -> Base:
        """The record of a model that was found, and of how it was loaded.

        Args:
            source: Where from.
            weights_hash: Of its weights; None where they were not loaded.
            dtype: Of its weights, torch's or its name.
            quantization: As in a recipe.

        Raises:
            ModelError: A model of the Hub is neither in its cache nor can be had.
        """
        from readwrite_edit.models.loading import model_folder

        return cls(
            source=named(source),
            revision=model_folder(source).name if source.kind == "hub" else None,
            weights_hash=weights_hash,
            dtype=str(dtype).removeprefix("torch."),
            quantization=quantization,
        )

    @property
    def model_source(self) -> ModelSource:
        """Where to load it from again.

        Raises:
            ModelError: It is not there any more.
        """
        return parse_source(self.source, self.revision)

    @property
    def slug(self) -> str:
        """A name for folders: the last part of the source, and the beginning of the hash."""
        last = PurePath(self.source.partition(":")[2] if self.source.startswith(_BUNDLED) else self.source).stem
        return f"{_UNSAFE.sub('-', last).strip('-')[:_LONGEST_SLUG] or 'model'}-{str(self.weights_hash)[:8]}"

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return self.model_dump(mode="json")


def named(source: ModelSource) -> str:
    """A source as records name it, without its revision."""
    return f"{_BUNDLED if source.kind == 'bundled' else ''}{source.location}"
