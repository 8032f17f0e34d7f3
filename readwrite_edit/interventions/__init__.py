"""Low-rank changes of a model in its forward pass, what to compare them with, and how to test the comparison."""
