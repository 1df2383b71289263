"""What the output layer should reach: squared error or cross entropy, per image."""

import torch
import torch.nn.functional as F
from torch import Tensor


class Cost:
    """Cost C of the output state, holomorphic in it."""

    def targets(self, labels: Tensor, num_outputs: int, dtype: torch.dtype) -> Tensor:
        """Class indices (B,) as one-hot targets (B, num_outputs).

        Args:
            labels: class indices (B,).
            num_outputs: how many classes.
            dtype: of the targets.
        """
        return F.one_hot(labels, num_outputs).to(dtype)

    def value(self, output: Tensor, targets: Tensor) -> Tensor:
        """C of every image (B,) for outputs and targets (B, num_outputs)."""
        raise NotImplementedError

    def gradient(self, output: Tensor, targets: Tensor) -> Tensor:
        """dC/d(output), (B, num_outputs)."""
        raise NotImplementedError


class SquaredError(Cost):
    """C = 1/2 ||output - target||^2."""

    def value(self, output: Tensor, targets: Tensor) -> Tensor:
        """Half the squared distance, (B,)."""
        return 0.5 * (output - targets).square().sum(1)

    def gradient(self, output: Tensor, targets: Tensor) -> Tensor:
        """output - target."""
        return output - targets


class CrossEntropy(Cost):
    """C = -log softmax(output)[label]."""

    def value(self, output: Tensor, targets: Tensor) -> Tensor:
        """Negative log likelihood, (B,)."""
        shifted = output - output.real.amax(1, keepdim=True)
        return shifted.exp().sum(1).log() - (targets * shifted).sum(1)

    def gradient(self, output: Tensor, targets: Tensor) -> Tensor:
        """softmax(output) - target."""
        exponentials = (output - output.real.amax(1, keepdim=True)).exp()
        return exponentials / exponentials.sum(1, keepdim=True) - targets
