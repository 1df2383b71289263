"""Files that are either the old one or the new one, never half of either."""

import os
import warnings
import zipfile
from pathlib import Path
from typing import Any

import torch


def write_text(path: Path, text: str) -> None:
    """Write a text file beside its place and rename it there."""
    beside = path.with_name(f".{path.name}.part")
    beside.write_text(text, encoding="utf-8")
    os.replace(beside, path)


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Save tensors and plain numbers, so that a kill at any moment leaves a whole file.

    Args:
        path: of the file, which replaces another of that name.
        state: tensors, numbers, texts, and containers of them.
    """
    beside = path.with_name(f".{path.name}.part")
    with beside.open("wb") as file:
        torch.save(state, file)
        file.flush()
        os.fsync(file.fileno())
    os.replace(beside, path)


def load_checkpoint(path: Path, device: torch.device | str = "cpu") -> dict[str, Any]:
    """Load a checkpoint; only tensors and plain containers are accepted, no code is run.

    Args:
        path: of the file.
        device: where the tensors go.

    Raises:
        ValueError: if the file is missing, damaged or not a checkpoint.
    """
    try:
        with zipfile.ZipFile(path) as archive, warnings.catch_warnings():
            # torch does not compare the checksums, and warns of foreign pickles that it refuses.
            warnings.simplefilter("ignore")
            if archive.testzip() is not None:
                raise zipfile.BadZipFile
            state = torch.load(path, map_location=device, weights_only=True)
    except Exception as error:  # a damaged file can raise almost anything in there
        reason = "no such file" if isinstance(error, FileNotFoundError) else "damaged or foreign"
        raise ValueError(f"{path}: {reason}; must be a checkpoint of neurosim-ep") from None
    if not isinstance(state, dict):
        raise ValueError(f"{path}: damaged or foreign; must be a checkpoint of neurosim-ep")
    return state
