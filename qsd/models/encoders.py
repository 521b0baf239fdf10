"""The parts that turn images and captions into what the UNet sees. Always fp32."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from qsd.models.source import load_part

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
    from torch import Tensor
    from transformers import CLIPTextModel, CLIPTokenizer

    from qsd.models.denoiser import Conditioning


@dataclass
class ImageEncoder:
    """The VAE's encoder."""

    vae: AutoencoderKL
    device: torch.device

    def posterior(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of the latents of pixels [B, 3, R, R] in [-1, 1]; scaled, [B, C, h, w], fp32."""
        import torch

        with torch.no_grad():
            distribution = self.vae.encode(pixels.to(self.device)).latent_dist
        scale = float(self.vae.config["scaling_factor"])
        shift = float(self.vae.config.get("shift_factor") or 0.0)
        return (distribution.mean - shift) * scale, distribution.std * scale


@dataclass
class TextEncoder:
    """Tokenizer and CLIP text model, as ``StableDiffusionPipeline.encode_prompt`` uses them."""

    tokenizer: CLIPTokenizer
    model: CLIPTextModel
    device: torch.device

    def conditioning(self, captions: Sequence[str]) -> Conditioning:
        """``hidden_states`` [B, tokens, width] of B captions; longer ones are cut at the model's length."""
        import torch

        tokens = self.tokenizer(
            list(captions),
            padding="max_length",
            max_length=self.tokenizer.model_max_length,
            truncation=True,
            return_tensors="pt",
        )
        ids = tokens.input_ids.to(self.device)
        masked = getattr(self.model.config, "use_attention_mask", False)
        mask = tokens.attention_mask.to(self.device) if masked else None
        with torch.no_grad():
            return {"hidden_states": self.model(ids, attention_mask=mask)[0]}


def load_image_encoder(path: str, device: torch.device) -> ImageEncoder:
    """The VAE of a pipeline folder or hub name."""
    from diffusers import AutoencoderKL

    vae = load_part(AutoencoderKL.from_pretrained, path, subfolder="vae")
    return ImageEncoder(vae.float().requires_grad_(False).eval().to(device), device)


def load_text_encoder(path: str, device: torch.device) -> TextEncoder:
    """Tokenizer and text model of a pipeline folder or hub name."""
    from transformers import CLIPTextModel, CLIPTokenizer

    tokenizer = load_part(CLIPTokenizer.from_pretrained, path, subfolder="tokenizer")
    model: Any = load_part(CLIPTextModel.from_pretrained, path, subfolder="text_encoder")
    return TextEncoder(tokenizer, model.float().requires_grad_(False).eval().to(device), device)
