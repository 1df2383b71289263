"""What is known of each data set before its files are read."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Spec:
    """Facts of one data set.

    Attributes:
        name: the name in ``DATASETS``.
        channels: 1 (grey) or 3 (RGB).
        image_size: side of the square images in pixels.
        classes: number of classes.
        train_images: number of training images.
        test_images: number of test images.
        mean: per-channel mean of pixels in [0, 1].
        std: per-channel divisor.
        repository: the Hugging Face hub's data set, empty where it comes from elsewhere.
        folder: the folder of the Parquet files inside that repository.
        label_columns: accepted names of the label column, the first found is read.
    """

    name: str
    channels: int
    image_size: int
    classes: int
    train_images: int
    test_images: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    repository: str = ""
    folder: str = ""
    label_columns: tuple[str, ...] = ("label",)


# The CIFAR-10 divisor is three times the pixels' standard deviation: the paper (arXiv 2509.26003)
# trains with it.
_CIFAR10_STD = (3 * 0.2023, 3 * 0.1994, 3 * 0.2010)

SPECS: dict[str, Spec] = {
    spec.name: spec
    for spec in (
        Spec("digits", 1, 8, 10, 1_437, 360, (0.0,), (1.0,)),
        Spec("mnist", 1, 28, 10, 60_000, 10_000, (0.1307,), (0.3081,), "ylecun/mnist", "mnist"),
        Spec(
            "fashion_mnist",
            1,
            28,
            10,
            60_000,
            10_000,
            (0.2860,),
            (0.3530,),
            "zalando-datasets/fashion_mnist",
            "fashion_mnist",
        ),
        Spec(
            "cifar10",
            3,
            32,
            10,
            50_000,
            10_000,
            (0.4914, 0.4822, 0.4465),
            _CIFAR10_STD,
            "uoft-cs/cifar10",
            "plain_text",
        ),
        Spec(
            "cifar100",
            3,
            32,
            100,
            50_000,
            10_000,
            (0.5071, 0.4867, 0.4408),
            (0.2675, 0.2565, 0.2761),
            "uoft-cs/cifar100",
            "cifar100",
            ("fine_label", "label"),
        ),
    )
}

DATASETS: tuple[str, ...] = tuple(SPECS)
"""Names of the data sets that `load` knows."""


def spec_for(name: str) -> Spec:
    """Return the facts of one data set.

    Raises:
        ValueError: ``name`` is not one of ``DATASETS``.
    """
    if name not in SPECS:
        raise ValueError(f"dataset: got {name!r}, allowed are {', '.join(DATASETS)}")
    return SPECS[name]
