"""The mean of a model's weights over the last steps of its training (Polyak and Juditsky 1992).

Weights that a constant learning rate moves around a minimum have a mean that is closer to it. A decaying learning rate
has the same effect, but its length has to be known in advance.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn


class WeightAverage:
    """The mean of parameters over the steps since `restart`.

    Args:
        parameters: of a model; what their data are may change.

    Attributes:
        steps: number of steps in the mean.
    """

    def __init__(self, parameters: Sequence[nn.Parameter]):
        self._parameters = list(parameters)
        self._means: list[Tensor] = []
        self.steps = 0

    def restart(self) -> None:
        """Forget the steps so far."""
        self.steps = 0

    @torch.no_grad()
    def add(self) -> None:
        """Add the present weights to the mean, in one pass over memory."""
        data = [parameter.data for parameter in self._parameters]
        self._means = self._means or [torch.empty_like(tensor) for tensor in data]
        self.steps += 1
        if self.steps == 1:
            torch._foreach_copy_(self._means, data)
        else:
            torch._foreach_lerp_(self._means, data, 1 / self.steps)

    def state(self) -> dict[str, Tensor]:
        """Return the means by name; nothing if there is none."""
        return {f"mean.{i}": mean for i, mean in enumerate(self._means)} if self.steps else {}

    @torch.no_grad()
    def load_state(self, tensors: Mapping[str, Tensor], steps: int) -> None:
        """Load what `state` returned.

        Raises:
            KeyError, RuntimeError: they are means of other parameters.
        """
        self.steps = steps
        if steps:
            self._means = [torch.empty_like(parameter.data) for parameter in self._parameters]
            for i, mean in enumerate(self._means):
                mean.copy_(tensors[f"mean.{i}"])

    @torch.no_grad()
    def exchange(self) -> None:
        """Exchange the weights and their mean; a second call takes them back."""
        for parameter, mean in zip(self._parameters, self._means, strict=True):
            weights = parameter.detach().clone()
            parameter.copy_(mean)
            mean.copy_(weights)
