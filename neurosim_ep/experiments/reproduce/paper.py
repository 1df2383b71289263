"""What arXiv 2509.26003 reports, to stand beside what is trained here."""

from dataclasses import dataclass

EPOCHS = 300
MEMORY_MIB = {"ep": 1612.0, "bp": 1324.0}
"""GPU memory of Hopfield-Resnet13 on CIFAR-10 at batch 128 (section IV-C, on an RTX 4090)."""


@dataclass(frozen=True)
class Reported:
    """Test accuracies of one network on one data set in percent; None where there is none.

    Attributes:
        prior_best: by equilibrium propagation before the paper (Table I).
        ep: the paper's, by centered EP (Tables I and II).
        bp: of the feed-forward counterpart by backpropagation (Table II).
    """

    prior_best: float | None
    ep: float
    bp: float | None


REPORTED = {
    ("cifar10", "vgg5"): Reported(90.3, 92.84, 92.11),
    ("cifar10", "hopfield-resnet13"): Reported(None, 93.92, 93.78),
    ("cifar100", "vgg5"): Reported(68.4, 70.78, 72.54),
    ("cifar100", "hopfield-resnet13"): Reported(None, 71.05, 75.12),
    ("fashion-mnist", "vgg5"): Reported(93.53, 94.34, None),
    ("fashion-mnist", "hopfield-resnet13"): Reported(None, 94.15, None),
}
"""Tables I and II by data set and network."""
