"""Which model was edited: what a ledger and an adapter say of their base."""

from __future__ import annotations

import re
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict

from readwrite_edit.models.source import ModelSource, parse_source

if TYPE_CHECKING:
    from readwrite_edit.edit.context import Context

_UNSAFE = re.compile(r"[^A-Za-z0-9_-]+")
_LONGEST_SLUG = 40


class Base(BaseModel):
    """The base of an edit.

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
        last = PurePath(self.source.partition(":")[2] if self.source.startswith("bundled:") else self.source).stem
        return f"{_UNSAFE.sub('-', last).strip('-')[:_LONGEST_SLUG] or 'model'}-{str(self.weights_hash)[:8]}"

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return self.model_dump(mode="json")


def base_of(context: Context, *, loaded: bool = True) -> Base:
    """The base of an edit that is being made.

    Args:
        context: Of the edit.
        loaded: Whether its weights may be loaded; if not, their hash is left out.
    """
    from readwrite_edit.models.loading import model_folder

    source, wanted = context.source, context.recipe.model
    return Base(
        source=f"bundled:{source.location}" if source.kind == "bundled" else source.location,
        revision=model_folder(source).name if source.kind == "hub" else None,
        weights_hash=context.fingerprint if loaded else None,
        dtype=str(context.model.dtype).removeprefix("torch.") if loaded else wanted.dtype,
        quantization=wanted.quantization,
    )
