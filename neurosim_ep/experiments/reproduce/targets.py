"""Which trainings each table and figure of the paper needs, in the order of its rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from neurosim_ep._toml_text import problem
from neurosim_ep.experiments.reproduce.paper import REPORTED

TARGETS = ("table1", "table2", "fig2", "fig3", "fig4", "memory")
TITLES = {
    "table1": "Table I: test accuracy",
    "table2": "Table II: backpropagation and equilibrium propagation",
    "fig2": "Figure 2: skip connections",
    "fig3": "Figure 3: activation and augmentation",
    "fig4": "Figure 4: weights by layer",
    "memory": "Section IV-C: memory of one training at batch 128",
}
ACTIVATIONS = {"relu1": "1.0", "relu6": "6.0", "relu-alpha": "random"}
"""Bounds of ReLU-alpha in Figure 3; at random, each layer draws its own from [0, 10]."""


@dataclass(frozen=True)
class Entry:
    """One row: a training for each seed.

    Attributes:
        words: what the row is: data set, network, learned by, and what else tells it apart.
        recipe: shipped recipe at the paper's settings.
        overrides: what the row changes in it.
        variant: part of the run's name that tells the changed recipe apart; empty where nothing is
            changed, so that tables and figures share their trainings.
        paper_percent: test accuracy in the paper; None where it gives no number.
        prior_best_percent: see `paper.Reported`.
    """

    words: tuple[str, ...]
    recipe: str
    overrides: tuple[str, ...] = ()
    variant: str = ""
    paper_percent: float | None = None
    prior_best_percent: float | None = None

    @property
    def key(self) -> str:
        """The row's name."""
        return "/".join(self.words)

    @property
    def learned_by(self) -> str:
        """``ep`` or ``bp``."""
        return "bp" if "bp" in self.words else "ep"


def entries_of(target: str) -> list[Entry]:
    """The rows of a table or figure.

    Raises:
        ValueError: if there is no such target.
    """
    if target not in TARGETS:
        raise ValueError(problem("target", target, f"one of {', '.join(TARGETS)}"))
    if target == "table1":
        return [_entry(*of, way) for of in REPORTED for way in ("ep", "bp")]
    if target == "table2":
        both = [of for of, reported in REPORTED.items() if reported.bp is not None]
        return [_entry(*of, way) for of in both for way in ("bp", "ep")]
    if target == "fig2":
        plain = _entry("cifar10", "hopfield-resnet13", "ep", "skip")
        # The gains of the paths that are left are the full network's.
        without = Entry(
            ("cifar10", "hopfield-resnet13", "ep", "no-skip"),
            plain.recipe,
            ("network.skip=none", "network.gains=none"),
            "no-skip",
        )
        return [plain, without]
    if target == "fig3":
        return [
            _ablation(network, activation, augmentation)
            for network in ("vgg5", "hopfield-resnet13")
            for activation in ACTIVATIONS
            for augmentation in ("basic", "randaugment")
        ]
    return [_entry("cifar10", "hopfield-resnet13", way) for way in ("bp", "ep")]


def selected(entries: Sequence[Entry], only: Sequence[str]) -> list[Entry]:
    """The rows that hold all words of one of the choices, ``word`` or ``word/word``.

    Raises:
        ValueError: if a choice fits no row.
    """
    chosen = [set(text.split("/")) for text in only]
    for text, words in zip(only, chosen, strict=True):
        if not any(words <= set(entry.words) for entry in entries):
            known = dict.fromkeys(word for entry in entries for word in entry.words)
            allowed = f"words that one row has, joined by /, of {', '.join(known)}"
            raise ValueError(problem("only", text, allowed))
    return [e for e in entries if not only or any(words <= set(e.words) for words in chosen)]


def _entry(dataset: str, network: str, way: str, *words: str) -> Entry:
    reported = REPORTED[dataset, network]
    return Entry(
        (dataset, network, way, *words),
        f"{network}-{dataset}" + ("-bp" if way == "bp" else ""),
        paper_percent=reported.ep if way == "ep" else reported.bp,
        prior_best_percent=reported.prior_best if way == "ep" else None,
    )


def _ablation(network: str, activation: str, augmentation: str) -> Entry:
    """One line of Figure 3; the paper's own network is that of Table I."""
    entry = _entry("cifar10", network, "ep", activation, augmentation)
    overrides, parts = [], []
    if activation != "relu6":
        overrides.append(f"network.alpha={ACTIVATIONS[activation]}")
        parts.append(activation)
    if augmentation == "basic":
        overrides.append("data.randaugment_operations=0")
        parts.append(augmentation)
    if not overrides:
        return entry
    return Entry(entry.words, entry.recipe, tuple(overrides), "-".join(parts))
