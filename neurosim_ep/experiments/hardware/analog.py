"""How often a trained network is right on simulated hardware, now and later."""

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

from torch import Tensor

from neurosim_ep.crossbar import ArrayCard, CrossbarNetwork, MappingReport
from neurosim_ep.data import Batches
from neurosim_ep.devices import DeviceCard
from neurosim_ep.experiments.hardware.mapped import Trained
from neurosim_ep.learning import evaluate, write_text

DAY_S = 86_400.0
DEFAULT_TIMES_S = (0.0, 3_600.0, DAY_S, 30 * DAY_S, 365 * DAY_S)
"""Programming, an hour, a day, a month of 30 days, a year."""

OnImages = Callable[[int], None]


@dataclass(frozen=True, eq=False)
class Trial:
    """A trained network on one piece of hardware, or exact.

    Attributes:
        trained: the network.
        images: how many test images it is tried on; None for all.
        device, array: cards of the hardware; None for the exact network.
        seed: of the hardware.
    """

    trained: Trained
    images: int | None
    device: DeviceCard | None = None
    array: ArrayCard | None = None
    seed: int = 0

    def key(self, time_s: float) -> str:
        """Hash of all that the measurement at a time follows from."""
        trained, recipe = self.trained, self.trained.recipe
        parts = {
            "weights": trained.digest,
            "recipe": recipe.model_dump(mode="json", exclude={"name", "description", "run"}),
            "data": [trained.data.variant, len(trained.data.test)],
            "where": [trained.images.device.type, str(trained.images.dtype)],
            "images": min(self.images or len(trained.data.test), len(trained.data.test)),
            "device": self.device and self.device.model_dump(mode="json"),
            "array": self.array and self.array.model_dump(mode="json"),
            "seed": self.seed,
            "time_s": time_s,
        }
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True)
class Measurement:
    """What one trial showed at one time.

    Attributes:
        images: test images.
        accuracy_percent: share of right answers.
        cost: mean C.
        residual_mean, residual_max: of the free phase; read noise keeps them up.
        unsettled_fraction: share of images whose residual is above the tolerance, 0 to 1.
        versions: of the programs that measured it.
        mapping: how the hardware was programmed; None for the exact network.
    """

    images: int
    accuracy_percent: float
    cost: float
    residual_mean: float
    residual_max: float
    unsettled_fraction: float
    versions: dict[str, str]
    mapping: MappingReport | None = None


class Measurements:
    """Makes measurements, and keeps them in a file.

    Args:
        path: the file, replaced after every measurement; None keeps nothing.
        resume: take over what the file holds.
        on_images: called with the number of images after every batch, and for what was kept.

    Raises:
        ValueError: if the file is damaged.
    """

    def __init__(
        self, path: Path | None = None, *, resume: bool = False, on_images: OnImages | None = None
    ) -> None:
        self.path, self.on_images = path, on_images or (lambda count: None)
        self._kept: dict[str, Measurement] = {}
        if path is not None and resume and path.exists():
            self._kept = _load(path)

    def __call__(self, trial: Trial, times_s: Sequence[float] = (0.0,)) -> list[Measurement]:
        """One measurement per time.

        The chip is programmed and calibrated once, ages from time to time, and is read with the
        same draw of read noise at each: only its devices' ageing tells the times apart.

        Args:
            trial: what is measured.
            times_s: since programming, ascending; ignored for the exact network.

        Raises:
            ValueError: if an array is too small or the settling diverges.
        """
        keys = [trial.key(time_s) for time_s in times_s]
        if all(key in self._kept for key in keys):
            found = [self._kept[key] for key in keys]
            self.on_images(sum(measurement.images for measurement in found))
            return found
        for key, measurement in zip(keys, self._measure(trial, times_s), strict=True):
            self._kept[key] = measurement
            self._write()
        return [self._kept[key] for key in keys]

    def _measure(self, trial: Trial, times_s: Sequence[float]) -> Iterator[Measurement]:
        trained, batches = trial.trained, trial.trained.test(trial.images)
        if trial.device is None or trial.array is None:
            exact = self._evaluated(trained, None, batches)
            yield from [exact] * len(times_s)
            return
        chip = trained.chip(trial.device, trial.array, seed=trial.seed)
        draws = [storage.get_extra_state().clone() for storage in chip.storages]
        for time_s in times_s:
            if time_s > chip.elapsed_s:
                chip.advance_time(time_s - chip.elapsed_s)
            for storage, draw in zip(chip.storages, draws, strict=True):
                storage.set_extra_state(draw)
            yield self._evaluated(trained, chip, batches)

    def _evaluated(
        self, trained: Trained, chip: CrossbarNetwork | None, batches: Batches
    ) -> Measurement:
        network = trained.method.model if chip is None else chip
        summary = evaluate(trained.on(network), self._counted(batches))
        assert summary.residual_mean is not None
        assert summary.residual_max is not None
        assert summary.unsettled_fraction is not None
        return Measurement(
            summary.images,
            summary.accuracy_percent,
            summary.cost,
            summary.residual_mean,
            summary.residual_max,
            summary.unsettled_fraction,
            {name: version(name) for name in ("neurosim-ep", "torch")},
            None if chip is None else chip.report,
        )

    def _counted(self, batches: Batches) -> Iterator[tuple[Tensor, Tensor]]:
        for images, labels in batches.epoch(0):
            yield images, labels
            self.on_images(len(labels))

    def _write(self) -> None:
        if self.path is not None:
            table = {key: asdict(measurement) for key, measurement in self._kept.items()}
            write_text(self.path, json.dumps(table, indent=1) + "\n")


def _load(path: Path) -> dict[str, Measurement]:
    try:
        table = json.loads(path.read_text(encoding="utf-8"))
        return {key: _measurement(entry) for key, entry in table.items()}
    except (AttributeError, KeyError, TypeError, ValueError):
        raise ValueError(
            f"{path}: damaged or foreign; must be what a comparison left (or be deleted)"
        ) from None


def _measurement(entry: dict[str, object]) -> Measurement:
    mapping = entry.pop("mapping")
    report = MappingReport(**mapping) if isinstance(mapping, dict) else None
    return Measurement(**entry, mapping=report)  # type: ignore[arg-type]
