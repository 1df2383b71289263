"""Loading: values, layouts, and one clear line for every kind of broken input."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits as sklearn_digits

from neurosim_ep.data import DATASETS, load
from neurosim_ep.data.parquet import read_shards
from neurosim_ep.data.specs import SPECS

SHARED = Path(__file__).resolve().parents[2].parent / "shared" / "data"
TRAIN = "train-00000-of-00001.parquet"
TEST = "test-00000-of-00001.parquet"


def one_line(error: pytest.ExceptionInfo[ValueError], *words: str) -> None:
    text = str(error.value)
    assert "\n" not in text
    for word in words:
        assert word in text


def test_names() -> None:
    assert DATASETS == ("digits", "mnist", "fashion_mnist", "cifar10", "cifar100")
    with pytest.raises(ValueError, match="dataset: got 'svhn', allowed are digits, mnist") as error:
        load("svhn")
    one_line(error)


def test_digits_hold_every_image_once_and_exact() -> None:
    data = load("digits")
    assert (len(data.train), len(data.test)) == (1437, 360)
    assert (data.num_classes, data.channels, data.image_size) == (10, 1, 8)
    assert data.display_name == "digits"
    source = sklearn_digits()
    expected = np.floor(source.images * 255 / 16 + 0.5).astype(np.uint8)
    both = torch.cat([data.train.images, data.test.images]).flatten(1).numpy()
    labels = torch.cat([data.train.labels, data.test.labels]).numpy()
    stored = sorted(zip(map(bytes, both), labels.tolist(), strict=True))
    wanted = sorted(zip(map(bytes, expected.reshape(-1, 64)), source.target.tolist(), strict=True))
    assert stored == wanted
    share = torch.bincount(data.test.labels) / torch.bincount(torch.from_numpy(labels))
    assert (share - 360 / 1797).abs().max() < 0.006
    assert torch.equal(load("digits").test.images, data.test.images)


def test_pixels_and_labels_come_back_exact(kit: Any, cifar_dir: Path) -> None:
    data = load("cifar10", cifar_dir)
    assert data.variant == "original"
    assert data.display_name == "cifar10"
    assert data.class_names == kit.names
    assert data.train.mean == (0.4914, 0.4822, 0.4465)
    assert data.train.std == pytest.approx((0.6069, 0.5982, 0.6030))
    expected = torch.from_numpy(kit.random_pixels(20, 32, 3, 1)).permute(0, 3, 1, 2)
    assert torch.equal(data.train.images, expected)
    assert data.train.images.is_contiguous()
    assert data.train.labels.tolist() == [i % 10 for i in range(20)]
    assert len(data.test) == 10


def test_jpeg_is_named_and_decoded_as_pillow_does(kit: Any, cifar_dir: Path) -> None:
    pixels = kit.random_pixels(10, 32, 3, 3)
    kinds = ["PNG" if i == 4 else "JPEG" for i in range(10)]
    encoded = [kit.encode(p, kind) for p, kind in zip(pixels, kinds, strict=True)]
    kit.write_parquet(cifar_dir / "cifar10" / TEST, encoded, list(range(10)))
    data = load("cifar10", cifar_dir)
    assert (data.variant, data.display_name) == ("jpeg re-encoded", "cifar10 (jpeg)")
    from io import BytesIO

    from PIL import Image

    expected = np.stack([np.asarray(Image.open(BytesIO(e))) for e in encoded])
    assert np.array_equal(data.test.images.permute(0, 2, 3, 1).numpy(), expected)
    assert np.array_equal(expected[4], pixels[4])


def test_inner_folder_environment_and_grey(
    kit: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pixels = kit.random_pixels(5, 28, 1)
    for name in (TRAIN, TEST):
        path = tmp_path / "mnist" / "mnist" / name
        labels = [0, 1, 2, 3, 9]
        kit.write_parquet(path, [kit.encode(p) for p in pixels], labels, image="image", names=None)
    monkeypatch.setenv("NEUROSIM_EP_DATA", str(tmp_path))
    data = load("mnist")
    assert np.array_equal(data.train.images[:, 0].numpy(), pixels)
    assert data.class_names == tuple("0123456789")


def test_shards_are_read_in_order_and_must_be_complete(kit: Any, cifar_dir: Path) -> None:
    folder = cifar_dir / "cifar10"
    (folder / TRAIN).unlink()
    pixels = kit.random_pixels(3, 32, 3)
    for i in range(3):
        path = folder / f"train-0000{i}-of-00003.parquet"
        kit.write_parquet(path, [kit.encode(pixels[i])], [i])
    assert load("cifar10", cifar_dir).train.labels.tolist() == [0, 1, 2]
    (folder / "train-00001-of-00003.parquet").unlink()
    with pytest.raises(ValueError, match="needed are all of one set") as error:
        load("cifar10", cifar_dir)
    one_line(error, str(folder), "train-00002-of-00003")


def test_cifar100_reads_the_fine_label(kit: Any, tmp_path: Path) -> None:
    names = [f"class {i}" for i in range(100)]
    data = [kit.encode(p) for p in kit.random_pixels(2, 32, 3)]
    for name in (TRAIN, TEST):
        path = tmp_path / "cifar100" / name
        coarse = {"coarse_label": [1, 2]}
        kit.write_parquet(path, data, [99, 50], label="fine_label", names=names, extra=coarse)
    loaded = load("cifar100", tmp_path)
    assert loaded.train.labels.tolist() == [99, 50]
    assert (loaded.num_classes, loaded.class_names[99]) == (100, "class 99")


def test_missing_directory_names_the_three_ways(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no such directory") as error:
        load("cifar10", tmp_path / "nowhere")
    one_line(error, str(tmp_path / "nowhere"), "data directory", "NEUROSIM_EP_DATA", "download")


def test_missing_split(cifar_dir: Path) -> None:
    (cifar_dir / "cifar10" / TEST).unlink()
    with pytest.raises(ValueError, match="no test files for cifar10") as error:
        load("cifar10", cifar_dir)
    one_line(error, str(cifar_dir))


@pytest.mark.parametrize("keep", [0, 100, -200])
def test_damaged_parquet(cifar_dir: Path, keep: int) -> None:
    path = cifar_dir / "cifar10" / TRAIN
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(ValueError, match="not a readable Parquet file") as error:
        load("cifar10", cifar_dir)
    one_line(error, str(path))


def broken(kit: Any, cifar_dir: Path, **change: object) -> pytest.ExceptionInfo[ValueError]:
    path = cifar_dir / "cifar10" / TEST
    encoded = [kit.encode(p) for p in kit.random_pixels(2, 32, 3)]
    fields: dict[str, object] = {"encoded": encoded, "labels": [0, 1]}
    kit.write_parquet(path, **(fields | change))
    with pytest.raises(ValueError, match=re.escape(str(path))) as error:
        load("cifar10", cifar_dir)
    one_line(error, str(path))
    return error


def test_columns(kit: Any, cifar_dir: Path) -> None:
    one_line(broken(kit, cifar_dir, image="picture"), "picture, label", "img or image")
    one_line(broken(kit, cifar_dir, label="target"), "img, target", "needed is label")


def test_labels_and_class_names(kit: Any, cifar_dir: Path) -> None:
    one_line(broken(kit, cifar_dir, labels=[0, 10]), "row 1", "label 10", "0 to 9")
    one_line(broken(kit, cifar_dir, labels=[-1, 0]), "row 0", "label -1")
    one_line(broken(kit, cifar_dir, labels=[None, 0]), "row 0", "label None")
    one_line(broken(kit, cifar_dir, names=["a", "b"]), "2 classes", "cifar10 has 10")
    one_line(broken(kit, cifar_dir, names=kit.names[::-1]), "class names differ")
    one_line(broken(kit, cifar_dir, encoded=[], labels=[]), "holds no image")


def test_images(kit: Any, cifar_dir: Path) -> None:
    good = kit.encode(kit.random_pixels(1, 32, 3)[0])
    jpeg = kit.encode(kit.random_pixels(1, 32, 3)[0], "JPEG")
    wide = np.zeros((32, 48, 3), np.uint8)
    for bad, words in (
        (kit.encode(wide), ("48x32", "32x32")),
        (kit.encode(wide, "JPEG"), ("48x32", "32x32")),
        (kit.encode(kit.random_pixels(1, 32, 1)[0]), ("mode L", "mode RGB")),
        (kit.encode(kit.random_pixels(1, 32, 3)[0], "GIF"), ("neither PNG nor JPEG",)),
        (good[:60], ("cannot decode",)),
        (good[: len(good) // 2], ("cannot decode",)),
        (jpeg[:100], ("cannot decode",)),
        (jpeg[: len(jpeg) - 400], ("cannot decode",)),
        (b"", ("cannot decode",)),
        (None, ("no image bytes",)),
    ):
        one_line(broken(kit, cifar_dir, encoded=[good, bad]), "row 1", *words)


def test_nothing_is_unpickled(cifar_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import pickle

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("unpickled")

    for name in ("load", "loads", "Unpickler"):
        monkeypatch.setattr(pickle, name, refuse)
    assert len(load("cifar10", cifar_dir).train) == 20
    assert len(load("digits").train) == 1437


def test_importing_and_loading_leave_kornia_out(cifar_dir: Path) -> None:
    import subprocess

    code = (
        "import sys; from neurosim_ep.data import load; load('cifar10', sys.argv[1]);"
        "assert not any(m.split('.')[0] == 'kornia' for m in sys.modules)"
    )
    root = Path(__file__).resolve().parents[2]
    subprocess.run([sys.executable, "-c", code, str(cifar_dir)], check=True, cwd=root)


@pytest.mark.parametrize(
    ("name", "jpeg", "mean"),
    [("cifar10", True, 0.4765), ("mnist", False, 0.1325), ("fashion_mnist", False, 0.2868)],
)
def test_real_files(name: str, jpeg: bool, mean: float) -> None:
    path = SHARED / name / TEST
    if not path.exists():
        pytest.skip(f"no {path}")
    shards = read_shards([path], SPECS[name])
    assert torch.bincount(shards.split.labels).sum() == 10_000
    assert shards.jpeg is jpeg
    assert len(shards.class_names) == 10
    assert float(shards.split.images.float().mean() / 255) == pytest.approx(mean, abs=2e-3)
