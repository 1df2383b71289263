"""Seeds derived from a tuple of labels, the same on every machine and in every release."""

from __future__ import annotations

import hashlib

MAX_SEED = 2**63 - 1


def derive_seed(*parts: int | str) -> int:
    """Hash a tuple of integers and strings to one seed.

    The hash is BLAKE2b (8-byte digest, little endian, cut to 63 bits) over the parts in order,
    each written as its kind, its length in bytes and its decimal or UTF-8 text
    (``i1:7`` for 7, ``s5:order`` for "order"), so that no two tuples share a text and
    ``("1",)`` differs from ``(1,)``. Python's own ``hash`` is not used: it changes between runs.

    Args:
        parts: at least one integer (of any size and sign) or string.

    Returns:
        An integer in [0, 2**63), fit for ``torch.Generator.manual_seed``.

    Raises:
        ValueError: no part was given, or a part is neither an integer nor a string.
    """
    if not parts:
        raise ValueError("seed parts: got none, at least one integer or string is needed")
    digest = hashlib.blake2b(digest_size=8)
    for part in parts:
        if type(part) not in (int, str):
            raise ValueError(f"seed part: got {part!r}, allowed are integers and strings")
        kind = "s" if isinstance(part, str) else "i"
        text = str(part).encode()
        digest.update(f"{kind}{len(text)}:".encode() + text)
    return int.from_bytes(digest.digest(), "little") & MAX_SEED
