"""Which matrices of a model read and which write, found by name in a table of known architectures."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from readwrite_edit.errors import ModelError
from readwrite_edit.models.architectures import ARCHITECTURES, ROLES, SITE_OF_ROLE, Architecture, Heads, Rows

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass(frozen=True)
class Projection:
    """One matrix of one layer: a whole linear module, or the rows of a fused one that serve one role.

    Attributes:
        layer: Index of the layer, from 0.
        role: Canonical name, such as ``q_proj``, whatever the architecture calls the module.
        module: Full module name in the (unwrapped) model.
        rows: Half-open ranges of the module's output features that belong to the role, head after head; None means
            all.
        site: Name of the input, shared by all projections that read the same tensor.
        d_in: Input features.
        d_out: Output features of the role, that is the number of its rows.
    """

    layer: int
    role: str
    module: str
    rows: Rows | None
    site: str
    d_in: int
    d_out: int


@dataclass(frozen=True)
class Pathways:
    """The projections of a model, layer by layer, and the two modules that its predictions go through.

    Attributes:
        final_norm: Name of the norm before the unembedding; None in variants without one (some OPT).
        norm_gain_offset: 1.0 where the norm multiplies by (1 + weight) (Gemma), else 0.0.
        absent: Reason for every role that the architecture lacks in all or some layers.
        output_projection: Matrix between final norm and unembedding (OPT-350m), else None; where
            there is one, the unembedding seen from the residual stream is their product.
    """

    model_type: str
    n_layers: int
    n_heads: int
    n_kv_heads: int
    d_head: int
    projections: tuple[Projection, ...]
    unembedding: str
    final_norm: str | None
    norm_gain_offset: float
    absent: Mapping[str, str]
    output_projection: str | None = None

    @property
    def roles(self) -> tuple[str, ...]:
        """Roles that at least one layer has, in canonical order."""
        present = {projection.role for projection in self.projections}
        return tuple(role for role in ROLES if role in present)

    def select(self, roles: Sequence[str], layers: Sequence[int] | None = None) -> tuple[Projection, ...]:
        """Projections of the given roles and layers, ordered by layer and role.

        Args:
            roles: Canonical role names.
            layers: Layer indices from 0; None takes every layer that has the role.

        Raises:
            ModelError: No such role or layer here, or a layer named in ``layers`` lacks a role.
        """
        for role in roles:
            self._require_role(role)
        for layer in layers or ():
            if not 0 <= layer < self.n_layers:
                raise ModelError(f"layer {layer}: {self.model_type} here has layers 0 to {self.n_layers - 1}")
        if layers is not None:
            self._require_everywhere(roles, layers)
        chosen = tuple(p for p in self.projections if p.role in roles and (layers is None or p.layer in layers))
        if not chosen:
            raise ModelError("no matrix selected: name at least one role and one layer")
        return chosen

    def sites(self, projections: Iterable[Projection] | None = None) -> dict[str, tuple[Projection, ...]]:
        """Group projections (default: all) by the input that they share."""
        grouped: dict[str, list[Projection]] = {}
        for projection in self.projections if projections is None else projections:
            grouped.setdefault(projection.site, []).append(projection)
        return {site: tuple(members) for site, members in grouped.items()}

    def _require_role(self, role: str) -> None:
        if role in self.roles:
            return
        if role in self.absent:
            reason = f": {self.absent[role]}"
        else:
            near = get_close_matches(role, self.roles, n=1)
            reason = f"; did you mean {near[0]!r}?" if near else ""
        raise ModelError(f"{self.model_type} has no {role!r}{reason} (it has {', '.join(self.roles)})")

    def _require_everywhere(self, roles: Sequence[str], layers: Sequence[int]) -> None:
        present = {(projection.layer, projection.role) for projection in self.projections}
        for role in roles:
            lacking = [layer for layer in layers if (layer, role) not in present]
            if lacking:
                reason = self.absent.get(role, "not in these layers")
                raise ModelError(f"{self.model_type} has no {role!r} in layers {lacking}: {reason}; leave them out")


def find_pathways(model: nn.Module) -> Pathways:
    """Find the projections of a causal language model.

    Works on the meta device, and on a model that PEFT has wrapped; names are
    those of the unwrapped model.

    Raises:
        ModelError: The architecture is not in the table, or the model is not
            built as the table says. Shapes are never used to guess.
    """
    bare = unwrap(model)
    config = getattr(bare, "config", None)
    model_type = str(getattr(config, "model_type", ""))
    table = ARCHITECTURES.get(model_type)
    if table is None:
        raise ModelError(_unknown_architecture(bare, model_type))
    heads = _heads(config, table)
    n_layers = len(_required(bare, table.layers, model_type))  # type: ignore[arg-type]
    _required(bare, table.unembedding, model_type)
    if not table.may_lack_final_norm:
        _required(bare, table.final_norm, model_type)
    _refuse_bypassed_modules(config)
    return Pathways(
        model_type=model_type,
        n_layers=n_layers,
        n_heads=heads.n_heads,
        n_kv_heads=heads.n_kv_heads,
        d_head=heads.d_head,
        projections=tuple(_projections(bare, table, heads, n_layers)),
        unembedding=table.unembedding,
        final_norm=table.final_norm if _module(bare, table.final_norm) is not None else None,
        norm_gain_offset=table.norm_gain_offset,
        absent=table.absent,
        output_projection=table.output_projection if _module(bare, table.output_projection) is not None else None,
    )


def unwrap(model: nn.Module) -> PreTrainedModel:
    """The transformers model inside a PEFT wrapper (its linear modules may still be LoRA layers)."""
    inner = getattr(model, "get_base_model", None)
    return cast("PreTrainedModel", inner() if callable(inner) and hasattr(model, "peft_config") else model)


def module_of(model: nn.Module, projection: Projection) -> nn.Module:
    """The module that holds a projection: a LoRA layer where PEFT has put one, else the linear module."""
    return unwrap(model).get_submodule(projection.module)


def role_rows(projection: Projection, device: torch.device | str | None = None) -> Tensor:
    """Indices of the module's output features that belong to the role, shape (d_out,), int64."""
    if projection.rows is None:
        return torch.arange(projection.d_out, device=device)
    return torch.cat([torch.arange(start, stop, device=device) for start, stop in projection.rows])


def weight_of(model: nn.Module, projection: Projection) -> Tensor:
    """Base weight of a projection, shape (d_out, d_in), so that y = W x (+ bias).

    Conv1D is transposed, rows of a fused matrix are picked out, a LoRA layer's
    own base is taken, quantised weights are restored. The result may share
    memory with the model: do not write to it.
    """
    module = _linear(module_of(model, projection))
    weight = _full_weight(module)
    weight = weight.T if isinstance(module, Conv1D) else weight
    return weight if projection.rows is None else weight[role_rows(projection, weight.device)]


def output_width(module: nn.Module) -> int:
    """Output features of a linear module or of the LoRA layer on it, all roles together.

    Raises:
        ModelError: It is no linear module.
    """
    return _out_in(_linear(module), type(module).__name__)[0]


def _projections(model: nn.Module, table: Architecture, heads: Heads, n_layers: int) -> Iterable[Projection]:
    for layer in range(n_layers):
        block = f"{table.layers}.{layer}"
        for role in (role for role in ROLES if role in table.modules):
            if role in table.optional and _module(model, f"{block}.{table.modules[role]}") is None:
                continue
            yield _projection(model, table, heads, layer, role)


def _projection(model: nn.Module, table: Architecture, heads: Heads, layer: int, role: str) -> Projection:
    block, within = f"{table.layers}.{layer}", table.modules[role]
    name = f"{block}.{within}"
    d_out, d_in = _out_in(_linear(_required(model, name, model.config.model_type)), name)  # type: ignore[union-attr, arg-type]
    layout = table.layouts.get(within)
    rows = None if layout is None else layout(heads)[role]
    expected = {"q_proj": heads.n_heads, "k_proj": heads.n_kv_heads, "v_proj": heads.n_kv_heads}.get(role)
    if layout is not None:
        _require_size(name, d_out, max(stop for spans in layout(heads).values() for _, stop in spans))
    elif expected is not None:
        _require_size(name, d_out, expected * heads.d_head)
    size = d_out if rows is None else sum(stop - start for start, stop in rows)
    return Projection(layer, role, name, rows, f"{block}.{SITE_OF_ROLE[role]}", d_in, size)


def _heads(config: Any, table: Architecture) -> Heads:
    text = config.get_text_config()
    n_heads = text.num_attention_heads
    return Heads(
        n_heads=n_heads,
        n_kv_heads=table.kv_heads(text),
        d_head=getattr(text, "head_dim", None) or text.hidden_size // n_heads,
        d_mlp=getattr(text, "intermediate_size", None) or 0,
    )


def _linear(module: nn.Module) -> nn.Module:
    """The linear module itself, below any LoRA layer."""
    while hasattr(module, "base_layer"):
        module = module.base_layer  # type: ignore[assignment]
    return module


def _out_in(module: nn.Module, name: str) -> tuple[int, int]:
    """(d_out, d_in) by the class of the module: Conv1D stores the transpose of what nn.Linear stores."""
    if isinstance(module, Conv1D):
        return module.nf, module.nx
    if isinstance(module, nn.Linear):
        return module.out_features, module.in_features
    raise ModelError(f"{name} is a {type(module).__name__}, expected nn.Linear or Conv1D")


def _full_weight(module: nn.Module) -> Tensor:
    weight: nn.Parameter = module.weight  # type: ignore[assignment]
    if weight.is_floating_point() and weight.element_size() > 1:
        return weight.detach()
    if weight.is_floating_point():
        raise ModelError(f"weights in {weight.dtype} are scaled blockwise and not supported; load an unquantised model")
    from peft.utils.integrations import dequantize_bnb_weight

    # peft's dequantize_module_weight would also put a new weight into an 8-bit module, without its scales.
    return dequantize_bnb_weight(weight, state=getattr(module, "state", None)).detach()


def _module(model: nn.Module, name: str | None) -> nn.Module | None:
    if name is None:
        return None
    try:
        return model.get_submodule(name)
    except AttributeError:
        return None


def _required(model: nn.Module, name: str, model_type: str) -> nn.Module:
    module = _module(model, name)
    if module is None:
        raise ModelError(
            f"{type(model).__name__} has no module {name!r}: a causal language model of type "
            f"{model_type!r} was expected, as AutoModelForCausalLM loads it"
        )
    return module


def _require_size(name: str, found: int, expected: int) -> None:
    if found != expected:
        raise ModelError(f"{name} has {found} output features where its configuration gives {expected}")


def _refuse_bypassed_modules(config: Any) -> None:
    if getattr(config, "slow_but_exact", False) and getattr(config, "pretraining_tp", 1) > 1:
        raise ModelError(
            "slow_but_exact with pretraining_tp > 1 computes with slices of the weights and bypasses the modules "
            "(and so any adapter on them): set slow_but_exact to false in config.json"
        )


def _unknown_architecture(model: nn.Module, model_type: str) -> str:
    found: dict[str, int] = {}
    for name, module in model.named_modules():
        if isinstance(_linear(module), nn.Linear | Conv1D) and not name.endswith("base_layer"):
            kind = re.sub(r"\.\d+(?=\.|$)", ".{i}", name)
            found[kind] = found.get(kind, 0) + 1
    listing = ", ".join(f"{kind} ({count})" for kind, count in found.items()) or "none"
    return (
        f"architecture {model_type!r} is not known, and which matrices read and write is not guessed from shapes; "
        f"known: {', '.join(sorted(ARCHITECTURES))}; linear modules found: {listing}"
    )
