"""Batch norm over the images of all processes, as one process would have them in its batch."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from neurosim_ep.learning.parallel import Processes


class SharedBatchNorm(nn.BatchNorm2d):
    """While training, the mean and the variance are those of all processes' images.

    Every process must come here in every step, with at least one image.  (PyTorch's own
    ``SyncBatchNorm`` works on GPUs only.)

    Args:
        norm: whose parameters and running statistics become this one's own.
        processes: that share a batch.
    """

    def __init__(self, norm: nn.BatchNorm2d, processes: Processes) -> None:
        super().__init__(norm.num_features, norm.eps, norm.momentum)
        self.weight, self.bias = norm.weight, norm.bias
        self.running_mean, self.running_var = norm.running_mean, norm.running_var
        self.num_batches_tracked = norm.num_batches_tracked
        self._processes = processes

    def forward(self, input: Tensor) -> Tensor:
        """Normalised currents, as (B, C, H, W) as the currents are."""
        if not self.training:
            return super().forward(input)
        normal, mean, variance, count = _Normalise.apply(  # type: ignore[no-untyped-call]
            input, self.eps, self._processes
        )
        self._keep(mean, variance * count / (count - 1.0).clamp_min(1.0))
        result: Tensor = normal * _spread(self.weight) + _spread(self.bias)
        return result

    @torch.no_grad()
    def _keep(self, mean: Tensor, variance: Tensor) -> None:
        assert self.num_batches_tracked is not None
        assert self.momentum is not None
        self.num_batches_tracked.add_(1)
        for running, present in ((self.running_mean, mean), (self.running_var, variance)):
            assert running is not None
            running.lerp_(present.to(running.dtype), self.momentum)


class _Normalise(torch.autograd.Function):
    """(x - mean) / standard deviation over all processes' images and positions."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, eps: float, processes: Processes
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        places = x.numel() // x.shape[1]
        summed = processes.summed(torch.cat([x.sum((0, 2, 3)), x.new_tensor([places])]))
        count = summed[-1]
        mean = summed[:-1] / count
        centred = x - _spread(mean)
        variance = processes.summed(centred.square().sum((0, 2, 3))) / count
        scale = (variance + eps).rsqrt()
        normal = centred * _spread(scale)
        ctx.save_for_backward(normal, scale, count)
        ctx.processes, ctx.places = processes, places
        ctx.mark_non_differentiable(mean, variance, count)
        return normal, mean, variance, count

    @staticmethod
    def backward(ctx: Any, slope: Tensor, *_: Tensor) -> tuple[Tensor, None, None]:
        normal, scale, count = ctx.saved_tensors
        sums = torch.stack([slope.sum((0, 2, 3)), (slope * normal).sum((0, 2, 3))])
        # A process's slopes are those of the mean over its own images (`sum_gradients` weights
        # them afterwards), so the others' come in units of its own.
        means = ctx.processes.summed(sums * (ctx.places / count)) / ctx.places
        change = slope - _spread(means[0]) - normal * _spread(means[1])
        return change * _spread(scale), None, None


def _spread(per_channel: Tensor) -> Tensor:
    return per_channel.view(1, -1, 1, 1)


def share_batch_norms(model: nn.Module, processes: Processes) -> bool:
    """Replace a model's batch norms by shared ones; whether it has any.

    Parameters and buffers stay the same objects under the same names.
    """
    found = False
    for module in list(model.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, nn.BatchNorm2d):
                found = True
                module.add_module(name, SharedBatchNorm(child, processes))
    return found
