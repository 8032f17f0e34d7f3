"""Lines on a terminal: a braille canvas, axes, labels."""
