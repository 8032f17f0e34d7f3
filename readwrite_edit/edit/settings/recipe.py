"""The recipe of an edit as a whole: a model, one intervention, and how it is priced, measured and compared."""

from __future__ import annotations

from typing import Any, Self

from pydantic import Field, model_validator

from readwrite_edit.edit.settings.associate import Associate
from readwrite_edit.edit.settings.attend import Attend
from readwrite_edit.edit.settings.base import Controls, Intervention, Ledger, Measure, Statistics
from readwrite_edit.edit.settings.extract import Extract, ProjectAdapter
from readwrite_edit.edit.settings.project import Project
from readwrite_edit.edit.settings.steer import Steer
from readwrite_edit.recipe.section import Section, conflict
from readwrite_edit.recipe.sections import Model

INTERVENTIONS: dict[str, type[Intervention]] = {
    kind.KIND: kind for kind in (Associate, Attend, Project, Steer, Extract, ProjectAdapter)
}
_WITH_DEFAULTS = ("statistics", "measure", "controls", "ledger")


class EditRecipe(Section):
    """Everything that determines an edit; exactly one intervention is given."""

    model: Model = Field(description="The model to edit.")
    associate: Associate | None = Field(default=None, description="Write side: subject + relation → target.")
    attend: Attend | None = Field(default=None, description="Read side: attention between two patterns.")
    project: Project | None = Field(default=None, description="Either side: remove, keep or scale a direction.")
    steer: Steer | None = Field(default=None, description="Write side: add a direction where a pattern is present.")
    extract: Extract | None = Field(default=None, description="A tuned model's change as an adapter.")
    project_adapter: ProjectAdapter | None = Field(default=None, description="A part of an existing adapter.")
    statistics: Statistics = Field(default=Statistics(), description="Second moments that the price is measured in.")
    measure: Measure = Field(default=Measure(), description="What is measured before and after.")
    controls: Controls = Field(default=Controls(), description="Matched edits to compare with.")
    ledger: Ledger = Field(default=Ledger(), description="Where the edit is entered.")
    provenance: dict[str, str] | None = Field(
        default=None, description="Written by a run into its own copy: versions of packages, hashes of the model."
    )

    @model_validator(mode="before")
    @classmethod
    def _empty_sections(cls, value: Any) -> Any:
        """A section whose every key is commented out reads as null: it stands for its defaults."""
        if not isinstance(value, dict):
            return value
        return {key: {} if item is None and key in _WITH_DEFAULTS else item for key, item in value.items()}

    @model_validator(mode="before")
    @classmethod
    def _one_intervention(cls, value: Any) -> Any:
        """Two are one mistake, whatever they lack: said first, and nothing of them."""
        given = [name for name in INTERVENTIONS if value.get(name) is not None] if isinstance(value, dict) else []
        if len(given) > 1:
            raise conflict(given, f"interventions: {', '.join(given)}; expected one of {', '.join(INTERVENTIONS)}")
        return value

    @model_validator(mode="after")
    def _some_intervention(self) -> Self:
        if all(getattr(self, name) is None for name in INTERVENTIONS):
            raise conflict([*INTERVENTIONS], f"interventions: none; expected one of {', '.join(INTERVENTIONS)}")
        return self

    @model_validator(mode="after")
    def _a_name_is_entered(self) -> Self:
        if self.ledger.name is not None and not self.measure.certify:
            raise conflict(
                ["ledger.name", "measure.certify"],
                "with measure.certify false the edit is not entered in the ledger and has no name there; "
                "leave one of the two out",
            )
        return self

    @property
    def kind(self) -> str:
        """Name of the intervention."""
        return self.intervention.KIND

    @property
    def intervention(self) -> Intervention:
        """The intervention's own section."""
        found: Intervention = next(part for name in INTERVENTIONS if (part := getattr(self, name)) is not None)
        return found
