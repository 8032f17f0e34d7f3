"""What a change of a model gained on preference data and what it cost on texts, row by row."""
