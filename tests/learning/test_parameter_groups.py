"""Parameters in groups, each with its own learning rate."""

import pytest
import torch

from neurosim_ep.learning import parameter_groups
from neurosim_ep.models import FeedForward, hopfield_resnet13, mlp


def same(group: dict[str, object], *parameters: torch.Tensor) -> bool:
    held = group["params"]
    assert isinstance(held, list)
    return [id(p) for p in held] == [id(p) for p in parameters]


@pytest.mark.parametrize("skip", ["conv1x1", "identity", None])
def test_biases_first_then_weights_in_edge_order(skip: str | None) -> None:
    network = hopfield_resnet13(1, 3, (2, 3, 2, 3), image_size=16, skip=skip)
    groups = parameter_groups(network, 0.5)
    wanted = [*network.biases, *network.weights]
    assert len(groups) == len(wanted) == 9 + (13 if skip == "conv1x1" else 9)
    for group, parameter in zip(groups, wanted, strict=True):
        assert same(group, parameter)
        assert group["lr"] == 0.5


def test_every_bias_and_weight_may_have_its_own_rate() -> None:
    network = mlp((1, 2, 2), 3, (4, 3))
    groups = parameter_groups(
        network, 9.0, weight_learning_rates=[0.1, 0.2, 0.3], bias_learning_rates=(1.0, 2.0, 3.0)
    )
    assert [group["lr"] for group in groups] == [1.0, 2.0, 3.0, 0.1, 0.2, 0.3]
    groups = parameter_groups(network, 9.0, weight_learning_rates=[0.1, 0.2, 0.3])
    assert [group["lr"] for group in groups] == [9.0, 9.0, 9.0, 0.1, 0.2, 0.3]
    before = [parameter.detach().clone() for parameter in network.parameters()]
    for parameter in network.parameters():
        parameter.grad = torch.ones_like(parameter)
    torch.optim.SGD(groups, lr=77.0).step()
    for old, new, rate in zip(
        before, network.parameters(), [9.0, 9.0, 9.0, 0.1, 0.2, 0.3], strict=True
    ):
        torch.testing.assert_close(old - new, torch.full_like(new, rate), rtol=0.0, atol=1e-5)


def test_batch_norm_is_a_group_of_its_own_and_nothing_is_left_out() -> None:
    network = hopfield_resnet13(1, 3, (2, 3, 2, 3), image_size=16)
    model = FeedForward(network, batch_norm=True)
    groups = parameter_groups(model, 0.5, weight_learning_rates=[0.1] * 13)
    assert len(groups) == 9 + 13 + 1
    assert [group["lr"] for group in groups] == [0.5] * 9 + [0.1] * 13 + [0.5]
    norms = [parameter for norm in model.norms for parameter in norm.parameters()]
    assert len(norms) == 2 * 12
    assert {id(p) for p in groups[-1]["params"]} == {id(p) for p in norms}
    held = [id(p) for group in groups for p in group["params"]]
    assert len(held) == len(set(held))
    assert set(held) == {id(p) for p in model.parameters()}
    plain = parameter_groups(FeedForward(network), 0.5)
    assert len(plain) == 9 + 13


@pytest.mark.parametrize(
    ("name", "rates"),
    [
        ("weight_learning_rates", [0.1, 0.2]),
        ("weight_learning_rates", [0.1] * 4),
        ("bias_learning_rates", []),
        ("bias_learning_rates", [0.1]),
    ],
)
def test_a_list_of_the_wrong_length(name: str, rates: list[float]) -> None:
    with pytest.raises(ValueError, match=f"^{name}: {len(rates)} .* must be 3$"):
        parameter_groups(mlp((1, 2, 2), 3, (4, 3)), 0.1, **{name: rates})
