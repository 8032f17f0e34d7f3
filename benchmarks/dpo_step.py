"""A DPO step here beside stock TRL's DPOTrainer with LoRA: same modules, rank, rows, order and dtype.

Both start from the same adapter (a frozen principal basis would be another
model: here lora_A is trained on both sides) and take the same steps in turn,
one here, one there, so that the losses can be compared step by step.

Run: python benchmarks/dpo_step.py [--data FILE] [--steps 6]
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import torch
from datasets import Dataset
from peft import LoraConfig
from trl import DPOConfig, DPOTrainer
from turns import print_ratios

from readwrite_edit.align.preferences import load_preferences
from readwrite_edit.align.reference import ReferenceStore
from readwrite_edit.align.tokenised import tokenise_pairs
from readwrite_edit.align.trainer import PreferenceTrainer
from readwrite_edit.models.loading import load_model, load_tokenizer
from readwrite_edit.models.source import parse_source
from readwrite_edit.recipe.sections import Data

RANK = 16


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="bundled:smollm2-135m-instruct")
    parser.add_argument("--data", default="builtin:concise")
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--max-length", type=int, default=256)
    parser.add_argument("--gradient-checkpointing", action="store_true", help="on both sides; TRL's own default is on")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        ours, stock, reference_s = trainers(args, Path(scratch))
        losses, seconds = take_steps(ours, stock, args)
    print(f"{args.model}, {args.data}, batch {args.batch}, {torch.get_num_threads()} threads")
    epoch_share = reference_s * args.batch / len(ours.train_dataset)
    seconds["here, with its share of the reference pass"] = [step + epoch_share for step in seconds["here"]]
    print_ratios(seconds, "here")
    print_ratios(seconds, "stock TRL")
    worst = max(abs(first - second) for first, second in losses)
    print(f"largest difference of the losses over {len(losses)} steps: {worst:.1e}")


def trainers(args: argparse.Namespace, scratch: Path) -> tuple[PreferenceTrainer, DPOTrainer, float]:
    source = parse_source(args.model)
    tokenizer = load_tokenizer(source)
    data = load_preferences(Data(path=args.data))
    wanted = args.batch * (args.steps + 1)
    tokenised = tokenise_pairs(data.train, tokenizer, max_length=args.max_length)
    if len(tokenised.rows) < wanted:
        raise SystemExit(f"{args.data} has {len(tokenised.rows)} rows to train on, and {wanted} are needed")
    dropped = {one.row for one in tokenised.dropped}
    rows, raw = tokenised.rows[:wanted], [row for at, row in enumerate(data.train) if at not in dropped][:wanted]
    ours = PreferenceTrainer(
        load_model(source),
        configuration(args, scratch / "here"),
        train_rows=rows,
        held_out_rows=rows[:1],
        processing_class=tokenizer,
        peft_config=adapter(),
    )
    start = time.perf_counter()
    ours.use_reference(ReferenceStore(scratch), "benchmark")
    reference_s = time.perf_counter() - start
    stock = DPOTrainer(
        load_model(source),
        args=configuration(args, scratch / "stock"),
        train_dataset=Dataset.from_list(raw),
        processing_class=tokenizer,
        peft_config=adapter(),
    )
    return ours, stock, reference_s


def adapter() -> LoraConfig:
    return LoraConfig(r=RANK, lora_alpha=RANK, target_modules=["q_proj", "k_proj"], task_type="CAUSAL_LM")


def configuration(args: argparse.Namespace, folder: Path) -> DPOConfig:
    return DPOConfig(
        output_dir=str(folder),
        per_device_train_batch_size=args.batch,
        max_length=args.max_length,
        learning_rate=1e-3,
        lr_scheduler_type="constant",
        bf16=False,
        gradient_checkpointing=args.gradient_checkpointing,
        report_to="none",
        use_cpu=not torch.cuda.is_available(),
        disable_tqdm=True,
    )


def take_steps(ours: PreferenceTrainer, stock: DPOTrainer, args: argparse.Namespace) -> tuple[list, dict]:
    """The same rows, alternating; the first step warms up and is not timed."""
    losses, seconds = [], {"here": [], "stock TRL": []}
    optimizers = {"here": optimizer(ours), "stock TRL": optimizer(stock)}
    for step in range(args.steps + 1):
        pair = []
        for name, trainer in (("here", ours), ("stock TRL", stock)):
            chosen = range(step * args.batch, (step + 1) * args.batch)
            batch = trainer.data_collator(trainer.train_dataset.select(chosen).to_list())
            trainer.current_gradient_accumulation_steps = 1  # what train() sets
            start = time.perf_counter()
            pair.append(float(trainer.training_step(trainer.model, batch)))
            optimizers[name].step()
            optimizers[name].zero_grad()
            if step:
                seconds[name].append(time.perf_counter() - start)
        losses.append(pair)
        print(f"step {step}: loss here {pair[0]:.6f}, stock TRL {pair[1]:.6f}")
    return losses, seconds


def optimizer(trainer: DPOTrainer) -> torch.optim.Optimizer:
    trainable = [parameter for parameter in trainer.model.parameters() if parameter.requires_grad]
    return torch.optim.AdamW(trainable, lr=1e-3)


if __name__ == "__main__":
    main()
