"""How the command tells of bad values."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

import typer


@contextmanager
def one_line_errors() -> Iterator[None]:
    """A bad value or a missing file is one line (or one per problem) and exit code 2."""
    try:
        yield
    except (ValueError, OSError) as error:
        for line in str(error).splitlines() or [type(error).__name__]:
            print(f"error: {line}", file=sys.stderr)
        raise typer.Exit(2) from None
