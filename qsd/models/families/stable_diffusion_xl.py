"""Stable Diffusion XL's base model: a larger UNet that also takes the pooled caption and the size of the image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar

from qsd.models.families import Conditioning, CostFigures, TextPart, TextTower
from qsd.models.families.stable_diffusion import StableDiffusion, clip_output

if TYPE_CHECKING:
    from torch import Tensor


@cache
def _time_ids(height: int, width: int, device: Any, dtype: Any) -> Tensor:
    """The time ids of images of one size, [6]: copied to a device once, since a pass would wait for every copy."""
    import torch

    return torch.tensor([height, width, 0, 0, height, width], device=device, dtype=dtype)


class StableDiffusionXL(StableDiffusion):
    """Podell et al. 2023, arXiv 2307.01952; what differs from Stable Diffusion."""

    pipeline: ClassVar[str] = "StableDiffusionXLPipeline"
    texts: ClassVar[tuple[TextPart, ...]] = (
        *StableDiffusion.texts,
        TextPart("tokenizer_2", "text_encoder_2", "CLIPTokenizer", "CLIPTextModelWithProjection"),
    )
    cost: ClassVar[CostFigures] = CostFigures(
        parameters=2_567_000_000,
        caption_numbers=77 * 2048 + 1280,
        latent_channels=4,
        pixels_per_latent=8,
        flop_per_parameter=0.2,
        pixels_per_position=8,
        encoder_passes=1.5,
        assumed_from=1024.0,
    )

    def required_settings(self, folder: str) -> tuple[str, ...]:
        """Also the scale of the latents: the default is Stable Diffusion's."""
        return (*super().required_settings(folder), *(("scaling_factor",) if folder == "vae" else ()))

    def added_conditioning(
        self, noisy: Tensor, conditioning: Conditioning, pixels_per_latent: int
    ) -> dict[str, Tensor] | None:
        """The pooled captions [B, width] and the time ids [B, 6].

        The time ids are the sizes before and after cropping and the crop's corner; here always
        (H, W, 0, 0, H, W), as in the Diffusion-DPO code and in diffusers' SDXL pipeline without further arguments.
        """
        height, width = (side * pixels_per_latent for side in noisy.shape[-2:])
        ids = _time_ids(height, width, noisy.device, noisy.dtype).expand(len(noisy), -1)
        return {"text_embeds": conditioning["pooled"], "time_ids": ids}

    def encode_captions(self, towers: Sequence[TextTower], captions: Sequence[str]) -> Conditioning:
        """``hidden_states`` [B, tokens, width + width 2], and ``pooled`` [B, projection] of the second text model.

        The hidden states are the last but one layers of both, without the final norm, side by side.
        """
        import torch

        outputs = [clip_output(tower, captions, output_hidden_states=True) for tower in towers]
        hidden = torch.cat([output.hidden_states[-2] for output in outputs], dim=-1)
        return {"hidden_states": hidden, "pooled": outputs[-1][0]}

    def pipeline_options(self, index: Mapping[str, Any]) -> dict[str, Any]:
        """Which negative prompt the model's folder asks for (zeros, unless it says otherwise), and no watermark."""
        zeros = self.zero_negative_prompt(index)
        return {"force_zeros_for_empty_prompt": zeros, "add_watermarker": False}

    def zero_negative_prompt(self, index: Mapping[str, Any]) -> bool:
        """True for the published model, and where nothing is said."""
        return bool(index.get("force_zeros_for_empty_prompt", True))


FAMILY = StableDiffusionXL()
