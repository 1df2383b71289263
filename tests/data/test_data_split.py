"""Splits, held-out parts and derived seeds."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from neurosim_ep.data import Dataset, Split, derive_seed, split_validation


def numbered(labels: list[int]) -> Split:
    """Return a split whose image i holds the bytes of i."""
    count = len(labels)
    images = torch.tensor([[i // 256, i % 256] for i in range(count)], dtype=torch.uint8)
    return Split(images.view(count, 1, 1, 2), torch.tensor(labels, dtype=torch.int64))


def numbers(split: Split) -> list[int]:
    return [int(a) * 256 + int(b) for a, b in split.images.flatten(1)]


def test_take_and_first() -> None:
    split = numbered([3, 1, 4, 1, 5])
    taken = split.take([4, 0, 0])
    assert (numbers(taken), taken.labels.tolist()) == ([4, 0, 0], [5, 3, 3])
    assert numbers(split.take(torch.tensor([1, 2], dtype=torch.int32))) == [1, 2]
    assert numbers(split.first(2)) == [0, 1]
    assert len(split.first(9)) == 5
    assert len(split.take([])) == 0


@pytest.mark.parametrize("indices", [[5], [-1], [0.5], [True], [[0]]])
def test_take_refuses(indices: list[int]) -> None:
    with pytest.raises(ValueError, match="indices: got"):
        numbered([0] * 5).take(indices)


def test_split_refuses_other_shapes_and_types() -> None:
    images, labels = torch.zeros(2, 1, 4, 4, dtype=torch.uint8), torch.zeros(2, dtype=torch.int64)
    with pytest.raises(ValueError, match=r"images: got torch.float32"):
        Split(images.float(), labels)
    with pytest.raises(ValueError, match=r"images: got .* shape \(1, 4, 4\)"):
        Split(images[0], labels)
    with pytest.raises(ValueError, match=r"labels: got .*allowed is torch.int64 of shape \(2,\)"):
        Split(images, labels[:1])
    with pytest.raises(ValueError, match=r"labels: got torch.int32"):
        Split(images, labels.int())
    with pytest.raises(ValueError, match="n: got -1"):
        Split(images, labels).first(-1)


def test_dataset_properties() -> None:
    split = Split(torch.zeros(2, 3, 8, 8, dtype=torch.uint8), torch.tensor([0, 1]))
    data = Dataset("x", "original", split, split, ("a", "b"))
    assert (data.num_classes, data.channels, data.image_size) == (2, 3, 8)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 4), min_size=1, max_size=80), st.data())
def test_validation_is_a_stratified_partition(labels: list[int], data: st.DataObject) -> None:
    split = numbered(labels)
    images = data.draw(st.integers(0, len(labels) - 1))
    train, held = split_validation(split, images, 3)
    assert (len(train), len(held)) == (len(labels) - images, images)
    assert sorted(numbers(train) + numbers(held)) == list(range(len(labels)))
    assert [labels[i] for i in numbers(held)] == held.labels.tolist()
    for c in set(labels):
        exact = images * labels.count(c) / len(labels)
        assert abs(held.labels.tolist().count(c) - exact) < 1


def test_validation_depends_on_the_seed_alone() -> None:
    split = numbered([i % 10 for i in range(200)])
    state = torch.get_rng_state()
    first = numbers(split_validation(split, 50, 1)[1])
    torch.manual_seed(99)
    assert numbers(split_validation(split, 50, 1)[1]) == first
    assert numbers(split_validation(split, 50, 2)[1]) != first
    torch.set_rng_state(state)
    split_validation(split, 50, 1)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("images", [-1, 4, 5])
def test_validation_refuses(images: int) -> None:
    with pytest.raises(ValueError, match=f"validation images: got {images}, allowed is 0 to 3"):
        split_validation(numbered([0, 1, 2, 3]), images, 0)


def test_seeds_are_fixed_for_ever() -> None:
    assert derive_seed(0, 1, "order") == 4320917484076213415  # BLAKE2b-64 of i1:0i1:1s5:order
    assert derive_seed("order") != derive_seed("orde", "r")
    assert derive_seed(1, 2) != derive_seed(2, 1)
    assert derive_seed(1, 23) != derive_seed(12, 3)
    assert derive_seed(1) != derive_seed("1")
    for bad in ((), (1.5,), (True,), (None,)):
        with pytest.raises(ValueError, match="seed part"):
            derive_seed(*bad)  # type: ignore[arg-type]


@given(st.lists(st.one_of(st.integers(), st.text()), min_size=1))
def test_seeds_fit_a_generator(parts: list[int | str]) -> None:
    seed = derive_seed(*parts)
    assert 0 <= seed < 2**63
    torch.Generator().manual_seed(seed)
