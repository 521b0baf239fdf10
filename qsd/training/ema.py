"""Moving averages of the trained weights: those that a method reads while it trains, and the one that is saved.

    average ← δ average + (1 - δ) weights        δ = min(decay, (1 + n) / (10 + n)) after the step n = 0, 1, …; 0 for
    n = 0

The warm-up of δ is diffusers' ``EMAModel`` as the Adaptive-DPO code uses it: the copy with decay 0.9999 reaches it
after 90,000 steps and follows the weights far sooner before. Only trained weights are copied: the rest of the model
never moves.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from torch import Tensor, nn


def decay_at(step: int, decay: float) -> float:
    """δ after step 0, 1, …."""
    return 0.0 if step == 0 else min(decay, (1 + step) / (10 + step))


class ParameterEma:
    """One moving average per decay, each as large as the trained weights, in their dtype and on their device.

    Args:
        parameters: the trained weights by name.
        decays: in [0, 1), of the averages that the method reads; without any and without ``saved`` nothing is copied.
        saved: in (0, 1), of the average that is the result of the training; None: the last step's weights are.
    """

    def __init__(
        self, parameters: Mapping[str, nn.Parameter], decays: Sequence[float] = (), saved: float | None = None
    ) -> None:
        self._saved_index = None if saved is None else len(decays)
        self.decays = (*decays, *([] if saved is None else [saved]))
        self._parameters = dict(parameters)
        self._copies = [
            {name: parameter.detach().clone() for name, parameter in self._parameters.items()} for _ in self.decays
        ]

    def update(self, step: int) -> None:
        """Take in the weights as they are after the optimiser step ``step`` = 0, 1, …."""
        with torch.no_grad():
            for decay, copy in zip(self.decays, self._copies, strict=True):
                rate = 1 - decay_at(step, decay)
                # One call: on a GPU an adapter's hundreds of small tensors would each wait for a launch.
                torch._foreach_lerp_(list(copy.values()), list(self._parameters.values()), rate)

    @contextmanager
    def swapped(self, index: int) -> Iterator[None]:
        """Inside, the model holds average ``index`` in place of its trained weights; restored whatever happens.

        For passes without gradients: nothing is copied, the parameters point at other memory meanwhile.
        """
        trained = {name: parameter.data for name, parameter in self._parameters.items()}
        try:
            for name, parameter in self._parameters.items():
                parameter.data = self._copies[index][name]
            yield
        finally:
            for name, parameter in self._parameters.items():
                parameter.data = trained[name]

    def result(self) -> AbstractContextManager[None]:
        """Inside, the model holds the weights that are the result: the saved average, or the last step's."""
        return nullcontext() if self._saved_index is None else self.swapped(self._saved_index)

    def tensors(self) -> dict[str, Tensor]:
        """All averages by name, for a checkpoint."""
        return {
            f"average{index}/{name}": tensor for index, copy in enumerate(self._copies) for name, tensor in copy.items()
        }

    def load_tensors(self, stored: Mapping[str, Tensor]) -> None:
        """Continue from the tensors of a checkpoint, which may hold others as well."""
        for name, tensor in self.tensors().items():
            tensor.copy_(stored[name])
