"""The parts that turn images and captions into what the UNet sees. Text in fp32; the VAE in fp32 or bf16."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from qsd.errors import UserError
from qsd.models.family import family_of
from qsd.models.precision import torch_type
from qsd.models.source import load_part, load_weights

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
    from torch import Tensor
    from transformers import CLIPTokenizer

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
            distribution = self.vae.encode(pixels.to(self.device, self.vae.dtype)).latent_dist
        mean, std = distribution.mean.float(), torch.exp(0.5 * distribution.logvar.float())
        scale, shift = latent_scale(self.vae)
        return (mean - shift) * scale, std * scale


@dataclass
class TextTower:
    """One CLIP text model with its tokenizer."""

    tokenizer: CLIPTokenizer
    model: Any


@dataclass
class TextEncoder:
    """All text models of a pipeline, used as its ``encode_prompt`` uses them."""

    towers: Sequence[TextTower]
    device: torch.device

    def conditioning(self, captions: Sequence[str]) -> Conditioning:
        """What the UNet is told of B captions, computed in fp32; longer ones are cut at the models' length.

        Returns:
            With one text model (SD): ``hidden_states`` [B, tokens, width], its last layer after the final norm. With
            two (SDXL): ``hidden_states`` [B, tokens, width + width 2], the last but one layers side by side, and
            ``pooled`` [B, projection], of the second.
        """
        import torch

        # Captions are also encoded inside the loop that draws, whose UNet may be in autocast.
        with torch.no_grad(), torch.autocast(self.device.type, enabled=False):
            if len(self.towers) == 1:
                return {"hidden_states": self._output(self.towers[0], captions)[0]}
            outputs = [self._output(tower, captions, output_hidden_states=True) for tower in self.towers]
        hidden = torch.cat([output.hidden_states[-2] for output in outputs], dim=-1)
        return {"hidden_states": hidden, "pooled": outputs[-1][0]}

    def _output(self, tower: TextTower, captions: Sequence[str], **options: Any) -> Any:
        tokens = tower.tokenizer(
            list(captions),
            padding="max_length",
            max_length=tower.tokenizer.model_max_length,
            truncation=True,
            return_tensors="pt",
        )
        masked = len(self.towers) == 1 and getattr(tower.model.config, "use_attention_mask", False)
        if masked:
            options["attention_mask"] = tokens.attention_mask.to(self.device)
        return tower.model(tokens.input_ids.to(self.device), **options)


def latent_scale(vae: AutoencoderKL) -> tuple[float, float]:
    """(scale, shift): the UNet sees (latent - shift) · scale."""
    return float(vae.config["scaling_factor"]), float(vae.config.get("shift_factor") or 0.0)


def load_image_encoder(path: str, device: torch.device, precision: str = "fp32") -> ImageEncoder:
    """The VAE of a pipeline folder or hub name, computing in ``precision`` (fp32 or bf16; fp16 overflows in SDXL's).

    Raises:
        UserError: nothing to load there, or a VAE whose latents are scaled channel by channel.
    """
    from diffusers import AutoencoderKL

    vae = load_weights(AutoencoderKL.from_pretrained, path, "vae", dtype=torch_type(precision))
    if vae.config.get("latents_mean") is not None:
        raise UserError(
            f"model.path {path}: its VAE scales latents channel by channel (latents_mean), which is not supported"
        )
    return ImageEncoder(vae.requires_grad_(False).eval().to(device), device)


def load_text_encoder(path: str, device: torch.device) -> TextEncoder:
    """Tokenizers and text models of a pipeline folder or hub name, fp32.

    Raises:
        UserError: nothing to load there, or an unknown kind of pipeline.
    """
    import torch
    import transformers

    towers = []
    for part in family_of(path).texts:
        tokenizer = load_part(transformers.CLIPTokenizer.from_pretrained, path, subfolder=part.tokenizer)
        kind: Any = getattr(transformers, part.model)
        model: Any = load_weights(kind.from_pretrained, path, part.encoder, dtype=torch.float32)
        towers.append(TextTower(tokenizer, model.requires_grad_(False).eval().to(device)))
    return TextEncoder(towers, device)
