"""In which groups the layers are updated within one iteration."""

from neurosim_ep.models import HopfieldNetwork

ORDERS = ("coloured", "asynchronous", "synchronous", "forward", "backward")
"""Orders that `update_groups` knows."""


def update_groups(network: HopfieldNetwork, order: str) -> list[list[int]]:
    """Groups of free layers; the layers of a group are computed from the same states.

    - ``coloured``: sets of mutually unconnected layers by greedy colouring, so that every group is
      an exact step of block coordinate descent on the Lyapunov function F (the default).
    - ``asynchronous``: every second layer, then the others (Scellier et al. 2023; the paper's).
    - ``synchronous``: all at once.
    - ``forward``, ``backward``: one layer after another, from the input or from the output.

    Args:
        network: its graph alone matters.
        order: one of `ORDERS`.

    Returns:
        Groups of layers' indices; every free layer is in one of them.

    Raises:
        ValueError: if the order is none of these.
    """
    free = list(network.free_layers)
    match order:
        case "synchronous":
            return [free]
        case "asynchronous":
            return [group for group in (free[::2], free[1::2]) if group]
        case "forward":
            return [[layer] for layer in free]
        case "backward":
            return [[layer] for layer in reversed(free)]
        case "coloured":
            return _colour(network)
    raise ValueError(f"order: {order!r} is not allowed; must be one of {', '.join(ORDERS)}")


def _colour(network: HopfieldNetwork) -> list[list[int]]:
    """Greedy colouring: each layer in turn takes the first colour none of its neighbours has."""
    groups: list[list[int]] = []
    for layer in network.free_layers:
        neighbours = network.neighbours(layer)
        for group in groups:
            if not neighbours.intersection(group):
                group.append(layer)
                break
        else:
            groups.append([layer])
    return groups
