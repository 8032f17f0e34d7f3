"""Preference alignment: data, TRL trainer, what is recorded while it runs, and the job as a whole."""
