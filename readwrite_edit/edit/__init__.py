"""Edits: one targeted change in closed form, its price beforehand, its effect beside matched controls."""
