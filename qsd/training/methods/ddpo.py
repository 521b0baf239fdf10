"""DDPO-IS (Black et al. 2023, arXiv 2305.13301; kvablack/ddpo-pytorch): a clipped policy gradient on every step.

    L = mean over steps of max(-A ρ, -A clip(ρ, 1 ± ddpo_clip))        ρ = π_θ / π_old, of mean log-probabilities

A is the final image's reward, standardised over the trajectories of the same prompt in the same batch and clipped to
±``advantage_clip``. The published code standardises over a buffer of a prompt's last rewards; here a prompt has
several trajectories at a time, so that a step needs no memory of earlier ones. With one update per batch ρ is 1, and
the clip never acts; ``method.updates`` gives it something to do.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from qsd.config.fields import meaning
from qsd.training.methods import MethodPasses, MethodSpec, Sampling
from qsd.training.methods._cost import trajectory_passes
from qsd.training.methods._equal import idle_sampling, same_steps

if TYPE_CHECKING:
    from qsd.training.methods import Values


@dataclass
class Advantage:
    """How rewards become advantages."""

    trajectories: int = meaning(4, "of each prompt in a batch, which are compared with one another", least=2)
    advantage_clip: float = meaning(5.0, "advantages are clipped to ± this", above=0)
    ddpo_clip: float = meaning(
        1e-4, "ratios to the policy that drew the samples are clipped to 1 ± this", above=0, below=1
    )


@dataclass
class Settings(Advantage, Sampling):
    """Those of all sampling, and the advantage."""


def _passes(values: Values) -> MethodPasses:
    return trajectory_passes(values, values["method.trajectories"], reference=False, scored=1)


def _idle(values: Values) -> set[str]:
    """The clip of ratios that are 1, and one that no advantage of so few trajectories can reach."""
    idle = idle_sampling(values)
    if values["method.updates"] == 1:
        idle.add("ddpo_clip")
    # Of n numbers, none is further from their mean than sqrt(n - 1) of their population standard deviations.
    if values["method.advantage_clip"] > math.sqrt(values["method.trajectories"] - 1) * (1 + 1e-9):
        idle.add("advantage_clip")
    return idle


METHOD = MethodSpec(
    "qsd.training.onpolicy.policy_gradient:PolicyGradient",
    Settings,
    defaults={"trained_steps": 0, "skipped_steps": 0},
    passes=_passes,
    idle=_idle,
    same=same_steps,
    uses_loss=False,
)
