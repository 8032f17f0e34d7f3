"""Recipes: what they may say, reading and checking them, those that ship."""

from readwrite_edit.recipe.catalogue import ShippedRecipe, find_recipe, shipped_recipes
from readwrite_edit.recipe.reading import dump_recipe, load_recipe, parse_recipe, recipe_text
from readwrite_edit.recipe.schema import Recipe, dpo_arguments, recipe_hash, recipe_schema

__all__ = [
    "Recipe",
    "ShippedRecipe",
    "dpo_arguments",
    "dump_recipe",
    "find_recipe",
    "load_recipe",
    "parse_recipe",
    "recipe_hash",
    "recipe_schema",
    "recipe_text",
    "shipped_recipes",
]
