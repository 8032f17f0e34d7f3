"""A tiny Llama written as a GGUF file, for tests of conversion."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from gguf import GGUFWriter
from transformers import LlamaForCausalLM

from tests.tiny_models import CHAT_TEMPLATE, TINY

_SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
_CONTROL, _NORMAL = 3, 1
_NAMES = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
}


def write_tiny_gguf(path: Path) -> LlamaForCausalLM:
    """Write the tiny Llama to ``path`` in float32 and return it."""
    model = TINY["llama"]()
    config = model.config
    writer = GGUFWriter(path, "llama")
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_dimension_count(config.head_dim)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_vocab_size(config.vocab_size)
    _add_tokenizer(writer, config.vocab_size)
    for name, parameter in model.named_parameters():
        writer.add_tensor(_gguf_name(name), _permuted(name, parameter.detach().numpy(), config))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return model


def _add_tokenizer(writer: GGUFWriter, size: int) -> None:
    letters = [chr(code) for code in range(33, 127)]
    tokens = [*_SPECIAL, *letters, "Ġ", "Ċ", "12", "th"]
    tokens += [f"<unused{index}>" for index in range(size - len(tokens))]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(tokens)
    writer.add_token_types([_CONTROL if index < len(_SPECIAL) else _NORMAL for index in range(size)])
    writer.add_token_merges(["1 2", "t h"])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_pad_token_id(2)
    writer.add_unk_token_id(0)
    writer.add_add_bos_token(False)
    writer.add_chat_template(CHAT_TEMPLATE)


def _gguf_name(name: str) -> str:
    whole = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}
    stem = name.removesuffix(".weight")
    if stem in whole:
        return f"{whole[stem]}.weight"
    _, _, layer, inner = stem.split(".", 3)
    return f"blk.{layer}.{_NAMES[inner]}.weight"


def _permuted(name: str, weight: np.ndarray, config) -> np.ndarray:
    """GGUF keeps the two halves of each rotary head interleaved."""
    heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}
    for role, n_heads in heads.items():
        if role in name:
            halves = weight.reshape(n_heads, 2, -1, weight.shape[-1])
            return np.ascontiguousarray(halves.swapaxes(1, 2).reshape(weight.shape))
    return weight
