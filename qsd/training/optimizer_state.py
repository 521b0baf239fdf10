"""Parameters and AdamW's state of each, by name: what a checkpoint keeps of an optimiser, in fp32."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor, nn
    from torch.optim import Optimizer

_STATE = ("step", "exp_avg", "exp_avg_sq")
"""What AdamW keeps for each parameter that has had a gradient."""


def tensors(parameters: Mapping[str, nn.Parameter], adamw: Optimizer, kind: str) -> dict[str, Tensor]:
    """``<kind>/<name>`` for each parameter, and ``step/<name>``, ``exp_avg/<name>``, ``exp_avg_sq/<name>``."""
    import torch

    found: dict[str, Tensor] = {}
    for name, parameter in parameters.items():
        found[f"{kind}/{name}"] = parameter.detach()
        for key, value in adamw.state[parameter].items():
            assert value.dtype == torch.float32, "the optimiser's state must be fp32"
            found[f"{key}/{name}"] = value
    return found


def load_tensors(
    parameters: Mapping[str, nn.Parameter], adamw: Optimizer, kind: str, found: Mapping[str, Tensor]
) -> None:
    """Continue from the tensors of a checkpoint, which may hold others as well.

    The step counter goes to the device of its parameter, where a fused AdamW keeps it.
    """
    import torch

    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(found[f"{kind}/{name}"])
            adamw.state[parameter] = {
                key: found[f"{key}/{name}"].to(parameter.device) for key in _STATE if f"{key}/{name}" in found
            }
