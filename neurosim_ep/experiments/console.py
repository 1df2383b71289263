"""What a person sees while a run goes on."""

from types import TracebackType

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from neurosim_ep.learning import EpochRecord, Training

UNSETTLED_WARNING_FRACTION = 0.01
DEPARTURE_WARNING = 0.7


class _ImagesPerSecond(ProgressColumn):
    def render(self, task: Task) -> Text:
        """Images per second over the last few seconds."""
        return Text(f"{task.speed:,.0f} images/s" if task.speed else "- images/s")


def _progress(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed:,.0f}/{task.total:,.0f}"),
        _ImagesPerSecond(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )


class RunDisplay:
    """Progress bar of the present epoch and one line per finished epoch.

    Args:
        console: where to print; a console that is no terminal gets the lines only.
        name: the run's name.
        epochs: how many the recipe asks for.
    """

    def __init__(self, console: Console, name: str, epochs: int) -> None:
        self._console, self._epochs = console, epochs
        self._progress = _progress(console)
        self._task = self._progress.add_task(name, total=None)
        self._warned: set[str] = set()

    def __enter__(self) -> "RunDisplay":
        self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._progress.stop()

    def on_batch(self, training: Training) -> None:
        """Advance the bar over all images of the whole run."""
        per_epoch = training.batches.images_per_epoch
        done = training.batch * training.batches.batch_size
        self._progress.update(
            self._task,
            total=self._epochs * per_epoch,
            completed=training.epoch * per_epoch + min(done, per_epoch),
            description=f"epoch {training.epoch + 1}/{self._epochs}",
        )

    def on_epoch(self, record: EpochRecord) -> None:
        """Print the epoch's line, and a warning where the physics asks for one."""
        parts = [f"epoch {record.epoch:3d}/{self._epochs}", f"cost {record.train.cost:.4f}"]
        splits = {"train": record.train, "validation": record.validation, "test": record.test}
        parts += [f"{name} {s.accuracy_percent:.2f} %" for name, s in splits.items() if s]
        if record.train.residual_mean is not None:
            parts.append(f"residual {record.train.residual_mean:.1e}")
        if record.train.departure_mean is not None:
            parts.append(f"departure {record.train.departure_mean:.2f}")
        parts.append(f"{record.train.images / max(record.seconds, 1e-9):,.0f} images/s")
        self._console.print("  ".join(parts), highlight=False, soft_wrap=True)
        self._warn(record)

    def _warn(self, record: EpochRecord) -> None:
        train = record.train
        if (train.unsettled_fraction or 0.0) > UNSETTLED_WARNING_FRACTION:
            self._once(
                "settled",
                f"{100 * (train.unsettled_fraction or 0):.1f} % of the images did not settle in "
                f"epoch {record.epoch} (residual up to {train.residual_max:.1e}): more iterations, "
                "order 'coloured' or smaller gains help",
            )
        # A free state that is still moving looks like a departure: its warning comes first.
        elif (train.departure_mean or 0.0) > DEPARTURE_WARNING:
            self._once(
                "departure",
                f"the nudged phases left the free state's basin in epoch {record.epoch} (departure "
                f"{train.departure_mean:.2f}): a smaller beta or fewer nudged iterations help",
            )

    def _once(self, kind: str, message: str) -> None:
        if kind not in self._warned:
            self._warned.add(kind)
            self.warn(message)

    def warn(self, message: str) -> None:
        """Print a warning."""
        self._console.print(f"warning: {message}", style="yellow", soft_wrap=True)


class TrialDisplay:
    """Progress bar over all images that are settled on hardware, and lines in between.

    Args:
        console: where to print; a console that is no terminal gets the lines only.
        images: how many there will be.
    """

    def __init__(self, console: Console, images: int) -> None:
        self._console, self._progress = console, _progress(console)
        self._task = self._progress.add_task("", total=images)

    def __enter__(self) -> "TrialDisplay":
        self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._progress.stop()

    def describe(self, what: str) -> None:
        """Say what goes on."""
        self._progress.update(self._task, description=what)

    def on_images(self, count: int) -> None:
        """Advance the bar."""
        self._progress.advance(self._task, count)

    def say(self, line: str) -> None:
        """Print a line that stays."""
        self._console.print(line, highlight=False, soft_wrap=True)
