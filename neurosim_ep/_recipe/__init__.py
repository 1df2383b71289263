"""Recipes: tables, what goes together, and the whole; the public names are those of `config`."""
