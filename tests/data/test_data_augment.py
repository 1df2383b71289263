"""Augmentation: values against brute force, draws, and the global generator left alone."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import pad

from neurosim_ep.data import Augmentation, derive_seed
from neurosim_ep.data.augment import crop_offsets, random_crop, random_flip
from neurosim_ep.data.randaugment import _modules, operations, rand_augment


def pictures(count: int = 24, channels: int = 3, size: int = 16, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(count, channels, size, size, generator=generator)


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 6), st.integers(0, 5), st.integers(0, 2**63 - 1))
def test_crop_is_edge_padding_and_a_cut_for_each_image(size: int, padding: int, seed: int) -> None:
    images = pictures(5, 2, size)
    offsets = crop_offsets(5, padding, seed)
    cropped = random_crop(images, padding, seed)
    padded = pad(images, (padding,) * 4, mode="replicate")
    for i in range(5):
        top, left = int(offsets[0, i]), int(offsets[1, i])
        assert torch.equal(cropped[i], padded[i, :, top : top + size, left : left + size])


def test_crop_offsets_are_uniform_and_independent() -> None:
    offsets = crop_offsets(81_000, 4, 5)
    cells = torch.bincount(offsets[0] * 9 + offsets[1], minlength=81)
    assert cells.min() > 850
    assert cells.max() < 1150


def test_flip_mirrors_some_images_whole() -> None:
    images = pictures(400, 3, 4)
    flipped = random_flip(images, 0.5, 7)
    same = (flipped == images).flatten(1).all(1)
    mirrored = (flipped == torch.flip(images, (-1,))).flatten(1).all(1)
    assert torch.equal(same, ~mirrored)
    assert 150 < int(same.sum()) < 250
    assert torch.equal(random_flip(images, 1.0, 7), torch.flip(images, (-1,)))
    assert torch.equal(random_flip(images, 0.0, 7), images)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_randaugment_keeps_shape_range_and_input(channels: int, dtype: torch.dtype) -> None:
    images = pictures(24, channels).to(dtype)
    before = images.clone()
    out = rand_augment(images, operation_count=3, magnitude=9, seed=1)
    assert (out.shape, out.dtype) == (images.shape, dtype)
    assert torch.equal(images, before)
    assert out.min() >= 0
    assert out.max() <= 1
    assert (out != images).flatten(1).any(1).sum() > 16


@pytest.mark.parametrize("magnitude", [0, 9, 30])
def test_augmentation_repeats_and_leaves_the_global_generator(magnitude: int) -> None:
    images = pictures()
    augment = Augmentation(0.5, 2, 3, magnitude)
    torch.manual_seed(11)
    state = torch.get_rng_state()
    first = augment(images, 5)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(12)
    assert torch.equal(augment(images, 5), first)
    assert not torch.equal(augment(images, 6), first)


def test_the_order_is_flip_randaugment_crop() -> None:
    images = pictures()
    expected = random_flip(images, 0.5, derive_seed(3, "flip"))
    seed = derive_seed(3, "randaugment")
    expected = rand_augment(expected, operation_count=2, magnitude=9, seed=seed)
    expected = random_crop(expected, 4, derive_seed(3, "crop"))
    assert torch.equal(Augmentation(0.5, 4, 2, 9)(images, 3), expected)
    assert torch.equal(Augmentation()(images, 3), images)


def test_each_image_draws_its_own_operation() -> None:
    image = pictures(1).expand(300, -1, -1, -1)
    out = rand_augment(image, operation_count=1, magnitude=9, seed=0)
    kinds = torch.unique(out.flatten(1), dim=0).shape[0]
    # identity, 5 geometric with two signs, 4 factors with two signs, and 4 more
    assert 20 <= kinds <= 1 + 10 + 8 + 4
    unchanged = int((out == image).flatten(1).all(1).sum())
    assert 8 < unchanged < 40  # 300 / 14 = 21 draw the identity


def apply(name: str, images: torch.Tensor, variant: int = 0, magnitude: int = 9) -> torch.Tensor:
    size = images.shape[-1]
    steps = NAMES.index(name)
    out = images
    with torch.no_grad():
        for module in _modules(magnitude, size)[steps][variant]:
            out = module(out)
    return out


NAMES = ["identity", "shear_x", "shear_y", "translate_x", "translate_y", "rotate", "brightness"]
NAMES += ["color", "contrast", "sharpness", "posterize", "solarize", "auto_contrast", "equalize"]


def test_intensity_operations_have_torchvisions_strength() -> None:
    assert len(operations(9, 32)) == len(NAMES)
    x = pictures(4)
    close = {"atol": 1e-5, "rtol": 0}
    torch.testing.assert_close(apply("solarize", x), torch.where(x >= 0.7, 1 - x, x), **close)
    for variant, factor in enumerate((0.73, 1.27)):
        bright = (x * factor).clamp(0, 1)
        torch.testing.assert_close(apply("brightness", x, variant), bright, **close)
        contrast = ((x - 0.5) * factor + 0.5).clamp(0, 1)
        torch.testing.assert_close(apply("contrast", x, variant), contrast, **close)
    levels = (x * 255).floor() // 2 * 2 / 255
    assert (apply("posterize", x) - levels).abs().max() <= 2 / 255 + 1e-6
    assert torch.unique(apply("posterize", pictures(64))).numel() <= 128


def test_translation_moves_by_whole_pixels() -> None:
    x = pictures(12, 3, 32)
    out = apply("translate_x", x)
    right = pad(x[..., :-4], (4, 0))  # int(150 / 331 * 32 * 9 / 30) = 4
    left = pad(x[..., 4:], (0, 4))
    to_right = (out - right).abs().flatten(1).amax(1) < 1e-4
    to_left = (out - left).abs().flatten(1).amax(1) < 1e-4
    assert torch.equal(to_right, ~to_left)
    assert 0 < int(to_right.sum()) < 12


def test_rotation_turns_by_nine_degrees() -> None:
    rows = torch.linspace(-1, 1, 33)
    ramp = (0.5 + 0.2 * rows).expand(33, 33)  # rises to the right
    out = apply("rotate", ramp.expand(8, 3, 33, 33).clone())
    down = (out[:, 0, 20, 16] - out[:, 0, 12, 16]) / 8
    right = (out[:, 0, 16, 20] - out[:, 0, 16, 12]) / 8
    angle = torch.rad2deg(torch.atan2(down, right))
    torch.testing.assert_close(angle.abs(), torch.full((8,), 9.0), atol=0.1, rtol=0)
    assert angle.sign().unique().numel() == 2


def test_shear_moves_a_row_by_nine_hundredths() -> None:
    rows = torch.linspace(-1, 1, 33)
    ramp = (0.5 + 0.2 * rows).expand(33, 33)
    out = apply("shear_x", ramp.expand(8, 3, 33, 33).clone())
    down = out[:, 0, 20, 16] - out[:, 0, 12, 16]
    right = out[:, 0, 16, 20] - out[:, 0, 16, 12]
    torch.testing.assert_close((down / right).abs(), torch.full((8,), 0.09), atol=1e-3, rtol=0)


def test_colour_leaves_grey_images_alone() -> None:
    grey = pictures(4, 1).expand(-1, 3, -1, -1)
    torch.testing.assert_close(apply("color", grey, 1), grey.contiguous(), atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("flip_probability", 1.1),
        ("flip_probability", float("nan")),
        ("crop_padding_pixels", -1),
        ("randaugment_operations", -1),
        ("randaugment_magnitude", 31),
    ],
)
def test_settings_out_of_range(field: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"{field}: got {value}, allowed is 0") as error:
        Augmentation(**{field: value})  # type: ignore[arg-type]
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "images",
    [pictures().half(), pictures()[0], pictures(2, 2), pictures()[..., :-1]],
    ids=["half", "3-D", "two channels", "not square"],
)
def test_images_refused(images: torch.Tensor) -> None:
    with pytest.raises(ValueError, match="images: got"):
        Augmentation(0.5)(images, 0)
