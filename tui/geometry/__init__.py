"""The geometry of an update, layer by layer, and one matrix of it."""
