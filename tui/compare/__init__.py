"""Two to four runs beside each other."""
