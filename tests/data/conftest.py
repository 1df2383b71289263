"""Small data sets in the hub's layout, made on the spot."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

torch.set_num_threads(1)

CIFAR_NAMES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse")
CIFAR_NAMES += ("ship", "truck")


def encode(pixels: np.ndarray[Any, Any], kind: str = "PNG") -> bytes:
    """Encode uint8 (H, W) or (H, W, 3)."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind)
    return buffer.getvalue()


def random_pixels(count: int, size: int, channels: int, seed: int = 0) -> np.ndarray[Any, Any]:
    """Draw uint8 (count, size, size[, 3])."""
    shape = (count, size, size, 3) if channels == 3 else (count, size, size)
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def write_parquet(
    path: Path,
    encoded: Sequence[bytes | None],
    labels: Sequence[int | None],
    *,
    image: str = "img",
    label: str = "label",
    names: Sequence[str] | None = CIFAR_NAMES,
    extra: dict[str, Sequence[int]] | None = None,
) -> None:
    """Write one file as the hub has it."""
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    rows = [{"bytes": data, "path": None} for data in encoded]
    columns: dict[str, pa.Array] = {image: pa.array(rows, kind)}
    columns |= {key: pa.array(values, pa.int64()) for key, values in (extra or {}).items()}
    columns[label] = pa.array(labels, pa.int64())
    table = pa.table(columns)
    if names is not None:
        features = {image: {"_type": "Image"}, label: {"names": list(names), "_type": "ClassLabel"}}
        info = json.dumps({"info": {"features": features}}).encode()
        table = table.replace_schema_metadata({b"huggingface": info})
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path)


class Kit:
    """What the tests make their files with."""

    names = CIFAR_NAMES
    encode = staticmethod(encode)
    random_pixels = staticmethod(random_pixels)
    write_parquet = staticmethod(write_parquet)


@pytest.fixture
def kit() -> type[Kit]:
    """Return the helpers above."""
    return Kit


@pytest.fixture
def cifar_dir(tmp_path: Path) -> Path:
    """Return a directory with a cifar10 of 20 train and 10 test PNG images."""
    for split, count, seed in (("train", 20, 1), ("test", 10, 2)):
        pixels = random_pixels(count, 32, 3, seed)
        path = tmp_path / "cifar10" / f"{split}-00000-of-00001.parquet"
        write_parquet(path, [encode(p) for p in pixels], [i % 10 for i in range(count)])
    return tmp_path
