"""Prepare the data of docs/evidence.md: rows with short prompts, split for good into training and evaluation.

    python benchmarks/evidence_data.py HARMLESS DEMO WIKITEXT --to FOLDER

HARMLESS and DEMO are preference files in TRL's conversational format, WIKITEXT a
plain text. No prompt is on both sides of a split, and the text that bases are
protected on and the text that is evaluated are different articles.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerBase

from readwrite_edit.align.preferences import load_preferences, split_rows
from readwrite_edit.align.tokenised import tokenise_pairs
from readwrite_edit.durable import write_text
from readwrite_edit.models.loading import load_tokenizer
from readwrite_edit.models.source import parse_source
from readwrite_edit.recipe.sections import Data

MODEL = "bundled:smollm2-135m-instruct"
EVAL_ROWS = {"hh": 88, "demo": 32}
LONGEST_PROMPT = {"hh": 52, "demo": 96}  # tokens, the template included; long answers are cut in training


def main() -> None:
    """Write the files, and say how many rows each has."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("harmless", "demo", "wikitext"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--to", type=Path, required=True)
    args = parser.parse_args()
    tokenizer = load_tokenizer(parse_source(MODEL, None))
    prepare("hh", args.harmless, tokenizer, args.to)
    prepare("demo", args.demo, tokenizer, args.to)
    halve(args.wikitext, args.to)


def prepare(name: str, path: Path, tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    """Write NAME_train.jsonl and NAME_eval.jsonl with the rows whose prompts are short."""
    loaded = load_preferences(Data(path=str(path), eval_rows=1))
    rows = [*loaded.train, *loaded.held_out]
    kept = [row for row in rows if prompt_length(row, tokenizer) <= LONGEST_PROMPT[name]]
    train, held_out = split_rows(kept, EVAL_ROWS[name], seed=0)
    for part, chosen in (("train", train), ("eval", held_out)):
        write_text(folder / f"{name}_{part}.jsonl", "".join(json.dumps(row) + "\n" for row in chosen))
        print(f"{name}_{part}: {len(chosen)} of {len(rows)} rows")


def prompt_length(row: Mapping[str, Any], tokenizer: PreTrainedTokenizerBase) -> int:
    """Tokens of a row's prompt, template included."""
    (tokenised,) = tokenise_pairs([dict(row)], tokenizer, max_length=None).rows
    return len(tokenised["prompt_ids"])


def halve(path: Path, folder: Path) -> None:
    """Write the first half of a text to be protected and the second to be evaluated, cut between lines."""
    text = path.read_text(encoding="utf-8")
    middle = text.index("\n", len(text) // 2) + 1
    for part, half in (("protect", text[:middle]), ("eval", text[middle:])):
        write_text(folder / f"prose_{part}.txt", half)
        print(f"prose_{part}: {len(half)} characters")


if __name__ == "__main__":
    main()
