"""Grids of trainings over recipes, cards and seeds."""
