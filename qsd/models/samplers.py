"""Samplers beside a model's own: diffusers' classes with the model's settings, and latents that stay fp32.

diffusers rounds the latents to the type of the network's output after every step; here they are fp32 whatever the
network computes in (``generation.precision``), as with DDIM.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from diffusers.schedulers.scheduling_dpmsolver_multistep import DPMSolverMultistepScheduler
from diffusers.schedulers.scheduling_euler_discrete import EulerDiscreteScheduler

_SPACINGS = {"use_karras_sigmas": False, "use_exponential_sigmas": False, "use_beta_sigmas": False}
"""Other spacings of the noise levels; a model's folder may ask for one, and a sampler's name would not tell."""
_SOLVER = {
    **_SPACINGS,
    "use_lu_lambdas": False,
    "algorithm_type": "dpmsolver++",
    "solver_order": 2,
    "solver_type": "midpoint",
    "lower_order_final": True,
    "euler_at_final": False,
    "final_sigmas_type": "zero",
}


class NoiseEuler(EulerDiscreteScheduler):
    """Euler's steps in the noise level (Karras et al. 2022, arXiv 2206.00364), without new noise."""

    def step(self, model_output: Any, *args: Any, **options: Any) -> Any:
        """As in the class above, in fp32."""
        return super().step(model_output.float(), *args, **options)


class DpmSolver(DPMSolverMultistepScheduler):
    """DPM-Solver++ of second order, over two steps (Lu et al. 2022, arXiv 2211.01095)."""

    def step(self, model_output: Any, *args: Any, **options: Any) -> Any:
        """As in the class above, in fp32."""
        return super().step(model_output.float(), *args, **options)


class FlowDpmSolver(DpmSolver):
    """The same for flow matching, with the model's own shift of σ."""

    def set_timesteps(
        self,
        num_inference_steps: Any = None,
        device: Any = None,
        mu: float | None = None,
        timesteps: list[int] | None = None,
    ) -> None:
        """As in the class above, which refuses ``mu`` where the shift is fixed and rounds times to whole numbers.

        FLUX's pipeline always gives ``mu``, the logarithm of the shift for the image's size; the model's own sampler
        ignores it where the shift is fixed. The network takes times that are no whole numbers, so that it gets 1000 σ.
        """
        grows: bool = self.config["use_dynamic_shifting"]
        super().set_timesteps(num_inference_steps, device, mu if grows else None, timesteps)
        self.timesteps = (self.sigmas[:-1] * self.config["num_train_timesteps"]).to(device, torch.float32)


def noise_sampler(name: str, config: Mapping[str, Any]) -> EulerDiscreteScheduler | DPMSolverMultistepScheduler:
    """A sampler on a DDPM's noise schedule.

    Args:
        name: ``euler``, ``dpmpp_2m``, or ``dpmpp_2m_karras`` with the noise levels of Karras et al.
        config: settings of the schedule, of any sampler of diffusers.
    """
    if name == "euler":
        settings = {"interpolation_type": "linear", "timestep_type": "discrete", "final_sigmas_type": "zero"}
        euler: EulerDiscreteScheduler = NoiseEuler.from_config(dict(config), **_SPACINGS, **settings)
        return euler
    spacing = {"use_karras_sigmas": name == "dpmpp_2m_karras"}
    solver: DPMSolverMultistepScheduler = DpmSolver.from_config(dict(config), **{**_SOLVER, **spacing})
    return solver


def flow_sampler(name: str, config: Mapping[str, Any]) -> FlowDpmSolver:
    """A sampler for flow matching: ``dpmpp_2m``, from the settings of diffusers' Euler sampler for flow matching."""
    assert name == "dpmpp_2m", name
    settings = {"prediction_type": "flow_prediction", "use_flow_sigmas": True, "flow_shift": config["shift"]}
    solver: FlowDpmSolver = FlowDpmSolver.from_config(dict(config), **_SOLVER, **settings)
    return solver
