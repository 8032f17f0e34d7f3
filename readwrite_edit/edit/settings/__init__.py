"""What an edit's recipe may say; nothing here imports torch."""

from readwrite_edit.edit.settings.recipe import INTERVENTIONS, EditRecipe

__all__ = ["INTERVENTIONS", "EditRecipe"]
