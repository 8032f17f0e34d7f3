"""Prepare the data of docs/evidence.md: rows that fit, split for good into training and evaluation.

    python benchmarks/evidence_data.py HARMLESS DEMO WIKITEXT --to FOLDER

HARMLESS and DEMO are preference files in TRL's conversational format, WIKITEXT a
plain text. No prompt is on both sides of a split, and the text that bases are
protected on and the text that is evaluated are different articles.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerBase

from readwrite_edit.align.preferences import load_preferences, split_rows
from readwrite_edit.align.tokenised import row_length, tokenise_pairs
from readwrite_edit.durable import write_text
from readwrite_edit.models.loading import load_tokenizer
from readwrite_edit.models.source import parse_source
from readwrite_edit.recipe.sections import Data

MODEL = "bundled:smollm2-135m-instruct"
EVAL_ROWS = {"hh": 72, "demo": 32}
LONGEST_ROW, LONGEST_PROMPT = 96, 96  # tokens: of HARMLESS's whole rows, and of DEMO's prompts, whose answers are cut


def main() -> None:
    """Write the files, and say how many rows each has."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("harmless", "demo", "wikitext"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--to", type=Path, required=True)
    args = parser.parse_args()
    tokenizer = load_tokenizer(parse_source(MODEL, None))
    prepare("hh", args.harmless, tokenizer, lambda row: row_length(row) <= LONGEST_ROW, args.to)
    prepare("demo", args.demo, tokenizer, lambda row: len(row["prompt_ids"]) <= LONGEST_PROMPT, args.to)
    halve(args.wikitext, args.to)


def prepare(
    name: str,
    path: Path,
    tokenizer: PreTrainedTokenizerBase,
    fits: Callable[[Mapping[str, Any]], bool],
    folder: Path,
) -> None:
    """Write NAME_train.jsonl and NAME_eval.jsonl with the rows that fit."""
    loaded = load_preferences(Data(path=str(path), eval_rows=1))
    rows = [*loaded.train, *loaded.held_out]
    kept = [row for row in rows if all(map(fits, tokenise_pairs([row], tokenizer, max_length=None).rows))]
    train, held_out = split_rows(kept, EVAL_ROWS[name], seed=0)
    for part, chosen in (("train", train), ("eval", held_out)):
        write_text(folder / f"{name}_{part}.jsonl", "".join(json.dumps(row) + "\n" for row in chosen))
        print(f"{name}_{part}: {len(chosen)} of {len(rows)} rows")


def halve(path: Path, folder: Path) -> None:
    """Write the first half of a text to be protected and the second to be evaluated, cut between lines."""
    text = path.read_text(encoding="utf-8")
    middle = text.index("\n", len(text) // 2) + 1
    for part, half in (("protect", text[:middle]), ("eval", text[middle:])):
        write_text(folder / f"prose_{part}.txt", half)
        print(f"prose_{part}: {len(half)} characters")


if __name__ == "__main__":
    main()
