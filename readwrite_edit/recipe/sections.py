"""The sections model, data, calibration, geometry and evaluation of a recipe."""

from __future__ import annotations

import re
from pathlib import PurePath
from typing import Annotated, Any, Literal, Self

from pydantic import ConfigDict, Field, model_validator

from readwrite_edit.recipe.section import Count, OneOrMany, OrText, Positive, Section, Seed, Text, conflict

_CHAT_TEXTS = {"builtin:chat", "builtin:chat_eval"}


class Model(Section):
    """The model to align."""

    path: Text = Field(
        description="Where the model is: 'bundled:smollm2-135m-instruct', a folder, a .gguf file or a Hub id."
    )
    revision: Text | None = Field(default=None, description="Branch, tag or commit of a Hub id.")
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        default="auto", description="Type of the weights in memory; 'auto' follows the model's files and the device."
    )
    quantization: Literal["nf4", "int8"] | None = Field(
        default=None,
        description="Load the base weights quantised (bitsandbytes; slow on a CPU); null keeps them as they are.",
    )
    attn_implementation: Text | None = Field(
        default=None,
        description="transformers' name of the attention implementation: 'sdpa', 'eager', 'flash_attention_2', …",
    )
    device: Annotated[str, Field(pattern=r"^(cpu|cuda(:0)?)$")] | None = Field(
        default=None,
        description="'cpu' or 'cuda'; null takes a GPU where there is one. CUDA_VISIBLE_DEVICES chooses among several.",
    )


class Data(Section):
    """The preference data."""

    path: Text = Field(
        description="'builtin:concise', a .jsonl, .parquet or .csv file (relative to the current folder) or a Hub id."
    )
    name: Text | None = Field(default=None, description="Configuration of a Hub data set.")
    split: Text = Field(default="train", description="Split to train on.")
    revision: Text | None = Field(default=None, description="Branch, tag or commit of a Hub data set.")
    eval_path: Text | None = Field(default=None, description="Held-out data, in the forms of 'path'.")
    eval_split: Text | None = Field(
        default=None, description="Held-out split of 'eval_path', or of 'path' without one."
    )
    eval_rows: Count = Field(
        default=32, description="Rows held out of the training data where neither eval_path nor eval_split is given."
    )
    limit: Count | None = Field(default=None, description="Use only this many training rows, drawn with 'seed'.")
    seed: Seed = Field(default=0, description="Seed of the held-out split and of 'limit'.")


def _only_path_is_required(schema: dict[str, Any]) -> None:
    schema["required"] = ["path"]


class ProtectedText(Section):
    """A text to stay the same on, or to measure on; a bare string is its path."""

    model_config = ConfigDict(json_schema_extra=_only_path_is_required)

    path: Text = Field(description="'builtin:prose', 'builtin:chat', a .txt or .jsonl file or a Hub data set.")
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{1,40}$")] = Field(
        description="Name in metrics (kl_NAME): letters, digits, _ . and -; by default the last part of the path."
    )
    weight: Positive = Field(default=1.0, description="Weight beside the other texts of the list.")
    tokens: Count = Field(default=4096, description="Tokens to read of it.")
    format: Literal["text", "chat"] = Field(
        description="'text': plain text; 'chat': messages through the chat template. Default: by the path."
    )

    @model_validator(mode="before")
    @classmethod
    def _from_path(cls, value: Any) -> Any:
        value = {"path": value} if isinstance(value, str) else value
        if not isinstance(value, dict):
            return value
        path = value["path"] if isinstance(value.get("path"), str) else ""
        return {"name": name_of_text(path), "format": "chat" if path in _CHAT_TEXTS else "text"} | value


def name_of_text(path: str) -> str:
    """The default name of a text: 'prose' for 'builtin:prose' and for 'texts/prose.txt'."""
    last = PurePath(path.rpartition(":")[2]).name
    stem = re.sub(r"\.(txt|jsonl|json|parquet|csv)$", "", last)
    return re.sub(r"[^A-Za-z0-9_.-]", "_", stem)[:40] or "text"


Texts = Annotated[tuple[Annotated[ProtectedText, OrText()], ...], OneOrMany()]
PROSE_AND_CHAT: Any = ({"path": "builtin:prose"}, {"path": "builtin:chat"})
HELD_OUT_PROSE_AND_CHAT: Any = (
    {"path": "builtin:prose_eval", "name": "prose"},
    {"path": "builtin:chat_eval", "name": "chat"},
)
PROMPTS: Any = (
    "Explain in one sentence why the sky is blue.",
    "What should I pack for a rainy weekend in the mountains?",
    "Write a short note thanking a colleague for their help.",
)


class Calibration(Section):
    """The texts whose activations give the bases, and the texts to protect."""

    path: Text | None = Field(
        default=None, description="Text to collect statistics on; null: the training data itself."
    )
    tokens: Count = Field(default=8192, description="Tokens to collect statistics on.")
    batch_size: Count = Field(default=8, description="Sequences per forward pass.")
    max_length: Count = Field(default=256, description="Longest sequence in tokens; longer texts are cut.")
    centred: bool = Field(default=False, description="Subtract the mean: covariance instead of second moment.")
    first_position: bool = Field(default=True, description="Include the first position of sequences (attention sinks).")
    seed: Seed = Field(default=0, description="Seed of the choice of texts.")
    protect: Texts = Field(
        default=PROSE_AND_CHAT,
        description="Texts to stay the same on: they give the contrastive basis and the price of an update.",
    )

    @model_validator(mode="after")
    def _distinct_names(self) -> Self:
        _check_distinct("protect", self.protect)
        return self


class Geometry(Section):
    """What geometry.jsonl records during training."""

    k: Count = Field(default=16, description="Directions of the subspaces that fractions are measured against.")
    every: Count = Field(default=4, description="Steps between two snapshots.")


class Evaluation(Section):
    """What is measured before and after, beside the held-out preference data."""

    texts: Texts = Field(default=HELD_OUT_PROSE_AND_CHAT, description="Texts for KL to the base model and perplexity.")
    tokens: Count = Field(default=2048, description="Upper limit of tokens read of each text.")
    max_length: Count = Field(
        default=256,
        description="Longest sequence of a text in tokens; intervals rest on the number of sequences.",
    )
    generations: Annotated[tuple[Text, ...], OneOrMany()] = Field(
        default=PROMPTS, description="Prompts answered before and after, side by side."
    )
    max_new_tokens: Count = Field(default=48, description="Longest answer in tokens.")

    @model_validator(mode="after")
    def _distinct_names(self) -> Self:
        _check_distinct("texts", self.texts)
        return self


def _check_distinct(key: str, texts: tuple[ProtectedText, ...]) -> None:
    names = [text.name for text in texts]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise conflict([key], f"two texts are named {twice[0]!r}; expected distinct names (set name: on one)")
