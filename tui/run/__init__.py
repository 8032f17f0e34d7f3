"""One run: curves, console, recipe, report."""
