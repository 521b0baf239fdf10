"""Flow-GRPO (Liu et al. 2025, arXiv 2505.05470; yifan123/flow_grpo): ``ddpo`` with a penalty on leaving the base model.

    L = mean over steps of max(-A ρ, -A clip(ρ, 1 ± ddpo_clip)) + kl_weight · KL
    KL = |μ_θ - μ_ref|² / (2 σ²)        mean over the elements of the latents; σ of the step, the same for both

A is that of ``ddpo``, which is group-relative already: the final image's reward, standardised over the trajectories of
the same prompt in the same batch. So ``ddpo`` is Flow-GRPO without the penalty, and ``kl_weight: 0`` trains as it does.
The published code often divides by the deviation of all rewards of a batch instead. Its stochastic step belongs to flow
models (``qsd.models.flow_process``); this method takes the step of whatever model it trains.

The published code leaves the length of a step out of σ²: its penalty is KL · (σ_t - σ_{t-1}), where these are the
sampler's noise levels, which differ by 1 / steps on average. The default is its 0.04 (OCR, GenEval) at its 10 steps;
for PickScore it has 0.01, which is 0.001 here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from qsd.config.fields import meaning
from qsd.training.methods import MethodPasses, MethodSpec, Sampling
from qsd.training.methods._cost import trajectory_passes
from qsd.training.methods.ddpo import METHOD as DDPO
from qsd.training.methods.ddpo import Advantage

if TYPE_CHECKING:
    from qsd.training.methods import Values


@dataclass
class Penalty:
    """What holds the policy near the base model."""

    kl_weight: float = meaning(
        0.004, "of the divergence of each step from the base model's, mean over elements; 0: none, as ddpo", least=0
    )


@dataclass
class Settings(Penalty, Advantage, Sampling):
    """Those of DDPO, and the penalty."""


def _passes(values: Values) -> MethodPasses:
    penalized = values["method.kl_weight"] > 0
    return trajectory_passes(values, values["method.trajectories"], reference=penalized, scored=1)


METHOD = MethodSpec(
    "qsd.training.onpolicy.penalized_gradient:PenalizedPolicyGradient",
    Settings,
    defaults=DDPO.defaults,
    passes=_passes,
    idle=DDPO.idle,
    same=DDPO.same,
    uses_loss=False,
)
