"""A small model, small data and a small recipe on the disk: runs that take a second or two."""

from __future__ import annotations

import json
from pathlib import Path

import yaml

from readwrite_edit.recipe import Recipe
from tests.tiny_models import TINY, tiny_tokenizer

WORDS = "the cat sat on a mat and the dog ran to a red house by the old river while birds sang".split()


def write_model(folder: Path, name: str = "llama") -> Path:
    """Save a tiny model and tokenizer."""
    TINY[name]().save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return folder


def preference_rows(count: int = 24) -> list[dict]:
    """Distinct conversational pairs; the chosen answer is the shorter one."""
    rows = []
    for index in range(count):
        start = index % 11
        prompt = " ".join(WORDS[start : start + 3]) + f" {index}"
        chosen, rejected = " ".join(WORDS[index % 7 : index % 7 + 3]), " ".join(WORDS[index % 5 : index % 5 + 6])
        rows.append(
            {
                "prompt": [{"role": "user", "content": prompt}],
                "chosen": [{"role": "assistant", "content": chosen}],
                "rejected": [{"role": "assistant", "content": rejected + "!"}],
            }
        )
    return rows


def write_rows(path: Path, count: int = 24) -> Path:
    """Write preference pairs as JSONL."""
    path.write_text("".join(json.dumps(row) + "\n" for row in preference_rows(count)), encoding="utf-8")
    return path


def small_recipe(folder: Path, architecture: str = "llama", **sections: dict) -> dict:
    """Sections of a recipe on a tiny model in ``folder``; keyword arguments update single sections."""
    place = folder / f"model-{architecture}"
    recipe: dict[str, dict] = {
        "model": {"path": str(place if place.is_dir() else write_model(place, architecture))},
        "data": {"path": str(write_rows(folder / "rows.jsonl")), "eval_rows": 4},
        "calibration": {"tokens": 600, "max_length": 64, "batch_size": 4},
        "adapter": {"rank": 4},
        "objective": {"beta": 0.5},
        "train": {"max_steps": 3, "per_device_train_batch_size": 4, "max_length": 64, "learning_rate": 0.01},
        "geometry": {"k": 4, "every": 1},
        "evaluation": {"tokens": 120, "max_length": 64, "generations": ["the cat"], "max_new_tokens": 4},
    }
    for section, update in sections.items():
        recipe[section] = {**recipe[section], **update}
    return recipe


def as_recipe(sections: dict) -> Recipe:
    """The validated recipe."""
    return Recipe.model_validate(sections)


def write_recipe(path: Path, sections: dict) -> Path:
    """Write a recipe as YAML."""
    path.write_text(yaml.safe_dump(sections), encoding="utf-8")
    return path
