"""An edit on a model and on the disk: always a stock PEFT LoRA, so that the base is never written."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from readwrite_edit.adapter import Certificate, adapter_config, certify_folder, save_adapter
from readwrite_edit.adapter.install import lora_layer
from readwrite_edit.adapter.logits import LogitsRecord
from readwrite_edit.adapter.merge import rounding_loss
from readwrite_edit.adapter.metadata import base_fields
from readwrite_edit.edit.assembly import Assembled, assembled
from readwrite_edit.errors import EditError
from readwrite_edit.geometry import LowRank
from readwrite_edit.interventions.changes import Change
from readwrite_edit.models.identity import Base
from readwrite_edit.models.loading import build_meta_model, model_folder
from readwrite_edit.models.pathways import Pathways, Projection, role_rows, unwrap
from readwrite_edit.models.source import base_model_id
from readwrite_edit.probe.checkpoint import Checkpoint
from readwrite_edit.probe.delta.anatomy import Anatomy
from readwrite_edit.probe.delta.factors import read_factors
from readwrite_edit.recipe import recipe_hash

if TYPE_CHECKING:
    from readwrite_edit.edit.context import Context

_PROBE = ("Where does a model write, and what does it read?", "The cat sat on the mat, and then it went home.")
_PROBE_TOKENS = 12
# What PEFT and transformers say of constants (the certificate says it better) and of their own names.
_NO_NEWS = (r"`lora_bias=True` was passed but", r".*invalid shape: .*lora_B\.bias", r"`is_gradient_checkpointing` is")


def attach(model: PreTrainedModel, changes: Sequence[Change]) -> PeftModel:
    """Put changes on a model as one stock LoRA adapter, ready to compute with.

    Ranks of several changes of one module add; each B lies in its own rows; a
    constant becomes PEFT's ``lora_bias``. The base's weights are only read.

    Args:
        model: Bare model; its modules are wrapped until :func:`detach`. It may be
            on the meta device, where the adapter's own tensors have values all the same.
        changes: The edit.

    Returns:
        The wrapped model, in evaluation mode, nothing of it trainable.

    Raises:
        EditError: Nothing changes, a number is not finite, or stock PEFT can not put a layer on one of the matrices.
    """
    parts = assembled(model, changes)
    config = adapter_config(model, [part.target for part in parts])
    if any(part.bias is not None for part in parts):
        config = dataclasses.replace(config, lora_bias=True)
    wrapped = _wrapped(model, config)
    _check_layers(wrapped, parts)
    for part in parts:
        _fill(lora_layer(wrapped, part.target), part)
    return wrapped.requires_grad_(False).eval()


def detach(model: PeftModel) -> PreTrainedModel:
    """Take an adapter off again.

    Returns:
        The bare model that :func:`attach` was given: the same modules, the same weights bit for bit.
    """
    tuner: Any = model
    bare: PreTrainedModel = tuner.unload()
    return bare


def write_adapter(context: Context, model: PeftModel | None, changes: Sequence[Change], folder: Path) -> None:
    """Write an edit as an adapter folder, whole or not at all.

    Args:
        context: What was edited, and by which recipe.
        model: From :func:`attach`; None where the base is too large to load. Then neither logits nor the loss by
            rounding are recorded, and the adapter can not be certified.
        changes: The same changes.
        folder: Target; replaced if it exists.
    """
    recipe = context.recipe
    about = {
        "edit": {"kind": recipe.kind, "name": recipe.ledger.name},
        "recipe_sha256": recipe_hash(recipe),
        "provenance": recipe.provenance,
    }
    if model is None:
        base = context.base(loaded=False)
        wrapped = attach(build_meta_model(context.source), changes)
        _save(wrapped, changes, folder, base=base, metadata={**about, "logits": None, "rounding_loss": None})
    else:
        save_edit(model, changes, folder, base=context.base(), tokenizer=context.tokenizer, about=about)


def save_edit(
    model: PeftModel,
    changes: Sequence[Change],
    folder: Path,
    *,
    base: Base,
    tokenizer: PreTrainedTokenizerBase,
    about: Mapping[str, Any],
) -> None:
    """Write an attached edit with everything that its certificate needs; twice gives the same bytes.

    Args:
        model: From :func:`attach`.
        changes: The same changes.
        folder: Target; replaced if it exists.
        base: What was edited.
        tokenizer: Of the base, for the tokens of the recorded logits.
        about: Further metadata: at least ``edit`` with ``kind`` and ``name``.
    """
    targets = [part.target for part in assembled(model, changes)]
    checked = {
        "logits": vars(LogitsRecord.of(model, probe_ids(tokenizer))),
        "rounding_loss": rounding_loss(model, targets, torch.bfloat16),
    }
    _save(model, changes, folder, base=base, metadata={**about, **checked})


def certify_edit(context: Context, folder: Path) -> Certificate:
    """Check a saved edit from a fresh process with nothing but stock transformers and peft.

    Raises:
        AdapterError: The folder is damaged or of another base, or can not be loaded.
    """
    return certify_saved(folder, context.base())


def certify_saved(folder: Path, base: Base) -> Certificate:
    """The same by the record of the base."""
    torch.cuda.empty_cache()  # the fresh process loads the base a second time
    return certify_folder(folder, str(model_folder(base.model_source)), str(base.weights_hash), exact=True)


def read_changes(folder: Path, pathways: Pathways) -> tuple[Change, ...]:
    """Read an adapter back as changes of the projections that it changes.

    Ranks whose B is zero in all rows of a projection are left out of that
    projection's change, so that attaching what was read gives the same ranks.

    Args:
        folder: Of any LoRA adapter, constants (lora_bias) included.
        pathways: Of its base.

    Returns:
        In the order of the pathways, float64.

    Raises:
        AdapterError: It is damaged, no LoRA, or does not fit the base.
    """
    checkpoint = Checkpoint(str(folder), "adapter", folder)
    factors = read_factors(checkpoint, _anatomy(pathways), constants=True)
    found: list[Change] = []
    for projection in pathways.projections:
        update, constant = factors.of(projection), factors.constants.get(f"{projection.module}.weight")
        if update is not None:
            own = None if constant is None else constant[role_rows(projection)]
            found += _change(projection, update, own if own is not None and bool(own.any()) else None)
    return tuple(found)


def _change(projection: Projection, update: LowRank, bias: Tensor | None) -> Iterator[Change]:
    used = update.B.any(dim=0)
    if bool(used.any()) or bias is not None:
        yield Change(projection, LowRank(update.B[:, used], update.A[used]), bias)


def _anatomy(pathways: Pathways) -> Anatomy:
    """What reading factors needs to know of a model, without building it."""
    held: dict[str, list[Projection]] = {}
    for projection in pathways.projections:
        held.setdefault(f"{projection.module}.weight", []).append(projection)
    return Anatomy(
        pathways=pathways,
        shapes={name: (_width(members), members[0].d_in) for name, members in held.items()},
        prefix=pathways.projections[0].module.partition(".")[0],
        projections={name: tuple(members) for name, members in held.items()},
        transposed=frozenset(),
        embedding="",
        unembedding=f"{pathways.unembedding}.weight",
        tied=False,
    )


def _width(members: Sequence[Projection]) -> int:
    """Output features of a module, from its projections."""
    return max(max((stop for _, stop in member.rows or ()), default=member.d_out) for member in members)


def _wrapped(model: PreTrainedModel, config: LoraConfig) -> PeftModel:
    try:
        with _without_old_news():
            return get_peft_model(model, config)
    except ValueError as error:
        raise EditError(f"stock PEFT can not adapt these matrices of a {model.config.model_type}: {error}") from None


def _check_layers(wrapped: PeftModel, parts: Sequence[Assembled]) -> None:
    """Refuse where PEFT took a name for something else, as it does with names of experts that are fused now."""
    wanted = {part.target.module for part in parts}
    found = {name for name, module in unwrap(wrapped).named_modules() if isinstance(module, LoraLayer)}
    if found != wanted:
        odd = sorted(wanted - found)[:1] or sorted(found - wanted)[:1]
        kind = unwrap(wrapped).config.model_type
        detach(wrapped)
        raise EditError(
            f"stock PEFT takes the name {odd[0]} of a {kind} for another module (fused experts): leave that matrix out"
        )


@contextmanager
def _without_old_news() -> Iterator[None]:
    with warnings.catch_warnings():
        for message in _NO_NEWS:
            warnings.filterwarnings("ignore", message=message)
        yield


def _fill(layer: LoraLayer, part: Assembled) -> None:
    """Write the factors into a fresh LoRA layer, in the type and on the device that PEFT chose for it."""
    lora_a: Any = layer.lora_A["default"]
    lora_b: Any = layer.lora_B["default"]
    _put(lora_a, "weight", part.A)
    _put(lora_b, "weight", part.B)
    if lora_b.bias is not None:  # with one constant, every layer gets one
        _put(lora_b, "bias", part.B.new_zeros(len(part.B)) if part.bias is None else part.bias)


def _put(module: nn.Module, name: str, value: Tensor) -> None:
    before: Tensor = getattr(module, name)
    device = "cpu" if before.is_meta else before.device
    setattr(module, name, nn.Parameter(value.to(device, before.dtype).contiguous(), requires_grad=False))


def _save(
    model: PeftModel, changes: Sequence[Change], folder: Path, *, base: Base, metadata: Mapping[str, Any]
) -> None:
    modules = {
        part.target.module: {"rank": part.target.rank, "rows": part.target.rows, "basis_sha256": None}
        for part in assembled(model, changes)
    }
    whole = {**metadata, "base": base_fields(base, model), "modules": modules}
    with _without_old_news():
        save_adapter(model, folder, base_model=base_model_id(base.model_source), revision=base.revision, metadata=whole)


def probe_ids(tokenizer: PreTrainedTokenizerBase) -> list[list[int]]:
    """A few tokens, sequences of one length, for the logits that a reload must give again."""
    sequences = [list(tokenizer(text)["input_ids"])[:_PROBE_TOKENS] for text in _PROBE]
    shortest = min(map(len, sequences))
    return [sequence[:shortest] for sequence in sequences]
