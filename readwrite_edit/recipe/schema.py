"""The recipe as a whole: its sections, what contradicts across them, its JSON schema and its hash."""

from __future__ import annotations

import hashlib
import json
from typing import Any, Self

from pydantic import Field, model_validator

from readwrite_edit.recipe.adapter import Adapter
from readwrite_edit.recipe.objective import Objective
from readwrite_edit.recipe.penalty import Penalty
from readwrite_edit.recipe.section import Section, conflict
from readwrite_edit.recipe.sections import Calibration, Data, Evaluation, Geometry, Model
from readwrite_edit.recipe.training import Train

SECTIONS: dict[str, type[Section]] = {
    "model": Model,
    "data": Data,
    "calibration": Calibration,
    "adapter": Adapter,
    "objective": Objective,
    "penalty": Penalty,
    "train": Train,
    "geometry": Geometry,
    "evaluation": Evaluation,
}
DIALECT = "https://json-schema.org/draft/2020-12/schema"


class Recipe(Section):
    """Everything that determines a run: model, data, adapter, objective and training."""

    model: Model = Field(description="The model to align.")
    data: Data = Field(description="The preference data.")
    calibration: Calibration = Field(default=Calibration(), description="Texts that the bases are computed from.")
    adapter: Adapter = Field(default=Adapter(), description="Which matrices, which subspace, how wide.")
    objective: Objective = Field(default=Objective(), description="The preference loss.")
    penalty: Penalty = Field(default=Penalty(), description="What holds the policy to its base while it trains.")
    train: Train = Field(default=Train(), description="Options of training, by the names of trl.DPOConfig.")
    geometry: Geometry = Field(default=Geometry(), description="What geometry.jsonl records.")
    evaluation: Evaluation = Field(default=Evaluation(), description="What is measured before and after.")
    provenance: dict[str, str] | None = Field(
        default=None, description="Written by a run into its own copy: versions of packages, hashes of model and data."
    )

    @model_validator(mode="before")
    @classmethod
    def _empty_sections(cls, value: Any) -> Any:
        """A section whose every key is commented out reads as null: it stands for its defaults."""
        if not isinstance(value, dict):
            return value
        return {key: {} if item is None and key in SECTIONS else item for key, item in value.items()}

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if self.adapter.basis == "contrastive" and not self.calibration.protect:
            why = "the contrastive basis needs a protected text; expected calibration.protect to name one"
            raise conflict(["calibration.protect", "adapter.basis"], why)
        if (self.penalty.kl or self.penalty.price) and not self.calibration.protect:
            key = "penalty.kl" if self.penalty.kl else "penalty.price"
            why = "a penalty needs a protected text; expected calibration.protect to name one"
            raise conflict(["calibration.protect", key], why)
        if self.model.device == "cpu" and self.train.fp16:
            raise conflict(["train.fp16", "model.device"], "float16 mixed precision needs a GPU; expected false on cpu")
        return self


def recipe_schema() -> dict[str, Any]:
    """JSON schema (draft 2020-12) of a recipe, for editors that complete and check YAML."""
    schema = Recipe.model_json_schema(mode="validation")
    return {"$schema": DIALECT, **schema, "title": "readwrite-edit recipe"}


def recipe_hash(recipe: Section) -> str:
    """SHA-256 (hex) of what a recipe says, whatever its layout, comments and provenance."""
    content = recipe.model_dump(mode="json", exclude={"provenance"})
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def dpo_arguments(recipe: Recipe) -> dict[str, Any]:
    """Keyword arguments for ``trl.DPOConfig`` from the sections train and objective.

    The caller adds what a recipe can not set (``output_dir`` and the like).
    """
    train = recipe.train.model_dump(mode="json")
    if train["num_train_epochs"] is None:
        del train["num_train_epochs"]
    return train | recipe.objective.model_dump(mode="json", exclude={"name"})
