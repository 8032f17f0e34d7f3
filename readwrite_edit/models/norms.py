"""The norms beside a matrix: what its input went through, and what its output goes through before it is added.

A direction of the residual stream is another one behind a norm's gain. Names
are from a table, checked against the modelling code of transformers, as those
of the matrices are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from torch import Tensor, nn

from readwrite_edit.errors import ModelError
from readwrite_edit.models.architectures import ARCHITECTURES, READ_ROLES, SITE_OF_ROLE, WRITE_ROLES
from readwrite_edit.models.pathways import Pathways, Projection, unwrap


@dataclass(frozen=True, eq=False)
class Norm:
    """What a norm does to a vector h: gain ⊙ normalised(h) + bias.

    Attributes:
        module: Full name.
        gain: Shape (d_model,), float64, on the CPU.
        bias: Shape (d_model,), or None.
        centres: Whether it takes the mean over the features out first (LayerNorm), not just the length (RMSNorm).
    """

    module: str
    gain: Tensor
    bias: Tensor | None
    centres: bool


@dataclass(frozen=True)
class _Names:
    """Norms of a layer; of several names the first that exists counts (Falcon's variants)."""

    attention: Sequence[str] = ("input_layernorm",)
    mlp: Sequence[str] = ("post_attention_layernorm",)
    after: Mapping[str, str] = field(default_factory=dict)  # role to the norm that its output goes through


_LLAMA = _Names()
_POST = {"o_proj": "post_attention_layernorm", "down_proj": "post_feedforward_layernorm"}
_GEMMA = _Names(mlp=("pre_feedforward_layernorm",), after=_POST)
_NAMES: Mapping[str, _Names] = MappingProxyType(
    {
        **dict.fromkeys(("llama", "mistral", "qwen2", "qwen3", "phi3", "mixtral", "qwen3_moe"), _LLAMA),
        **dict.fromkeys(("gpt_neox", "bloom"), _LLAMA),
        **dict.fromkeys(("gemma2", "gemma3", "gemma3_text"), _GEMMA),
        "olmo2": _Names(attention=(), mlp=(), after=_POST),
        "gpt2": _Names(("ln_1",), ("ln_2",)),
        "mpt": _Names(("norm_1",), ("norm_2",)),
        "opt": _Names(("self_attn_layer_norm",), ("final_layer_norm",)),
        "falcon": _Names(("ln_attn", "input_layernorm"), ("ln_mlp", "post_attention_layernorm", "input_layernorm")),
    }
)


def input_norm(model: nn.Module, pathways: Pathways, projection: Projection) -> Norm | None:
    """The norm between the residual stream and what a matrix reads; None where it reads the stream as it is.

    Args:
        model: The model, wrapped by PEFT or not.
        pathways: Of the model.
        projection: The matrix.

    Raises:
        ModelError: The matrix does not read the residual stream, or the stream itself is normalised (OPT-350m).
    """
    if projection.role not in READ_ROLES:
        read = "what the heads gathered" if SITE_OF_ROLE[projection.role] == "attention_output" else "the MLP's units"
        raise ModelError(
            f"{projection.role} reads {read}, not the residual stream; a direction of the stream is read by "
            f"{', '.join(READ_ROLES)}"
        )
    _refuse_normalised_stream(model)
    names = _names(pathways)
    candidates = names.attention if SITE_OF_ROLE[projection.role] == "attention_input" else names.mlp
    return _first(model, pathways, projection.layer, candidates)


def output_norm(model: nn.Module, pathways: Pathways, projection: Projection) -> Norm | None:
    """The norm between what a matrix writes and the residual stream; None where it is added as it is.

    Args:
        model: The model, wrapped by PEFT or not.
        pathways: Of the model.
        projection: The matrix.

    Raises:
        ModelError: The matrix does not write into the residual stream, or the stream itself is normalised (OPT-350m).
    """
    if projection.role not in WRITE_ROLES:
        raise ModelError(
            f"{projection.role} does not write into the residual stream; {' and '.join(WRITE_ROLES)} write into it"
        )
    _refuse_normalised_stream(model)
    name = _names(pathways).after.get(projection.role)
    return None if name is None else _first(model, pathways, projection.layer, (name,))


def _names(pathways: Pathways) -> _Names:
    if pathways.model_type not in _NAMES:
        raise ModelError(f"the norms of architecture {pathways.model_type!r} are not known")
    return _NAMES[pathways.model_type]


def _first(model: nn.Module, pathways: Pathways, layer: int, names: Sequence[str]) -> Norm | None:
    if not names:
        return None
    place = f"{ARCHITECTURES[pathways.model_type].layers}.{layer}"
    block: Any = unwrap(model).get_submodule(place)
    for name in names:
        module: Any = getattr(block, name, None)
        if module is not None:
            return _norm(f"{place}.{name}", module, pathways.norm_gain_offset)
    raise ModelError(f"{place} has no {' or '.join(names)}; expected the norm of a {pathways.model_type} model")


def _norm(name: str, module: Any, offset: float) -> Norm:
    if module.weight is None:
        raise ModelError(f"{name} has no gain; norms without one are not supported here")
    bias = getattr(module, "bias", None)
    gain = module.weight.detach().double().cpu() + offset
    bias = None if bias is None else bias.detach().double().cpu()
    return Norm(name, gain, bias, centres=isinstance(module, nn.LayerNorm))


def _refuse_normalised_stream(model: nn.Module) -> None:
    if getattr(unwrap(model).config, "do_layer_norm_before", True) is False:
        raise ModelError(
            "this model normalises the residual stream itself after each addition, so that a direction of the stream "
            "is not one of what a matrix reads or writes; give a direction of the matrix' own (file on the read side, "
            "principal)"
        )
