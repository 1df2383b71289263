"""How much faster several processes train one recipe than one of them alone, in turns in one run.

    torchrun --standalone --nproc-per-node 2 benchmarks/parallel_training.py [--recipe mlp-mnist]
        [--images 3200] [--rounds 3] [--threads 1] [--data-dir DATA]

While the first process trains alone, the others wait. The processes' CPU time beside it shows what
sharing itself costs where other programs hold the cores: on free cores N processes cannot be faster
than N times the ratio of CPU times.
"""

import argparse
import statistics
import time
from pathlib import Path

import torch

from neurosim_ep.config import load_recipe
from neurosim_ep.experiments.build import build, device_of
from neurosim_ep.learning import ALONE, Training, joined_processes


def epoch(training: Training) -> tuple[float, float]:
    """Wall and CPU seconds of one epoch in this process."""
    training.processes.wait()
    started, busy = time.perf_counter(), time.process_time()
    training.run_epoch()
    return time.perf_counter() - started, time.process_time() - busy


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--recipe", default="mlp-mnist")
    parser.add_argument("--images", type=int, default=3200, help="training images of an epoch")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1, help="of each process")
    parser.add_argument("--data-dir", type=Path)
    options = parser.parse_args()
    overrides = [f"train_images={options.images}", f"threads={options.threads}"]
    recipe = load_recipe(options.recipe, overrides)
    torch.set_num_threads(options.threads)
    with joined_processes() as processes:
        processes.use(device_of(recipe, processes))
        trainings = [
            build(recipe, options.data_dir, processes=those, progress=False).training
            for those in (ALONE, processes)
        ]
        wall, busy = [], []
        for index in range(options.rounds + 1):
            alone = epoch(trainings[0]) if processes.first else (0.0, 0.0)
            shared = processes.gathered(epoch(trainings[1]))
            if index == 0:
                continue  # warms up
            wall.append(alone[0] / max(seconds for seconds, _ in shared))
            busy.append(alone[1] / sum(seconds for _, seconds in shared))
            if processes.first:
                print(
                    f"{options.recipe}, {options.images} images: alone {alone[0]:.2f} s "
                    f"(CPU {alone[1]:.2f} s), {processes.count} processes {shared[0][0]:.2f} s "
                    f"(CPU {' + '.join(f'{seconds:.2f}' for _, seconds in shared)} s)"
                )
        if processes.first:
            print(
                f"{processes.count} processes: {statistics.median(wall):.2f} times as fast "
                f"({min(wall):.2f} to {max(wall):.2f}); CPU time alone over CPU time together "
                f"{statistics.median(busy):.2f} ({min(busy):.2f} to {max(busy):.2f})"
            )


if __name__ == "__main__":
    main()
