"""Runs against each other in the plane of gain and cost: what each reaches at equal cost, and pays for equal gain."""
