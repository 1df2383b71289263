"""Whole chips in HDF5: saved, loaded, and made from conductances that were measured elsewhere.

docs/hdf5-format.md describes the files.
"""

from neurosim_ep.exchange.hdf5.reading import load, load_recipe
from neurosim_ep.exchange.hdf5.writing import save

__all__ = ["load", "load_recipe", "save"]
