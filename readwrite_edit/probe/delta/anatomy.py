"""What a checkpoint's tensors are for: found on the meta device, so that no weight is loaded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

from torch import nn
from transformers.conversion_mapping import get_model_conversion_mapping
from transformers.core_model_loading import WeightRenaming
from transformers.pytorch_utils import Conv1D

from readwrite_edit.models.loading import build_meta_model
from readwrite_edit.models.pathways import Pathways, Projection, find_pathways, module_of
from readwrite_edit.models.source import ModelSource
from readwrite_edit.models.tensor_files import StoredTensor

_WRAPPERS = ("base_model.model.", "_orig_mod.", "module.")


@dataclass(frozen=True)
class Anatomy:
    """The parts of a model by the names of its tensors.

    Attributes:
        pathways: Which matrices read and write.
        shapes: Name to shape of every parameter, tied ones under each of their names.
        prefix: Of the backbone's names, which some checkpoints leave out.
        projections: Name of a weight to the projections that it holds.
        transposed: Names of weights stored as (d_in, d_out).
        embedding: Name of the input embedding's weight.
        unembedding: Name of the language-model head's weight.
        tied: Whether the head is the input embedding.
        renamings: How transformers renames what older files of the architecture hold, applied in turn.
    """

    pathways: Pathways
    shapes: Mapping[str, tuple[int, ...]]
    prefix: str
    projections: Mapping[str, tuple[Projection, ...]]
    transposed: frozenset[str]
    embedding: str
    unembedding: str
    tied: bool
    renamings: tuple[WeightRenaming, ...] = ()

    def canonical(self, name: str) -> str:
        """The model's own name of a stored tensor, whatever prefix the file has or lacks."""
        for wrapper in _WRAPPERS:
            name = name.removeprefix(wrapper)
        renamed = name
        for renaming in self.renamings:
            renamed = renaming.rename_source_key(renamed)[0]
        forms = [
            form
            for start in (name, renamed)
            for form in (start, f"{self.prefix}.{start}", start.removeprefix(f"{self.prefix}."))
        ]
        return next((form for form in forms if form in self.shapes), name)

    def by_own_name(self, stored: Mapping[str, StoredTensor]) -> dict[str, StoredTensor]:
        """Stored tensors under the model's own names."""
        return {self.canonical(name): tensor for name, tensor in stored.items()}


@lru_cache(maxsize=4)
def anatomy_of(source: ModelSource) -> Anatomy:
    """The anatomy of a model.

    Raises:
        ModelError: It is not found, or of an unknown architecture.
    """
    model = build_meta_model(source)
    pathways = find_pathways(model)
    shapes = {name: tuple(weight.shape) for name, weight in model.named_parameters(remove_duplicate=False)}
    held: dict[str, list[Projection]] = {}
    for projection in pathways.projections:
        held.setdefault(f"{projection.module}.weight", []).append(projection)
    head = f"{pathways.unembedding}.weight"
    embedding = _name_of(model, model.get_input_embeddings())
    tied = bool(getattr(model.config.get_text_config(), "tie_word_embeddings", False))
    return Anatomy(
        pathways=pathways,
        shapes=shapes | {head: shapes.get(head, shapes[embedding])},
        prefix=model.base_model_prefix,
        projections={name: tuple(members) for name, members in held.items()},
        transposed=frozenset(name for name, group in held.items() if isinstance(module_of(model, group[0]), Conv1D)),
        embedding=embedding,
        unembedding=head,
        tied=tied,
        renamings=tuple(rule for rule in get_model_conversion_mapping(model) if isinstance(rule, WeightRenaming)),
    )


def _name_of(model: nn.Module, module: nn.Module) -> str:
    return next(f"{name}.weight" for name, found in model.named_modules() if found is module)
