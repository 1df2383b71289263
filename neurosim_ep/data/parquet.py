"""Parquet shards in the Hugging Face hub's layout to one split."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa  # type: ignore[import-untyped, unused-ignore]
import pyarrow.parquet as pq  # type: ignore[import-untyped, unused-ignore]
import torch

from neurosim_ep.data.dataset import Split
from neurosim_ep.data.decode import decode_images, is_jpeg
from neurosim_ep.data.specs import Spec

IMAGE_COLUMNS = ("img", "image")


@dataclass(frozen=True, eq=False)
class Shards:
    """One split as read from its files.

    Attributes:
        split: the decoded images and their labels.
        class_names: the names in the schema, or the label numbers where it has none.
        jpeg: whether any image was stored as JPEG.
    """

    split: Split
    class_names: tuple[str, ...]
    jpeg: bool


def _column(names: Sequence[str], allowed: Sequence[str], path: Path) -> str:
    for name in allowed:
        if name in names:
            return name
    found = ", ".join(names) or "none"
    raise ValueError(f"{path}: columns are {found}, needed is {' or '.join(allowed)}")


def _class_names(schema: pa.Schema, column: str, spec: Spec, path: Path) -> tuple[str, ...]:
    """Return the label column's names from the schema's ``huggingface`` metadata."""
    numbers = tuple(str(c) for c in range(spec.classes))
    try:
        text = (schema.metadata or {})[b"huggingface"]
        names = json.loads(text)["info"]["features"][column]["names"]
    except (KeyError, TypeError, ValueError):
        return numbers
    if not isinstance(names, list):
        return numbers
    if len(names) != spec.classes:
        raise ValueError(f"{path}: names {len(names)} classes, {spec.name} has {spec.classes}")
    return tuple(str(name) for name in names)


def _read_table(path: Path, spec: Spec) -> tuple[list[bytes], list[int], tuple[str, ...]]:
    """Read the encoded images, labels and class names of one file."""
    try:
        file = pq.ParquetFile(path)
        schema = file.schema_arrow
        image = _column(schema.names, IMAGE_COLUMNS, path)
        label = _column(schema.names, spec.label_columns, path)
        kind = schema.field(image).type
        if not pa.types.is_struct(kind) or kind.get_field_index("bytes") < 0:
            raise ValueError(f"{path}: column {image} is {kind}, needed is a struct with bytes")
        if not pa.types.is_integer(schema.field(label).type):
            raise ValueError(
                f"{path}: column {label} is {schema.field(label).type}, needed is an integer"
            )
        table = file.read(columns=[f"{image}.bytes", label])
    except (pa.ArrowException, OSError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"{path}: not a readable Parquet file: {reason}") from error
    encoded: list[bytes] = []
    for chunk in table.column(image).chunks:
        encoded.extend(chunk.field("bytes").to_pylist())
    labels: list[int] = table.column(label).to_pylist()
    for row, (data, value) in enumerate(zip(encoded, labels, strict=True)):
        if data is None:
            raise ValueError(f"{path}, row {row}: column {image} holds no image bytes")
        if value is None or not 0 <= value < spec.classes:
            raise ValueError(
                f"{path}, row {row}: label {value}, allowed is 0 to {spec.classes - 1}"
            )
    return encoded, labels, _class_names(schema, label, spec, path)


def read_shards(paths: Sequence[Path], spec: Spec) -> Shards:
    """Read and decode the shards of one split, in the order given.

    Args:
        paths: Parquet files with an ``img`` or ``image`` column (struct of encoded ``bytes`` and
            ``path``) and an integer label column.
        spec: what the images have to look like.

    Returns:
        The split, its class names, and whether any image was stored as JPEG.

    Raises:
        ValueError: one line naming the file (and row) that is damaged, lacks a column, or holds a
            label or an image that the data set does not allow; or the files hold no image.
    """
    images, labels, jpeg = [], [], False
    names: tuple[str, ...] = ()
    for path in paths:
        encoded, values, found = _read_table(path, spec)
        if names and found != names:
            raise ValueError(f"{path}: class names differ from those of {paths[0].name}")
        names = found
        if encoded:
            where = str(path)
            images.append(
                decode_images(encoded, channels=spec.channels, size=spec.image_size, where=where)
            )
            labels.extend(values)
            jpeg = jpeg or any(map(is_jpeg, encoded))
    if not images:
        raise ValueError(f"{', '.join(map(str, paths))}: holds no image, at least one is needed")
    split = Split(torch.cat(images), torch.tensor(labels, dtype=torch.int64), spec.mean, spec.std)
    return Shards(split, names, jpeg)
