"""Moving averages of the adapter's weights: the slower annotators of ``adaptive_dpo``.

    average ← δ average + (1 - δ) weights        δ = min(decay, (1 + n) / (10 + n)) after the step n = 0, 1, …; 0 for
    n = 0

The warm-up of δ is diffusers' ``EMAModel`` as the Adaptive-DPO code uses it: the copy with decay 0.9999 reaches it
after 90,000 steps and follows the weights far sooner before. Only the adapter is copied: the rest of the model never
moves.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from torch import Tensor, nn


def decay_at(step: int, decay: float) -> float:
    """δ after step 0, 1, …."""
    return 0.0 if step == 0 else min(decay, (1 + step) / (10 + step))


class AdapterEma:
    """One moving average per decay, each as large as the adapter, in its dtype and on its device.

    Args:
        parameters: the adapter's weights by name.
        decays: in [0, 1); none makes every method cost nothing.
    """

    def __init__(self, parameters: Mapping[str, nn.Parameter], decays: Sequence[float]) -> None:
        self.decays = tuple(decays)
        self._parameters = dict(parameters)
        self._copies = [
            {name: parameter.detach().clone() for name, parameter in self._parameters.items()} for _ in decays
        ]

    def __len__(self) -> int:
        return len(self.decays)

    def update(self, step: int) -> None:
        """Take in the weights as they are after the optimiser step ``step`` = 0, 1, …."""
        import torch

        with torch.no_grad():
            for decay, copy in zip(self.decays, self._copies, strict=True):
                rate = 1 - decay_at(step, decay)
                for name, parameter in self._parameters.items():
                    copy[name].lerp_(parameter, rate)

    @contextmanager
    def swapped(self, index: int) -> Iterator[None]:
        """The model with average ``index`` in the place of its adapter; the weights are back afterwards, come what may.

        For passes without gradients: nothing is copied, the parameters point at other memory meanwhile.
        """
        kept = {name: parameter.data for name, parameter in self._parameters.items()}
        try:
            for name, parameter in self._parameters.items():
                parameter.data = self._copies[index][name]
            yield
        finally:
            for name, parameter in self._parameters.items():
                parameter.data = kept[name]

    def tensors(self) -> dict[str, Tensor]:
        """All averages by name, for a checkpoint."""
        return {
            f"average{index}/{name}": tensor for index, copy in enumerate(self._copies) for name, tensor in copy.items()
        }

    def load_tensors(self, found: Mapping[str, Tensor]) -> None:
        """Continue from the tensors of a checkpoint, which may hold others as well."""
        for name, tensor in self.tensors().items():
            tensor.copy_(found[name])
