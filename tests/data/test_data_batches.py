"""Preparation and batches: numbers, order, and resuming bit for bit."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from neurosim_ep.data import Augmentation, Batches, Preparation, Split, load
from neurosim_ep.data.specs import SPECS

PLAIN = Preparation((0.0,), (1.0,), 4)


def numbered(count: int) -> Split:
    """Return a split whose image i has the value i everywhere, and the label i."""
    images = torch.arange(count, dtype=torch.uint8).view(-1, 1, 1, 1).expand(-1, 1, 4, 4)
    return Split(images.contiguous(), torch.arange(count))


def test_constants() -> None:
    assert SPECS["cifar10"].std == pytest.approx((3 * 0.2023, 3 * 0.1994, 3 * 0.2010))
    assert SPECS["cifar100"].mean == (0.5071, 0.4867, 0.4408)
    assert SPECS["cifar100"].std == (0.2675, 0.2565, 0.2761)
    assert (SPECS["fashion_mnist"].mean, SPECS["fashion_mnist"].std) == ((0.2860,), (0.3530,))
    assert (SPECS["mnist"].mean, SPECS["mnist"].std) == ((0.1307,), (0.3081,))
    assert (SPECS["digits"].mean, SPECS["digits"].std) == ((0.0,), (1.0,))


def test_padding_is_centred_and_comes_before_normalisation() -> None:
    preparation = Preparation((0.25, 0.5, 0.0), (0.5, 2.0, 1.0), 5)
    images = torch.tensor([255, 51, 102], dtype=torch.uint8).view(1, 3, 1, 1).expand(2, 3, 2, 2)
    out = preparation(images, torch.float64)
    assert (out.shape, out.dtype) == ((2, 3, 5, 5), torch.float64)
    inside = (slice(1, 3), slice(1, 3))  # one row above and two below
    for c, (pixel, border) in enumerate(((1.5, -0.5), (-0.15, -0.25), (0.4, 0.0))):
        expected = torch.full((2, 5, 5), border, dtype=torch.float64)
        expected[:, *inside] = pixel
        torch.testing.assert_close(out[:, c], expected, atol=1e-15, rtol=0)


def test_fashion_padding_is_two_on_each_side() -> None:
    images = torch.full((1, 1, 28, 28), 255, dtype=torch.uint8)
    unit = Preparation((0.286,), (0.353,), 32).unit(images)
    assert unit.sum() == 28 * 28
    assert unit[0, 0, 2:30, 2:30].min() == 1


def test_preparation_refuses() -> None:
    data = load("digits")
    assert Preparation.for_dataset(data).image_size == 8
    assert Preparation.for_dataset(data, 12)(data.test.images[:3]).shape == (3, 1, 12, 12)
    with pytest.raises(ValueError, match="image_size: got 7, allowed is 8 or more for digits"):
        Preparation.for_dataset(data, 7)
    with pytest.raises(ValueError, match="image_size: got 4, allowed is 8 or more"):
        PLAIN(data.test.images)
    with pytest.raises(ValueError, match=r"images: got torch.float32"):
        PLAIN(torch.zeros(1, 1, 4, 4))
    with pytest.raises(ValueError, match=r"images: got torch.uint8 of shape"):
        PLAIN(torch.zeros(1, 3, 4, 4, dtype=torch.uint8))
    with pytest.raises(ValueError, match="std: got"):
        Preparation((0.0,), (0.0,), 4)
    with pytest.raises(ValueError, match="mean and std: got 1 and 2 values"):
        Preparation((0.0,), (1.0, 1.0), 4)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 40), st.integers(1, 15), st.booleans(), st.booleans(), st.integers(0, 5))
def test_an_epoch_holds_each_image_once(
    count: int, size: int, shuffle: bool, drop: bool, epoch: int
) -> None:
    made = Batches(
        numbered(count), batch_size=size, preparation=PLAIN, shuffle=shuffle, drop_last=drop
    )
    seen = list(made.epoch(epoch))
    assert len(seen) == len(made) == (count // size if drop else -(-count // size))
    labels = [int(v) for _, batch in seen for v in batch]
    assert len(labels) == made.images_per_epoch
    assert all(len(batch) == size for _, batch in seen[: count // size])
    assert len(set(labels)) == len(labels)
    if not drop:
        assert sorted(labels) == list(range(count))
    if not shuffle:
        assert labels == list(range(len(labels)))
    for images, batch in seen:
        expected = batch.view(-1, 1, 1, 1).expand(-1, 1, 4, 4) / 255
        torch.testing.assert_close(images, expected)


def test_order_depends_on_seed_and_epoch_alone() -> None:
    def order(seed: int, epoch: int) -> list[int]:
        made = Batches(numbered(50), batch_size=7, preparation=PLAIN, seed=seed)
        return [int(v) for _, labels in made.epoch(epoch) for v in labels]

    first = order(1, 0)
    torch.manual_seed(4)
    assert order(1, 0) == first
    assert order(1, 1) != first
    assert order(2, 0) != first


def test_resuming_within_an_epoch_is_bit_for_bit() -> None:
    split = load("digits").train.first(90)
    made = Batches(
        split,
        batch_size=16,
        preparation=Preparation((0.1,), (0.5,), 10),
        augmentation=Augmentation(0.5, 1, 2, 9),
        seed=3,
    )
    whole = list(made.epoch(2))
    assert len(whole) == 6
    for start in (0, 3, 6):
        torch.manual_seed(start)
        resumed = list(made.epoch(2, start_batch=start))
        assert len(resumed) == 6 - start
        for (a, la), (b, lb) in zip(whole[start:], resumed, strict=True):
            assert torch.equal(a, b)
            assert torch.equal(la, lb)
    other = next(made.epoch(3))
    assert not torch.equal(other[0], whole[0][0])


def test_augmentation_comes_between_padding_and_normalisation() -> None:
    split = load("digits").train.first(16)
    preparation = Preparation((0.1,), (0.5,), 10)
    seen: list[tuple[torch.Tensor, int]] = []

    class Spy(Augmentation):
        def __call__(self, images: torch.Tensor, seed: int) -> torch.Tensor:
            seen.append((images, seed))
            return 1 - images

    made = Batches(
        split, batch_size=8, preparation=preparation, augmentation=Spy(), seed=1, shuffle=False
    )
    out = torch.cat([images for images, _ in made.epoch(0)])
    unit = preparation.unit(split.images)
    assert torch.equal(torch.cat([images for images, _ in seen]), unit)
    torch.testing.assert_close(out, (1 - unit - 0.1) / 0.5)
    assert seen[0][1] != seen[1][1]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_dtypes(dtype: torch.dtype) -> None:
    split = load("digits").test.first(5)
    preparation = Preparation((0.3,), (0.7,), 8)
    images, labels = next(
        Batches(split, batch_size=8, preparation=preparation, dtype=dtype, shuffle=False).epoch(0)
    )
    assert images.dtype == dtype
    assert labels.dtype == torch.int64
    working = torch.float64 if dtype == torch.float64 else torch.float32
    assert torch.equal(images, preparation(split.images, working).to(dtype))


def test_the_split_is_moved_once() -> None:
    split = numbered(10)
    made = Batches(split, batch_size=4, preparation=PLAIN, device="cpu")
    address = made._images.data_ptr()
    assert address == split.images.data_ptr()
    list(made.epoch(0))
    list(made.epoch(1))
    assert made._images.data_ptr() == address
    if torch.cuda.is_available():
        on_gpu = Batches(split, batch_size=4, preparation=PLAIN, device="cuda")
        for (a, la), (b, lb) in zip(made.epoch(0), on_gpu.epoch(0), strict=True):
            assert b.device.type == "cuda"
            torch.testing.assert_close(a, b.cpu())
            assert torch.equal(la, lb.cpu())


def test_batches_refuse() -> None:
    split = numbered(10)
    with pytest.raises(ValueError, match="batch_size: got 0"):
        Batches(split, batch_size=0, preparation=PLAIN)
    with pytest.raises(ValueError, match="split: got 0 images"):
        Batches(split.first(0), batch_size=1, preparation=PLAIN)
    with pytest.raises(ValueError, match=r"dtype: got torch.int32"):
        Batches(split, batch_size=1, preparation=PLAIN, dtype=torch.int32)
    made = Batches(split, batch_size=4, preparation=PLAIN)
    for start in (-1, 4):
        with pytest.raises(ValueError, match=f"start_batch: got {start}, allowed is 0 to 3"):
            made.epoch(0, start)
