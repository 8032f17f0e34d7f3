"""Write a pair of sharded bf16 checkpoints with the shapes of an 8B Llama, and statistics for them.

    python benchmarks/synthetic_pair.py --to /tmp/pair                # 2 × 16 GB and 4 GB of statistics
    python benchmarks/synthetic_pair.py --to /tmp/pair --layers 4     # 2 × 3.8 GB

Weights are drawn from one pool of Gaussian numbers, read from another place for
every tensor; the tuned checkpoint differs in every matrix of every layer. The
second moments are spiked like those of a trained model and are the same at
every site, since only their shape matters here.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor
from transformers import LlamaConfig

D_MODEL, D_MLP, KV, VOCABULARY = 4096, 14336, 1024, 128256
SHAPES = {
    "self_attn.q_proj": (D_MODEL, D_MODEL),
    "self_attn.k_proj": (KV, D_MODEL),
    "self_attn.v_proj": (KV, D_MODEL),
    "self_attn.o_proj": (D_MODEL, D_MODEL),
    "mlp.gate_proj": (D_MLP, D_MODEL),
    "mlp.up_proj": (D_MLP, D_MODEL),
    "mlp.down_proj": (D_MODEL, D_MLP),
}
_POOL = 1 << 27
_SCALE, _CHANGE = 0.02, 0.01


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--to", type=Path, required=True, help="folder to make")
    parser.add_argument("--layers", type=int, default=32)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    pool = Pool(args.seed)
    for name, tuned in (("base", False), ("tuned", True)):
        write_checkpoint(args.to / name, args.layers, pool, tuned)
    write_statistics_file(args.to / "statistics.safetensors", args.layers, args.seed)
    print(f"{args.to}/base, {args.to}/tuned and {args.to}/statistics.safetensors")


class Pool:
    """Gaussian numbers, drawn once; each tensor reads them from a place of its own."""

    def __init__(self, seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.numbers = torch.randn(_POOL, generator=generator, dtype=torch.float32).bfloat16()

    def take(self, shape: tuple[int, ...], place: int) -> Tensor:
        """A tensor from a place, going round where the pool ends."""
        count = torch.Size(shape).numel()
        start = place * 7919 % (_POOL // 2)
        copies = -(-(start + count) // _POOL)
        source = self.numbers if copies == 1 else self.numbers.repeat(copies)
        return source[start : start + count].view(shape)


def write_checkpoint(folder: Path, layers: int, pool: Pool, tuned: bool) -> None:
    """One safetensors file a layer, an index and a configuration."""
    folder.mkdir(parents=True, exist_ok=True)
    shards = {"outer": dict(_outer(pool))} | {f"{layer:02d}": None for layer in range(layers)}
    weight_map: dict[str, str] = {}
    for number, shard in enumerate(shards):
        tensors = shards[shard] or dict(_layer(int(shard), pool, tuned))
        file = f"model-{number + 1:05d}-of-{len(shards):05d}.safetensors"
        save_file(tensors, folder / file, metadata={"format": "pt"})
        weight_map |= dict.fromkeys(tensors, file)
    index = {"metadata": {}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")
    LlamaConfig(
        hidden_size=D_MODEL,
        intermediate_size=D_MLP,
        num_hidden_layers=layers,
        num_attention_heads=32,
        num_key_value_heads=8,
        vocab_size=VOCABULARY,
        tie_word_embeddings=False,
        dtype="bfloat16",
    ).save_pretrained(folder)


def _outer(pool: Pool) -> Iterator[tuple[str, Tensor]]:
    yield "model.embed_tokens.weight", (pool.take((VOCABULARY, D_MODEL), 1) * _SCALE).contiguous()
    yield "lm_head.weight", (pool.take((VOCABULARY, D_MODEL), 2) * _SCALE).contiguous()
    yield "model.norm.weight", torch.ones(D_MODEL, dtype=torch.bfloat16)


def _layer(layer: int, pool: Pool, tuned: bool) -> Iterator[tuple[str, Tensor]]:
    for number, (name, shape) in enumerate(SHAPES.items()):
        weight = pool.take(shape, 10 * layer + number + 3) * _SCALE
        if tuned:
            weight = weight + pool.take(shape, 10_000 + 10 * layer + number) * (_SCALE * _CHANGE)
        yield f"model.layers.{layer}.{name}.weight", weight.contiguous()
    for norm in ("input_layernorm", "post_attention_layernorm"):
        yield f"model.layers.{layer}.{norm}.weight", torch.ones(D_MODEL, dtype=torch.bfloat16)


def write_statistics_file(path: Path, layers: int, seed: int) -> None:
    """Statistics of the attention and MLP inputs, with λ_i falling as 1/i."""
    from readwrite_edit.statistics import Moments, Statistics
    from readwrite_edit.statistics.store import write_statistics

    generator = torch.Generator().manual_seed(seed)
    spikes = torch.randn(4 * D_MODEL, D_MODEL, generator=generator) / torch.arange(1, D_MODEL + 1).sqrt()
    total = spikes.T @ spikes
    sites = [f"model.layers.{layer}.{site}" for layer in range(layers) for site in ("attention_input", "mlp_input")]
    moments = {site: Moments(total.clone(), torch.zeros(D_MODEL), len(spikes), 0.0) for site in sites}
    write_statistics(path, Statistics(moments, len(spikes)))


if __name__ == "__main__":
    main()
