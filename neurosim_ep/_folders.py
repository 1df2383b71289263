"""Folders that are written beside their place and renamed when they are whole."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def folder_written_beside(folder: Path) -> Iterator[Path]:
    """A new folder that takes its place when all is written; after an error nothing has changed.

    Args:
        folder: that must not exist yet; its parent must.

    Raises:
        ValueError: in one line, if it exists, or cannot be made.
    """
    if folder.exists() or folder.is_symlink():
        raise ValueError(f"folder: {folder} is not allowed; must not exist yet")
    beside = folder.with_name(f".{folder.name}.part")
    try:
        # Of a run that was killed.
        shutil.rmtree(beside, ignore_errors=True)
        beside.mkdir()
    except OSError as error:
        raise ValueError(f"folder: {folder} cannot be made: {error.strerror}") from None
    try:
        yield beside
        beside.rename(folder)
    except BaseException:
        shutil.rmtree(beside, ignore_errors=True)
        raise
