"""What each architecture calls its matrices: which read, which write, and where fused ones keep Q, K and V.

A table of names, checked against the modelling code of transformers, and the
row layouts of fused matrices. Nothing here looks at a shape: square matrices
make shapes ambiguous, so a matrix is known by its name in a known architecture
or not at all.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

READ_ROLES = ("q_proj", "k_proj", "v_proj", "gate_proj", "up_proj")
WRITE_ROLES = ("o_proj", "down_proj")
ROLES = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")

SITE_OF_ROLE: Mapping[str, str] = MappingProxyType(
    {
        "q_proj": "attention_input",
        "k_proj": "attention_input",
        "v_proj": "attention_input",
        "o_proj": "attention_output",
        "gate_proj": "mlp_input",
        "up_proj": "mlp_input",
        "down_proj": "mlp_hidden",
    }
)

Rows = tuple[tuple[int, int], ...]
NO_GATE = "its MLP has no gate"
EXPERTS = "its experts are three-dimensional tensors, not linear modules, and are not adapted"


@dataclass(frozen=True)
class Heads:
    """Head geometry of a model: counts of query and key/value heads, features per head, width of the MLP."""

    n_heads: int
    n_kv_heads: int
    d_head: int
    d_mlp: int = 0


Layout = Callable[[Heads], Mapping[str, Rows]]


@dataclass(frozen=True)
class Architecture:
    """Where one architecture keeps the matrices of a layer.

    Attributes:
        layers: Name of the list of layers in the model.
        modules: Role to module name within a layer; roles of a fused matrix name the same module.
        unembedding: Name of the language-model head.
        final_norm: Name of the norm before it.
        layouts: Output rows per role, for each fused module.
        absent: Reason for every role that the architecture does not have.
        optional: Roles that only some layers have (dense layers of a mixture of experts).
        norm_gain_offset: What a norm adds to its weight before multiplying.
        may_lack_final_norm: Variants without a final norm exist.
        output_projection: Name of a matrix between final norm and unembedding that some variants have.
        kv_heads: Number of key/value heads from a configuration.
    """

    layers: str
    modules: Mapping[str, str]
    unembedding: str
    final_norm: str
    layouts: Mapping[str, Layout] = field(default_factory=dict)
    absent: Mapping[str, str] = field(default_factory=dict)
    optional: frozenset[str] = frozenset()
    norm_gain_offset: float = 0.0
    may_lack_final_norm: bool = False
    output_projection: str | None = None
    kv_heads: Callable[[Any], int] = lambda config: (
        getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    )


def blocks_in_turn(heads: Heads) -> Mapping[str, Rows]:
    """All rows of Q, then all of K, then all of V (GPT-2, MPT, Phi-3)."""
    q, kv = heads.n_heads * heads.d_head, heads.n_kv_heads * heads.d_head
    return {"q_proj": ((0, q),), "k_proj": ((q, q + kv),), "v_proj": ((q + kv, q + 2 * kv),)}


def interleaved_per_group(heads: Heads) -> Mapping[str, Rows]:
    """Per key/value head: its query heads, then K, then V; ``view(n_kv, n_heads / n_kv + 2, d_head)``.

    With one query head per key/value head this is ``view(n_heads, 3, d_head)``
    (GPT-NeoX, BLOOM, Falcon without multi-query); with one key/value head it is
    Falcon's multi-query layout; in between lies Falcon's new decoder.
    """
    d, shared = heads.d_head, heads.n_heads // heads.n_kv_heads
    starts = [group * (shared + 2) * d for group in range(heads.n_kv_heads)]
    return {
        "q_proj": tuple((start, start + shared * d) for start in starts),
        "k_proj": tuple((start + shared * d, start + (shared + 1) * d) for start in starts),
        "v_proj": tuple((start + (shared + 1) * d, start + (shared + 2) * d) for start in starts),
    }


def gate_then_up(heads: Heads) -> Mapping[str, Rows]:
    """The gate in the first half of the rows, the up projection in the second (Phi-3)."""
    return {"gate_proj": ((0, heads.d_mlp),), "up_proj": ((heads.d_mlp, 2 * heads.d_mlp),)}


def _all_heads(config: Any) -> int:
    return int(config.num_attention_heads)


def _falcon_kv_heads(config: Any) -> int:
    if config.new_decoder_architecture:
        return int(config.num_kv_heads)
    return 1 if config.multi_query else _all_heads(config)


def _split(attention: str, mlp: str) -> dict[str, str]:
    """Names of separate Llama-like projections within a layer."""
    return {role: f"{mlp if role in ('gate_proj', 'up_proj', 'down_proj') else attention}.{role}" for role in ROLES}


def _fused(qkv: str, output: str, up: str, down: str) -> dict[str, str]:
    """Names of one fused QKV matrix, its output matrix and an MLP without a gate."""
    return {"q_proj": qkv, "k_proj": qkv, "v_proj": qkv, "o_proj": output, "up_proj": up, "down_proj": down}


_LLAMA = Architecture("model.layers", _split("self_attn", "mlp"), "lm_head", "model.norm")
_GEMMA = Architecture("model.layers", _split("self_attn", "mlp"), "lm_head", "model.norm", norm_gain_offset=1.0)
_NEOX_MLP = ("mlp.dense_h_to_4h", "mlp.dense_4h_to_h")

ARCHITECTURES: Mapping[str, Architecture] = MappingProxyType(
    {
        "llama": _LLAMA,
        "mistral": _LLAMA,
        "qwen2": _LLAMA,
        "qwen3": _LLAMA,
        "olmo2": _LLAMA,
        "gemma2": _GEMMA,
        "gemma3_text": _GEMMA,
        "gemma3": Architecture(
            "model.language_model.layers",
            _split("self_attn", "mlp"),
            "lm_head",
            "model.language_model.norm",
            norm_gain_offset=1.0,
        ),
        "phi3": Architecture(
            "model.layers",
            {
                **_fused("self_attn.qkv_proj", "self_attn.o_proj", "mlp.gate_up_proj", "mlp.down_proj"),
                "gate_proj": "mlp.gate_up_proj",
            },
            "lm_head",
            "model.norm",
            layouts={"self_attn.qkv_proj": blocks_in_turn, "mlp.gate_up_proj": gate_then_up},
        ),
        "gpt2": Architecture(
            "transformer.h",
            _fused("attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj"),
            "lm_head",
            "transformer.ln_f",
            layouts={"attn.c_attn": blocks_in_turn},
            absent={"gate_proj": NO_GATE},
            kv_heads=_all_heads,
        ),
        "gpt_neox": Architecture(
            "gpt_neox.layers",
            _fused("attention.query_key_value", "attention.dense", *_NEOX_MLP),
            "lm_head",
            "gpt_neox.final_layer_norm",
            layouts={"attention.query_key_value": interleaved_per_group},
            absent={"gate_proj": NO_GATE},
            kv_heads=_all_heads,
        ),
        "bloom": Architecture(
            "transformer.h",
            _fused("self_attention.query_key_value", "self_attention.dense", *_NEOX_MLP),
            "lm_head",
            "transformer.ln_f",
            layouts={"self_attention.query_key_value": interleaved_per_group},
            absent={"gate_proj": NO_GATE},
            kv_heads=_all_heads,
        ),
        "falcon": Architecture(
            "transformer.h",
            _fused("self_attention.query_key_value", "self_attention.dense", *_NEOX_MLP),
            "lm_head",
            "transformer.ln_f",
            layouts={"self_attention.query_key_value": interleaved_per_group},
            absent={"gate_proj": NO_GATE},
            kv_heads=_falcon_kv_heads,
        ),
        "mpt": Architecture(
            "transformer.blocks",
            _fused("attn.Wqkv", "attn.out_proj", "ffn.up_proj", "ffn.down_proj"),
            "lm_head",
            "transformer.norm_f",
            layouts={"attn.Wqkv": blocks_in_turn},
            absent={"gate_proj": NO_GATE},
            kv_heads=_all_heads,
        ),
        "opt": Architecture(
            "model.decoder.layers",
            {
                "q_proj": "self_attn.q_proj",
                "k_proj": "self_attn.k_proj",
                "v_proj": "self_attn.v_proj",
                "o_proj": "self_attn.out_proj",
                "up_proj": "fc1",
                "down_proj": "fc2",
            },
            "lm_head",
            "model.decoder.final_layer_norm",
            absent={"gate_proj": NO_GATE},
            may_lack_final_norm=True,
            output_projection="model.decoder.project_out",
            kv_heads=_all_heads,
        ),
        "mixtral": Architecture(
            "model.layers",
            {role: f"self_attn.{role}" for role in ROLES[:4]},
            "lm_head",
            "model.norm",
            absent={"gate_proj": EXPERTS, "up_proj": EXPERTS, "down_proj": EXPERTS},
        ),
        "qwen3_moe": Architecture(
            "model.layers",
            _split("self_attn", "mlp"),
            "lm_head",
            "model.norm",
            absent={"gate_proj": EXPERTS, "up_proj": EXPERTS, "down_proj": EXPERTS},
            optional=frozenset({"gate_proj", "up_proj", "down_proj"}),
        ),
    }
)
