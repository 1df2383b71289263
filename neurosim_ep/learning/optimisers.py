"""Parameter groups and schedules for ``torch.optim``."""

from collections.abc import Sequence
from typing import Any

from torch import nn

from neurosim_ep.models import Edge, FeedForward, HopfieldNetwork


def parameter_groups(
    model: HopfieldNetwork | FeedForward,
    learning_rate: float,
    *,
    weight_learning_rates: Sequence[float] | None = None,
    bias_learning_rates: Sequence[float] | None = None,
) -> list[dict[str, Any]]:
    """One group per bias, then per weight, then the rest (batch norm), each with its own rate.

    Args:
        model: whose parameters are grouped.
        learning_rate: of every group that has no rate of its own.
        weight_learning_rates: one per weight, in edge order.
        bias_learning_rates: one per free layer.

    Raises:
        ValueError: if a list's length does not fit.
    """
    biases = list(model.biases)
    edges = [edge for edge in model.edges if isinstance(edge, Edge)]
    weights = [weight for edge in edges for weight in edge.storage.parameters()]
    known = {id(parameter) for parameter in (*biases, *weights)}
    rest = [parameter for parameter in model.parameters() if id(parameter) not in known]
    groups = _rated("bias_learning_rates", biases, bias_learning_rates, learning_rate)
    groups += _rated("weight_learning_rates", weights, weight_learning_rates, learning_rate)
    return groups + ([{"params": rest, "lr": learning_rate}] if rest else [])


def _rated(
    name: str, parameters: Sequence[nn.Parameter], rates: Sequence[float] | None, default: float
) -> list[dict[str, Any]]:
    if rates is None:
        rates = [default] * len(parameters)
    if len(rates) != len(parameters):
        raise ValueError(f"{name}: {len(rates)} values are not allowed; must be {len(parameters)}")
    return [{"params": [p], "lr": rate} for p, rate in zip(parameters, rates, strict=True)]
