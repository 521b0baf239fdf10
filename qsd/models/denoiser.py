"""The part that is trained: the UNet and its noise schedule."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from qsd.errors import UserError
from qsd.models.source import load_part

if TYPE_CHECKING:
    import torch
    from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
    from diffusers.schedulers.scheduling_ddpm import DDPMScheduler
    from torch import IntTensor, Tensor

Conditioning = dict[str, "Tensor"]
"""What the UNet is told about the caption, by name: ``hidden_states`` [B, tokens, width]."""


@dataclass
class Denoiser:
    """A frozen UNet with the forward process it was trained for.

    Latents are scaled as the UNet sees them (times the VAE's scaling factor). Noise, latents and targets are fp32;
    the UNet's own weights may be bf16.
    """

    unet: UNet2DConditionModel
    schedule: DDPMScheduler

    @property
    def timesteps(self) -> int:
        """Number of training timesteps, usually 1000."""
        return int(self.schedule.config["num_train_timesteps"])

    @property
    def prediction_type(self) -> str:
        """``epsilon`` or ``v_prediction``."""
        return str(self.schedule.config["prediction_type"])

    def add_noise(self, latents: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """z_t = sqrt(ᾱ_t) z_0 + sqrt(1 - ᾱ_t) ε, [B, C, H, W]."""
        return self.schedule.add_noise(latents, noise, cast("IntTensor", timesteps))

    def target(self, latents: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """What the UNet should predict: ε, or v = sqrt(ᾱ_t) ε - sqrt(1 - ᾱ_t) z_0."""
        if self.prediction_type == "v_prediction":
            return self.schedule.get_velocity(latents, noise, cast("IntTensor", timesteps))
        return noise

    def predict(self, noisy: Tensor, timesteps: Tensor, conditioning: Conditioning) -> Tensor:
        """The UNet's prediction, [B, C, H, W], in its compute dtype."""
        output = self.unet(noisy, timesteps, encoder_hidden_states=conditioning["hidden_states"], return_dict=False)
        return cast("Tensor", output[0])


def load_denoiser(path: str, device: torch.device, precision: str = "fp32") -> Denoiser:
    """The UNet of a pipeline folder or hub name, frozen, its weights in ``precision`` (fp32 or bf16) on ``device``.

    Raises:
        UserError: nothing to load there, or a prediction type other than epsilon and v_prediction.
    """
    from diffusers import DDPMScheduler, UNet2DConditionModel

    unet = load_part(UNet2DConditionModel.from_pretrained, path, subfolder="unet")
    schedule = load_part(DDPMScheduler.from_pretrained, path, subfolder="scheduler")
    if schedule.config["prediction_type"] not in ("epsilon", "v_prediction"):
        kind = schedule.config["prediction_type"]
        raise UserError(f"model.path {path}: prediction type {kind!r} is not supported; known: epsilon, v_prediction")
    unet = unet.bfloat16() if precision == "bf16" else unet.float()
    return Denoiser(unet.requires_grad_(False).eval().to(device), schedule)
