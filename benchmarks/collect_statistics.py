"""Second moments in one pass, beside a bare forward pass and PEFT's EVA initialisation.

Run: python benchmarks/collect_statistics.py [--tokens 8192] [--rounds 3] [--no-eva]
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import torch
from peft import EvaConfig, LoraConfig, get_peft_model, initialize_lora_eva_weights
from turns import print_ratios, time_in_turn

from readwrite_edit.align.preferences import load_preferences
from readwrite_edit.align.tokenised import pair_sequences, tokenise_pairs
from readwrite_edit.models.loading import load_model, load_tokenizer
from readwrite_edit.models.pathways import find_pathways
from readwrite_edit.models.source import parse_source
from readwrite_edit.recipe.sections import Data
from readwrite_edit.statistics import collect_token_statistics, take_tokens, token_batches

RANK, BATCH = 16, 8


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="bundled:smollm2-135m-instruct")
    parser.add_argument("--tokens", type=int, default=8192)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--no-eva", action="store_true", help="leave out the slow part")
    args = parser.parse_args()
    source = parse_source(args.model)
    model, tokenizer = load_model(source), load_tokenizer(source)
    rows = tokenise_pairs(load_preferences(Data(path="builtin:concise")).train, tokenizer, max_length=256).rows
    sequences = take_tokens(pair_sequences(rows, 256), args.tokens)
    batches = [(ids.to(model.device), mask.to(model.device)) for ids, mask in token_batches(sequences, BATCH)]
    projections = find_pathways(model).select(["q_proj", "k_proj"])
    actions = {
        "bare forward pass": lambda: forward(model, batches),
        "bare forward pass without the head": lambda: forward(model.base_model, batches),
        "statistics of Q and K, convergence included": lambda: collect_token_statistics(
            model, sequences, projections, batch_size=BATCH
        ),
    }
    print(f"{args.model}, {sum(map(len, sequences))} tokens, {torch.get_num_threads()} threads, {model.dtype}")
    seconds = time_in_turn(actions, args.rounds)
    if not args.no_eva:
        wrapped = eva_model(model)
        seconds |= time_in_turn({"EVA initialisation, rank 16": lambda: eva(wrapped, batches)}, 1)
        seconds["EVA initialisation, rank 16"] *= args.rounds
    for baseline in ("bare forward pass", "statistics of Q and K, convergence included"):
        print_ratios(seconds, baseline)


@torch.no_grad()
def forward(model: torch.nn.Module, batches: list) -> None:
    for ids, mask in batches:
        model(input_ids=ids, attention_mask=mask, use_cache=False)


def eva_model(model: torch.nn.Module) -> torch.nn.Module:
    config = LoraConfig(
        r=RANK,
        target_modules=["q_proj", "k_proj"],
        init_lora_weights="eva",
        eva_config=EvaConfig(rho=1.0),
        task_type="CAUSAL_LM",
    )
    return get_peft_model(model, config, low_cpu_mem_usage=True)


def eva(model: torch.nn.Module, batches: list) -> None:
    loader = [{"input_ids": ids, "attention_mask": mask} for ids, mask in batches]
    initialize_lora_eva_weights(model, loader, show_progress_bar=False)


if __name__ == "__main__":
    main()
