"""The part that is trained: the UNet and its noise schedule."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from qsd.errors import UserError
from qsd.models.family import family_of
from qsd.models.precision import torch_type
from qsd.models.source import load_part, load_weights

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch
    from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
    from diffusers.schedulers.scheduling_ddpm import DDPMScheduler
    from torch import IntTensor, Tensor

Conditioning = dict[str, "Tensor"]
"""What the UNet is told about the caption, by name: ``hidden_states`` [B, tokens, width]; of SDXL also ``pooled``
[B, width]."""


@dataclass
class Denoiser:
    """A frozen UNet with the forward process it was trained for.

    Latents are scaled as the UNet sees them (times the VAE's scaling factor). Noise, latents and targets are fp32;
    the UNet's own weights may be bf16.
    """

    network: UNet2DConditionModel
    schedule: DDPMScheduler
    pixels_per_latent: int = 8
    """Pixels along a side of one latent; SDXL's UNet is told the size of the image."""

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
        hidden = conditioning["hidden_states"]
        added = self._added(noisy, conditioning)
        output = self.network(
            noisy, timesteps, encoder_hidden_states=hidden, added_cond_kwargs=added, return_dict=False
        )
        return cast("Tensor", output[0])

    def _added(self, noisy: Tensor, conditioning: Conditioning) -> dict[str, Tensor] | None:
        """What SDXL's UNet is told beside the caption's tokens: the pooled caption and the time ids.

        The time ids are the sizes before and after cropping and the crop's corner; here always
        (H, W, 0, 0, H, W), as in the Diffusion-DPO code and in diffusers' SDXL pipeline without further arguments.
        """
        if "pooled" not in conditioning:
            return None
        height, width = (side * self.pixels_per_latent for side in noisy.shape[-2:])
        ids = noisy.new_tensor([height, width, 0, 0, height, width]).expand(len(noisy), -1)
        return {"text_embeds": conditioning["pooled"], "time_ids": ids}


def load_denoiser(path: str, device: torch.device, precision: str = "fp32") -> Denoiser:
    """The UNet of a pipeline folder or hub name, frozen, its weights in ``precision`` (fp32 or bf16) on ``device``.

    Raises:
        UserError: nothing to load there, an unknown kind of pipeline, a schedule that is not a discrete DDPM's, or a
            prediction type other than epsilon and v_prediction.
    """
    from diffusers import AutoencoderKL, DDPMScheduler

    family_of(path)
    check_schedule(path)
    unet: Any = load_unet(path, precision)
    vae: dict[str, Any] = dict(load_part(AutoencoderKL.load_config, path, subfolder="vae"))
    schedule = load_part(DDPMScheduler.from_pretrained, path, subfolder="scheduler")
    return Denoiser(unet.requires_grad_(False).eval().to(device), schedule, 2 ** (len(vae["block_out_channels"]) - 1))


def load_unet(path: str, precision: str, exact: Sequence[str] = ()) -> UNet2DConditionModel:
    """The UNet, its weights in ``precision``; those with a word of `exact` in their dotted name in fp32."""
    import diffusers

    plain = diffusers.UNet2DConditionModel
    # How diffusers' own models name the layers that a loader must not cast; there is no argument for it.
    kind: Any = type(plain.__name__, (plain,), {"_keep_in_fp32_modules": list(exact)}) if exact else plain
    unet: Any = load_weights(kind.from_pretrained, path, "unet", dtype=torch_type(precision))
    unet.__class__ = plain
    return cast("UNet2DConditionModel", unet)


def check_schedule(path: str) -> None:
    """That a model's schedule can be trained and drawn with, whatever sampler the folder names for it.

    Raises:
        UserError: a schedule over continuous noise levels, or an unknown prediction type.
    """
    from diffusers import DDPMScheduler

    config: dict[str, Any] = dict(load_part(DDPMScheduler.load_config, path, subfolder="scheduler"))
    name, kind = str(config.get("_class_name")), config.get("prediction_type", "epsilon")
    if name.startswith("EDM") or "Flow" in name:
        raise UserError(f"model.path {path}: its schedule {name} has no discrete timesteps of a DDPM; not supported")
    if kind not in ("epsilon", "v_prediction"):
        raise UserError(f"model.path {path}: prediction type {kind!r} is not supported; known: epsilon, v_prediction")
