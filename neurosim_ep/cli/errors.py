"""How the command tells of bad values."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from neurosim_ep.learning import Processes


@contextmanager
def one_line_errors() -> Iterator[None]:
    """A bad value or a missing file is one line (or one per problem) and exit code 2."""
    try:
        yield
    except (ValueError, OSError) as error:
        _tell(error)
        raise typer.Exit(2) from None


@contextmanager
def one_line_errors_together() -> Iterator[Processes]:
    """The same under ``torchrun``: the first process tells what ends all of them."""
    from neurosim_ep.learning import SharedError, joined_processes

    with one_line_errors(), joined_processes() as processes:
        try:
            yield processes
        except SharedError as error:
            if processes.first:
                _tell(error)
            # torchrun kills the rest as soon as one has ended: not before the line is out.
            processes.wait()
            raise typer.Exit(2) from None


def _tell(error: Exception) -> None:
    for line in str(error).splitlines() or [type(error).__name__]:
        print(f"error: {line}", file=sys.stderr, flush=True)
