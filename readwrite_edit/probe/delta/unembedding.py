"""The unembedding of a checkpoint as its residual stream sees it, streamed from the files."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

from torch import Tensor

from readwrite_edit.geometry import unembedding_gram
from readwrite_edit.models.tensor_files import StoredTensor, TensorFiles, row_blocks
from readwrite_edit.probe.delta.anatomy import Anatomy

_BLOCK_NUMBERS = 1 << 22


@dataclass(frozen=True)
class StoredUnembedding:
    """An unembedding that lies in files.

    Attributes:
        files: They.
        head: Its weight, shape (vocabulary, d), or (vocabulary, d_model) without ``projection``.
        projection: Matrix between final norm and head (OPT-350m), shape (d, d_model), or None.
        gain: Multiplier of the final norm, shape (d_model,); None without one, or where it is not to count.
    """

    files: TensorFiles
    head: StoredTensor
    projection: Tensor | None
    gain: Tensor | None

    @property
    def d_model(self) -> int:
        """Width of the residual stream."""
        return self.head.shape[1] if self.projection is None else self.projection.shape[1]

    def gram(self, *, centred: bool = True, token_weights: Tensor | None = None) -> Tensor:
        """Its Gram matrix, (d_model, d_model), float64; see ``unembedding_gram``."""
        return unembedding_gram(self._blocks(), self.gain, centred=centred, token_weights=token_weights)

    def digest(self, *, centred: bool = True, token_weights: Tensor | None = None) -> str:
        """SHA-256 of everything that the Gram matrix is made from."""
        digest = hashlib.sha256(f"{self.head.dtype} {self.head.shape} {centred}".encode())
        for start, stop in row_blocks(self.head, _BLOCK_NUMBERS):
            digest.update(self.files.read(self.head, start, stop))
        for part in (self.projection, self.gain, token_weights):
            digest.update(b"-" if part is None else part.double().contiguous().numpy().tobytes())
        return digest.hexdigest()

    def _blocks(self) -> Iterator[Tensor]:
        for block in self.files.blocks(self.head, _BLOCK_NUMBERS):
            yield block.float() if self.projection is None else block.float() @ self.projection


def stored_unembedding(files: TensorFiles, anatomy: Anatomy, *, gain: bool = True) -> StoredUnembedding | None:
    """The unembedding in a model's files; None where they do not hold it.

    Args:
        files: Of the model.
        anatomy: Of the model.
        gain: Whether the final norm's gain counts.
    """
    stored = anatomy.by_own_name(files.tensors)
    head = stored.get(anatomy.unembedding) or (stored.get(anatomy.embedding) if anatomy.tied else None)
    if head is None:
        return None
    pathways = anatomy.pathways
    projection = _whole(files, stored.get(f"{pathways.output_projection}.weight"))
    found = _whole(files, stored.get(f"{pathways.final_norm}.weight")) if gain else None
    return StoredUnembedding(files, head, projection, None if found is None else found + pathways.norm_gain_offset)


def _whole(files: TensorFiles, stored: StoredTensor | None) -> Tensor | None:
    if stored is None:
        return None
    return stored.as_tensor(files.read(stored, 0, stored.rows)).float()
