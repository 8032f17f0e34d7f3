"""Tiny random causal language models of every known architecture, and a tokenizer for them; nothing is downloaded."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import transformers
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerFast

VOCABULARY = 128
PAD, EOS, START = "<pad>", "<|im_end|>", "<|im_start|>"
CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)

_SHARED = {
    "vocab_size": VOCABULARY,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    # The default 0.02 makes every logit nearly equal, and a wrong one hard to see.
    "initializer_range": 0.15,
}
_LLAMA_LIKE = {
    "hidden_size": 48,
    "intermediate_size": 80,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
}
_GPT_LIKE = {"hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
_FALCON = {**_GPT_LIKE, "max_position_embeddings": 256}
_MOE = {"num_experts_per_tok": 2}

_CONFIGS: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("LlamaConfig", _LLAMA_LIKE),
    "mistral": ("MistralConfig", {**_LLAMA_LIKE, "head_dim": 16}),
    "qwen2": ("Qwen2Config", _LLAMA_LIKE),
    "qwen3": ("Qwen3Config", {**_LLAMA_LIKE, "head_dim": 16}),
    "gemma2": ("Gemma2Config", {**_LLAMA_LIKE, "head_dim": 16, "query_pre_attn_scalar": 16}),
    "gemma3_text": ("Gemma3TextConfig", {**_LLAMA_LIKE, "head_dim": 16, "query_pre_attn_scalar": 16}),
    "phi3": ("Phi3Config", _LLAMA_LIKE),
    "olmo2": ("Olmo2Config", _LLAMA_LIKE),
    "gpt2": ("GPT2Config", {"n_embd": 48, "n_layer": 2, "n_head": 4, "n_positions": 256}),
    "gpt_neox": ("GPTNeoXConfig", {**_GPT_LIKE, "intermediate_size": 80, "max_position_embeddings": 256}),
    "opt": ("OPTConfig", {**_GPT_LIKE, "ffn_dim": 80, "word_embed_proj_dim": 48, "max_position_embeddings": 256}),
    "falcon_multi_query": ("FalconConfig", {**_FALCON, "multi_query": True}),
    "falcon_new_decoder": ("FalconConfig", {**_FALCON, "new_decoder_architecture": True, "num_kv_heads": 2}),
    "falcon_multi_head": ("FalconConfig", {**_FALCON, "multi_query": False, "parallel_attn": False, "alibi": True}),
    "bloom": ("BloomConfig", {"hidden_size": 48, "n_layer": 2, "n_head": 4}),
    "mpt": ("MptConfig", {"d_model": 48, "n_layers": 2, "n_heads": 4, "max_seq_len": 256}),
    "mixtral": ("MixtralConfig", {**_LLAMA_LIKE, **_MOE, "num_local_experts": 4}),
    "qwen3_moe": (
        "Qwen3MoeConfig",
        {**_LLAMA_LIKE, **_MOE, "head_dim": 16, "num_experts": 4, "moe_intermediate_size": 32, "mlp_only_layers": [0]},
    ),
}


def tiny_config(name: str) -> Any:
    """Configuration of one tiny model, from its own config class."""
    class_name, options = _CONFIGS[name]
    return getattr(transformers, class_name)(**{**_SHARED, **options})


def tiny_model(name: str, seed: int = 0) -> PreTrainedModel:
    """A tiny model with seeded random weights, in eval mode, with eager attention."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_config(tiny_config(name), attn_implementation="eager")
        for parameter_name, parameter in model.named_parameters():
            # Biases and norm gains start at 0 and 1, where a mistake about them could hide.
            if parameter.ndim == 1 and parameter_name.endswith(("weight", "bias")):
                parameter.data += 0.05 * torch.randn_like(parameter)
    return model.eval()


def _maker(name: str) -> Callable[[], PreTrainedModel]:
    return lambda: tiny_model(name)


TINY: dict[str, Callable[[], PreTrainedModel]] = {name: _maker(name) for name in _CONFIGS}


def tiny_tokenizer() -> PreTrainedTokenizerFast:
    """A tokenizer of 101 tokens: one per printable ASCII character, with a ChatML template."""
    special = [PAD, "<s>", EOS, START, "<unk>"]
    characters = ["\n", *(chr(code) for code in range(32, 127))]
    vocabulary = {token: index for index, token in enumerate([*special, *characters])}
    backend = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Split(Regex("[\\s\\S]"), behavior="isolated")
    backend.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        pad_token=PAD,
        bos_token="<s>",
        eos_token=EOS,
        unk_token="<unk>",
        additional_special_tokens=[START],
        chat_template=CHAT_TEMPLATE,
        model_max_length=256,
    )
