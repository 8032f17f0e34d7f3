"""The recipes that ship; readwrite_edit.recipe.catalogue finds them."""
