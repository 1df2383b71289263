"""All that a GPU can show of the settling engine, in one call within a time budget.

Images per second of training steps (settling and gradient) of full-width Hopfield-Resnet13 with
every engine setting against the plain loop and, by its path, the paper's code; beside each the
cosine of its gradient with the linear response (all weights, worst layer), peak memory, and the
hours that 300 CIFAR-10 epochs would take.  A table is printed line by line: what the budget cuts
off is named at the end.

    python benchmarks/gpu.py [--budget-minutes 8] [--paper-code PATH] [--toy]
"""

import argparse
import itertools
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from paper_code import PaperCode
from settling_iteration import multiply_adds, plain_loop
from torch import Tensor

from neurosim_ep.experiments.fidelity.gradients import gradient_fidelity, linear_response
from neurosim_ep.learning import CenteredEP, Phases, equilibrium_gradient
from neurosim_ep.models import HopfieldNetwork, hopfield_resnet13
from neurosim_ep.settling import Engine

RUN_IMAGES = 300 * 50_000
FAITHFUL = (120, 50)
FASTER = ((60, 20), (30, 10), (20, 10))


def settings(device: str, divisor: int) -> dict[str, Phases]:
    """Every combination that is measured, the faithful ones first; iterations are divided."""
    found: dict[str, Phases] = {}
    captures = ("none", "auto") if device == "cuda" else ("none",)
    precisions = ("full", "tf32", "bfloat16", "float16") if device == "cuda" else ("full",)

    def add(
        order: str, counts: tuple[int, int], reads: str, engine: Engine, tolerance: float | None
    ) -> None:
        counts = (counts[0] // divisor, counts[1] // divisor)
        name = f"{order} {counts[0]} + 2 x {counts[1]}, {reads}, {engine.precision}"
        name += f", {engine.acceleration}, capture {engine.capture}, fusion {engine.fusion}"
        name += "" if tolerance is None else f", tolerance {tolerance:g}"
        found[name] = Phases(*counts, order, tolerance, reads, engine)

    for capture, precision in itertools.product(captures, precisions):
        add("asynchronous", FAITHFUL, "full", Engine(precision, capture=capture), None)
    for counts, precision, acceleration in itertools.product(
        FASTER, precisions, ("none", "overrelaxed")
    ):
        engine = Engine(precision, acceleration, captures[-1])
        add("coloured", counts, "delta" if precision != "full" else "full", engine, None)
        fused = replace(engine, fusion="compiled")
        add("coloured", counts, "delta" if precision != "full" else "full", fused, None)
        if counts == FASTER[0]:
            add("coloured", counts, "delta", engine, 1e-3)
    return found


def images_per_s(run: Callable[[], object], batch: int, device: str, least_s: float) -> float:
    """Rate over at least so many seconds, after two runs that warm up and capture."""
    runs, start = 0, 0.0
    for count in itertools.count(-2):
        if count == 0:
            wait(device)
            start = time.perf_counter()
        run()
        runs = count + 1
        if count >= 0:
            wait(device)
            if time.perf_counter() - start >= least_s:
                break
    return runs * batch / (time.perf_counter() - start)


def wait(device: str) -> None:
    """For all launches."""
    if device == "cuda":
        torch.cuda.synchronize()


def matrix_rate(device: str, size: int) -> float:
    """Multiply-adds per second of a plain float32 product (TF32 off)."""
    matrix = torch.rand(size, size, device=device)
    return images_per_s(lambda: matrix @ matrix, 1, device, 0.5) * size**3


def peak_mib(device: str) -> str:
    """Largest memory since the last reset."""
    return f"{torch.cuda.max_memory_allocated() / 2**20:.0f}" if device == "cuda" else "-"


def measure(
    network: HopfieldNetwork,
    phases: Phases,
    batch: tuple[Tensor, Tensor],
    few: tuple[Tensor, Tensor],
    true: list[Tensor],
    least_s: float,
) -> tuple[float, float, float, str]:
    """Images per second, both cosines, peak memory."""
    device = batch[0].device.type
    if device == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    gradient = partial(equilibrium_gradient, estimator=CenteredEP(0.1), phases=phases)
    rate = images_per_s(lambda: gradient(network, *batch), len(batch[0]), device, least_s)
    memory = peak_mib(device)
    gradient(network, *few)
    gradients = [w.grad.double() for w in network.weights if w.grad is not None]
    found = gradient_fidelity(gradients, true)
    return rate, found.cosine, min(found.cosines), memory


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--budget-minutes", type=float, default=8.0)
    parser.add_argument("--paper-code", type=Path, help="checkout of the paper's public code")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--toy", action="store_true", help="tiny, to try it without a GPU")
    options = parser.parse_args()
    end = time.monotonic() + 60 * options.budget_minutes
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cpu" and not options.toy:
        raise SystemExit("--toy: absent is not allowed without a GPU; must be given")
    widths, count, least_s = (
        ((4, 4, 4, 4), 4, 0.05) if options.toy else ((128, 256, 512, 512), options.batch, 2.0)
    )
    generator = torch.Generator().manual_seed(0)
    network = hopfield_resnet13(3, 10, widths, generator=generator).to(device)
    images = torch.rand(count, 3, 32, 32, generator=generator).to(device) - 0.5
    labels = (torch.arange(count) % 10).to(device)
    few = (images[:8], labels[:8])
    name = torch.cuda.get_device_name() if device == "cuda" else "CPU"
    print(f"{name}, PyTorch {torch.__version__}, batch {count}, widths {widths}", flush=True)
    rate = matrix_rate(device, 256 if options.toy else 8192)
    print(f"matrix products: {2e-12 * rate:.2f} TFLOP/s in float32", flush=True)
    true = linear_response(network, *few)
    divisor = 10 if options.toy else 1
    faithful = (FAITHFUL[0] // divisor, FAITHFUL[1] // divisor)
    total = faithful[0] + 2 * faithful[1]

    def show(what: str, images_s: float, cosine: str, memory: str, baseline: float) -> None:
        hours = RUN_IMAGES / images_s / 3600
        print(
            f"{what}: {images_s:.1f} images/s, ratio {images_s / baseline:.2f}, cosine {cosine}, "
            f"{memory} MiB, 300 epochs in {hours:.1f} h",
            flush=True,
        )

    with torch.no_grad():
        plain = partial(plain_loop, network, images, total)
        baseline = images_per_s(plain, count, device, least_s)
    show(f"plain loop, settling only, {total}", baseline, "-", peak_mib(device), baseline)
    if options.paper_code is not None and not options.toy:
        if device == "cuda":
            torch.cuda.reset_peak_memory_stats()
        with torch.no_grad():
            paper = PaperCode(options.paper_code, "hopfield_resnet13", network, device)
            run = partial(paper.training_step, images, labels, *faithful)
            theirs = images_per_s(run, count, device, least_s)
        show(f"paper's code, {total}", theirs, "-", peak_mib(device), baseline)
        baseline = theirs
    left_out = []
    for what, phases in settings(device, divisor).items():
        if time.monotonic() > end:
            left_out.append(what)
            continue
        found = measure(network, phases, (images, labels), few, true, least_s)
        show(what, found[0], f"{found[1]:.4f} / {found[2]:.4f}", found[3], baseline)
        if phases.free_iterations == faithful[0]:
            share = found[0] * multiply_adds(network) * total / rate
            print(f"  {share:.2f} of the matrix-product rate")
    print("cut off by the budget: " + ("; ".join(left_out) or "nothing"))


if __name__ == "__main__":
    main()
