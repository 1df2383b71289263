"""Trainings on the devices themselves: built from recipes, recorded, compared, attributed."""
