"""One training step as the public Diffusion-DPO LoRA scripts do it, reimplemented; it contains only the step.

Source: huggingface/diffusers, examples/research_projects/diffusion_dpo: train_diffusion_dpo.py, and for a model with
two text models train_diffusion_dpo_sdxl.py. From pixels: VAE encode in chunks of eight (SDXL's in fp32 always, with
PyTorch's default of TF32 in convolutions), text encode, policy pass, reference pass with adapters off, log-sigmoid
loss, clipping, AdamW, and the four numbers read back in every step. As accelerate does it, autocast is around the UNet
alone. The README runs both with gradient checkpointing. Left out, all to the scripts' advantage: decoding images, the
data loader, writing logs and checkpoints.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

import torch
from torch.nn import functional as F

from qsd.models.denoiser import Denoiser
from qsd.models.precision import torch_type

VAE_ENCODE_BATCH_SIZE = 8


class PublicStep:
    """The script's objects and the body of its loop.

    Args:
        denoiser: UNet and noise schedule.
        vae: its autoencoder.
        text_models: its text model; of SDXL both.
        lora: peft's configuration of the adapter.
        learning_rate: of AdamW.
        beta: what multiplies a difference of errors: the script's β, half of the SDXL script's.
        precision: ``fp32`` or ``bf16`` (weights in bf16, autocast), as its --mixed_precision.
        checkpointing: its --gradient_checkpointing.
    """

    def __init__(
        self,
        denoiser: Denoiser,
        vae: Any,
        text_models: Sequence[Any],
        lora: Any,
        learning_rate: float,
        beta: float,
        precision: str,
        checkpointing: bool,
    ) -> None:
        self.unet = denoiser.network
        self.schedule = denoiser.process.schedule
        self.pixels_per_latent = denoiser.pixels_per_latent
        self.dtype = torch_type(precision)
        self.vae = vae.to(torch.float32 if len(text_models) == 2 else self.dtype)
        self.text_models = [model.to(self.dtype) for model in text_models]
        self.unet.add_adapter(lora)
        self.unet.train()
        if checkpointing:
            self.unet.enable_gradient_checkpointing()
        self.parameters = [parameter for parameter in self.unet.parameters() if parameter.requires_grad]
        self.optimizer = torch.optim.AdamW(self.parameters, lr=learning_rate)
        self.beta = beta
        device = self.unet.device.type
        self.autocast: Any = (lambda: torch.autocast(device, self.dtype)) if precision != "fp32" else nullcontext

    def __call__(self, pixel_values: torch.Tensor, input_ids: Sequence[torch.Tensor]) -> list[float]:
        """A step on pixels [B, 6, R, R], winner and loser along the channels, and token ids [B, T] per text model.

        Returns:
            Loss, error of the model, error of the reference, implicit accuracy.
        """
        cudnn: Any = torch.backends.cudnn
        with cudnn.flags(enabled=True, allow_tf32=True):
            logs = self.loss(pixel_values.to(self.vae.dtype), input_ids)
            logs[0].backward()
        torch.nn.utils.clip_grad_norm_(self.parameters, 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad()
        return [value.detach().item() for value in logs]

    def loss(self, pixel_values: torch.Tensor, input_ids: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """The forward passes."""
        with torch.no_grad():
            latents = self._latents(torch.cat(pixel_values.chunk(2, dim=1)))
            noise = torch.randn_like(latents).chunk(2)[0].repeat(2, 1, 1, 1)
            count = self.schedule.config["num_train_timesteps"]
            timesteps = torch.randint(0, count, (len(latents) // 2,), device=latents.device).long().repeat(2)
            noisy = self.schedule.add_noise(latents, noise, timesteps)
            hidden, added = self._text(input_ids, noisy)
        target = noise
        if self.schedule.config["prediction_type"] == "v_prediction":
            target = self.schedule.get_velocity(latents, noise, timesteps)

        def losses() -> tuple[torch.Tensor, torch.Tensor]:
            with self.autocast():
                prediction = self.unet(noisy, timesteps, hidden, added_cond_kwargs=added).sample
            each = F.mse_loss(prediction.float(), target.float(), reduction="none").mean(dim=(1, 2, 3))
            winner, loser = each.chunk(2)
            return winner - loser, each.mean()

        model, model_loss = losses()
        self.unet.disable_adapters()
        with torch.no_grad():
            reference, reference_loss = losses()
        self.unet.enable_adapters()
        logits = reference - model
        accuracy = ((logits > 0).sum().float() + 0.5 * (logits == 0).sum().float()) / len(logits)
        return [-F.logsigmoid(self.beta * logits).mean(), model_loss, reference_loss, accuracy]

    def _latents(self, feed: torch.Tensor) -> torch.Tensor:
        chunks = feed.split(VAE_ENCODE_BATCH_SIZE)
        latents = torch.cat([self.vae.encode(chunk).latent_dist.sample() for chunk in chunks])
        return (latents * self.vae.config.scaling_factor).to(self.dtype)

    def _text(
        self, input_ids: Sequence[torch.Tensor], noisy: torch.Tensor
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor] | None]:
        """The conditioning of the UNet: the text; for SDXL also the pooled text and full-size time ids."""
        if len(self.text_models) == 1:
            return self.text_models[0](input_ids[0], attention_mask=None)[0].repeat(2, 1, 1), None
        outputs = [
            model(ids, output_hidden_states=True) for model, ids in zip(self.text_models, input_ids, strict=True)
        ]
        hidden = torch.cat([output.hidden_states[-2] for output in outputs], dim=-1)
        height, width = (side * self.pixels_per_latent for side in noisy.shape[-2:])
        ids = noisy.new_tensor([height, width, 0, 0, height, width]).repeat(len(noisy), 1)
        return hidden.repeat(2, 1, 1), {"text_embeds": outputs[-1][0].repeat(2, 1), "time_ids": ids}
