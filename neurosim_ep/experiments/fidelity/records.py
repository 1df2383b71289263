"""What a fidelity report leaves behind: figures as JSON and CSV, a picture, tables, a sentence."""

import csv
import io
import json
import math
import statistics
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from rich.table import Table

from neurosim_ep.experiments.fidelity.gradients import Fidelity, Response, gradient_fidelity
from neurosim_ep.experiments.fidelity.report import FidelityReport
from neurosim_ep.experiments.fidelity.settings import DECISIVE, READS, Point, Sweep
from neurosim_ep.experiments.run_folder import describe_environment
from neurosim_ep.figures.fidelity import HEADINGS, fidelity_figure
from neurosim_ep.learning import write_text

_CAPTION = (
    "cosine to the linear response of the weights as programmed: worst layer, all weights; "
    "(i) worst layer, to the response of the intended weights"
)
# A free state that still moves, or nudged phases that do not answer linearly, are no yardstick.
_LARGEST_RESIDUAL = 1e-6
_LARGEST_DEPARTURE = 0.2


def save_report(report: FidelityReport, folder: Path) -> None:
    """Write ``fidelity.json``, ``fidelity.csv`` and ``fidelity.png``.

    Args:
        report: of `fidelity_report`.
        folder: made where it is not there; older records in it are replaced.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rows = list(report_rows(report))
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(folder / "fidelity.csv", text.getvalue())
    record = json.dumps(report_record(report), indent=1, allow_nan=False)
    write_text(folder / "fidelity.json", record + "\n")
    fidelity_figure(report, folder / "fidelity.png")


def report_rows(report: FidelityReport) -> Iterator[dict[str, Any]]:
    """One row per setting, kind of reads' hardware, reference and layer.

    Layers are the edges with weights, ``all`` (all weights together) and ``worst``.  Means and
    sample standard deviations are over the draws; a diverged setting has none.
    """
    for sweep in report.sweeps:
        for reads in READS:
            for value, point in zip(sweep.values, sweep.chip[reads], strict=True):
                yield from _point_rows(report, sweep.name, value, "arrays", point)
        for value, point in zip(sweep.values, sweep.exact, strict=bool(sweep.exact)):
            yield from _point_rows(report, sweep.name, value, "exact", point)
    for point in report.joint:
        yield from _point_rows(report, "joint", None, "arrays", point)


def report_record(report: FidelityReport) -> dict[str, Any]:
    """Everything a report says, as JSON has it; NaN becomes null."""
    sweeps = [
        {
            "name": sweep.name,
            "own": sweep.own,
            "values": list(sweep.values),
            "arrays": {reads: [_point(p) for p in sweep.chip[reads]] for reads in READS},
            "exact": [_point(p) for p in sweep.exact],
        }
        for sweep in report.sweeps
    ]
    return {
        "network": report.title,
        **report.about,
        "layers": list(report.layers),
        "images": report.images,
        "seed": report.seed,
        "hardware": report.hardware,
        "repeats": report.repeats,
        "nudged_phases": report.nudged_phases,
        "environment": describe_environment(),
        "device_card": report.device.model_dump(mode="json", exclude_none=True),
        "array_card": report.array.model_dump(mode="json", exclude_none=True),
        "own_setting": vars(report.own),
        "references": {
            "intended": _response(report.intended),
            "programmed": [_response(found) for found in report.programmed],
            "programmed_to_intended": [_fidelity(found) for found in _weights_alone(report)],
        },
        "recommendation": {
            **vars(report.recommendation.point.setting),
            "iterations": report.recommendation.point.setting.iterations(report.nudged_phases),
            "measured": _point(report.recommendation.point),
            "ties_with": _point(report.recommendation.best),
            "sentence": recommendation_line(report),
        },
        "sweeps": sweeps,
        "joint_grid": [_point(point) for point in report.joint],
    }


def report_tables(report: FidelityReport) -> list[Table]:
    """One table per sweep, and the five best settings of the joint grid."""
    tables = [_sweep_table(sweep) for sweep in report.sweeps]
    joint = Table(title="joint grid: the five best settings", caption=_CAPTION)
    for heading in ("beta", "free", "nudged", "reads"):
        joint.add_column(heading, justify="right")
    for heading in ("worst", "all", "(i)"):
        joint.add_column(heading, justify="right")
    ranked = [(worst, p) for p in report.joint if (worst := p.worst()) is not None]
    for _, point in sorted(ranked, key=lambda found: -found[0])[:5]:
        s = point.setting
        joint.add_row(
            f"{s.beta:g}",
            str(s.free_iterations),
            str(s.nudged_iterations),
            s.reads,
            _cell(point, _worst),
            _cell(point, _all),
            _cell(point, _worst, "intended"),
        )
    return [*tables, joint]


def reference_warnings(report: FidelityReport) -> list[str]:
    """Lines on what makes the references doubtful."""
    lines = []
    responses = [("intended", report.intended), *(("programmed", r) for r in report.programmed)]
    for name, found in responses:
        if found.residual > _LARGEST_RESIDUAL:
            lines.append(
                f"the linear response ({name} weights) is doubtful: the exact free phase ends at a "
                f"residual of {found.residual:.1e}, so there may be no settled state"
            )
        elif found.departure > _LARGEST_DEPARTURE:
            lines.append(
                f"the linear response ({name} weights) is doubtful: at the smallest beta the "
                f"nudged phases depart from the free state by {found.departure:.2f}"
            )
    return list(dict.fromkeys(lines))


def weights_line(report: FidelityReport) -> str:
    """What the error of the weights alone makes of the gradient, in words."""
    found = _weights_alone(report)
    worst = statistics.fmean(fidelity.worst for fidelity in found)
    everything = statistics.fmean(fidelity.cosine for fidelity in found)
    return (
        "the error of the weights alone: their linear response as programmed has a cosine of "
        f"{worst:.3f} in the worst layer and {everything:.3f} over all weights to that of the "
        "intended ones"
    )


def recommendation_line(report: FidelityReport) -> str:
    """The recommendation in words, with the cosines to expect."""
    point, best = report.recommendation.point, report.recommendation.best
    setting = point.setting
    worst, everything = (_text(point, value, "intended") for value in (_worst, _all))
    line = (
        f"recommendation: beta {setting.beta:g}, {setting.free_iterations} free and "
        f"{setting.nudged_iterations} nudged iterations, {setting.reads} reads: expect a cosine of "
        f"{_text(point, _worst)} in the worst layer ({_worst_name(report, point)}) and "
        f"{_text(point, _all)} over all weights to the linear response of the weights as "
        f"programmed ({worst} and {everything} to that of the intended weights)"
    )
    if _text(best, _worst) != _text(point, _worst):
        line += f"; the best of the grid, {_text(best, _worst)}, is no better within noise"
    return line


def _sweep_table(sweep: Sweep) -> Table:
    table = Table(title=HEADINGS[sweep.name])
    table.add_column(HEADINGS[sweep.name], justify="right")
    for reads in READS:
        for heading in ("worst", "all", "(i)"):
            table.add_column(f"{reads} {heading}", justify="right")
    if sweep.exact:
        table.add_column("exact worst", justify="right")
    for row, value in enumerate(sweep.values):
        cells = [f"{value:g}" + (" *" if value == sweep.own else "")]
        for reads in READS:
            point = sweep.chip[reads][row]
            cells += [
                _cell(point, _worst),
                _cell(point, _all),
                _cell(point, _worst, "intended"),
            ]
        if sweep.exact:
            cells.append(_cell(sweep.exact[row], _worst, "intended"))
        table.add_row(*cells)
    table.caption = _CAPTION + ("; *: the recipe's or the card's own" if sweep.own else "")
    return table


def _point_rows(
    report: FidelityReport, sweep: str, value: float | None, by: str, point: Point
) -> Iterator[dict[str, Any]]:
    layers: list[tuple[str, Callable[[Fidelity], float], Callable[[Fidelity], float]]] = [
        ("all", _all, lambda f: f.norm_ratio),
        ("worst", _worst, lambda f: f.norm_ratios[f.worst_layer]),
    ]
    for number, name in enumerate(report.layers):
        layers.append(
            (
                name,
                lambda f, n=number: f.cosines[n],  # type: ignore[misc]
                lambda f, n=number: f.norm_ratios[n],  # type: ignore[misc]
            )
        )
    for reference, draws in point.draws.items():
        for name, cosine, ratio in layers:
            cosines = point.mean_and_spread(cosine, reference)
            ratios = point.mean_and_spread(ratio, reference)
            yield {
                "sweep": sweep,
                "value": value,
                "reads_by": by,
                **vars(point.setting),
                "reference": reference,
                "layer": name,
                "cosine_mean": _known(cosines, 0),
                "cosine_spread": _known(cosines, 1),
                "norm_ratio_mean": _known(ratios, 0),
                "norm_ratio_spread": _known(ratios, 1),
                "draws": len(draws),
            }


def _known(found: tuple[float, float] | None, index: int) -> float | None:
    return None if found is None or math.isnan(found[index]) else found[index]


def _point(point: Point) -> dict[str, Any]:
    return {
        **vars(point.setting),
        "draws": {
            reference: [_fidelity(fidelity) for fidelity in draws]
            for reference, draws in point.draws.items()
        },
    }


def _fidelity(fidelity: Fidelity) -> dict[str, Any]:
    return {
        "cosine": fidelity.cosine,
        "norm_ratio": fidelity.norm_ratio,
        "cosines": [None if math.isnan(c) else c for c in fidelity.cosines],
        "norm_ratios": [None if math.isnan(r) else r for r in fidelity.norm_ratios],
    }


def _weights_alone(report: FidelityReport) -> list[Fidelity]:
    """Response of the weights as programmed against that of the intended ones, by hardware."""
    intended = report.intended.gradients
    return [gradient_fidelity(found.gradients, intended) for found in report.programmed]


def _response(found: Response) -> dict[str, float]:
    return {"residual_max": found.residual, "departure_max": found.departure}


def _all(fidelity: Fidelity) -> float:
    return fidelity.cosine


def _worst(fidelity: Fidelity) -> float:
    return fidelity.worst


def _worst_name(report: FidelityReport, point: Point) -> str:
    """The layer that is the worst one most often."""
    worst = [fidelity.worst_layer for fidelity in point.draws[DECISIVE]]
    return report.layers[max(set(worst), key=worst.count)]


def _text(point: Point, value: Callable[[Fidelity], float], reference: str = DECISIVE) -> str:
    found = point.mean_and_spread(value, reference)
    return "-" if found is None else f"{found[0]:.3f}"


def _cell(point: Point, value: Callable[[Fidelity], float], reference: str = DECISIVE) -> str:
    found = point.mean_and_spread(value, reference)
    if found is None:
        return "diverges"
    return f"{found[0]:.3f} +- {found[1]:.3f}" if found[1] >= 0.0005 else f"{found[0]:.3f}"
