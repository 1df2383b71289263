"""Encoded images to one uint8 tensor."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from os import cpu_count

import torch
from PIL import Image
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile

PNG_MAGIC = b"\x89PNG\r\n\x1a\n"
JPEG_MAGIC = b"\xff\xd8\xff"
_MODES = {1: "L", 3: "RGB"}
_CHUNK = 1000


def is_jpeg(data: bytes) -> bool:
    """Return whether the bytes start as a JPEG file does."""
    return data.startswith(JPEG_MAGIC)


def _header(data: bytes, mode: str, size: int) -> JpegImageFile | PngImageFile:
    """Read the header alone; ValueError where format, size or mode is not the expected one."""
    if is_jpeg(data):
        image: JpegImageFile | PngImageFile = JpegImageFile(io.BytesIO(data))
    elif data.startswith(PNG_MAGIC):
        image = PngImageFile(io.BytesIO(data))
    else:
        raise ValueError("neither PNG nor JPEG")
    if image.size != (size, size) or image.mode != mode:
        width, height = image.size
        raise ValueError(
            f"an image of {width}x{height} pixels in mode {image.mode},"
            f" allowed is {size}x{size} in mode {mode}"
        )
    return image


def _check_or_decode(data: bytes, mode: str, size: int) -> bytes:
    """Check the header; return the pixels of a PNG, and nothing for a JPEG (decoded later)."""
    image = _header(data, mode, size)
    return b"" if is_jpeg(data) else image.tobytes()


def _decode_jpeg(data: bytes, mode: str, size: int) -> bytes:
    # Straight to the codec, its header having been checked: less time than a second opening, and
    # nearly all of it outside the interpreter lock, so threads help.
    return Image.frombytes(mode, (size, size), data, "jpeg", mode, "").tobytes()


def decode_images(
    encoded: Sequence[bytes], *, channels: int, size: int, where: str
) -> torch.Tensor:
    """Decode PNG or JPEG images of one size.

    Only Pillow's PNG and JPEG readers are used, and an image's size is checked before its pixels
    are read.

    Args:
        encoded: N encoded images.
        channels: 1 (grey) or 3 (RGB).
        size: side of the square images in pixels.
        where: the file's name, for errors.

    Returns:
        uint8 tensor (N, channels, size, size).

    Raises:
        ValueError: an image is damaged, of another format, size or mode; names file and row.
    """
    mode = _MODES[channels]
    pixels = [b""] * len(encoded)

    def run(rows: Sequence[int], work: Callable[[bytes, str, int], bytes]) -> None:
        for row in rows:
            try:
                pixels[row] = work(encoded[row], mode, size)
            except Exception as error:  # Pillow raises many kinds on damaged bytes
                reason = " ".join(str(error).split()) or type(error).__name__
                raise ValueError(f"{where}, row {row}: cannot decode image: {reason}") from error

    run(range(len(encoded)), _check_or_decode)
    jpeg = [row for row, data in enumerate(encoded) if is_jpeg(data)]
    chunks = [jpeg[i : i + _CHUNK] for i in range(0, len(jpeg), _CHUNK)]
    if chunks:
        with ThreadPoolExecutor(min(cpu_count() or 1, 4)) as pool:
            list(pool.map(lambda rows: run(rows, _decode_jpeg), chunks))
    flat = torch.frombuffer(bytearray(b"".join(pixels)), dtype=torch.uint8)
    shaped = flat.view(len(encoded), size, size, channels)
    return shaped.permute(0, 3, 1, 2).contiguous()
