"""Built-in preference data and neutral texts; README.md says what each file is."""
