"""Equilibrium propagation on Hopfield networks, exact and on simulated memristor crossbars."""

from neurosim_ep import data, experiments, learning, models, settling

__version__ = "0.1.0"

__all__ = ["data", "experiments", "learning", "models", "settling"]
