"""The stock diffusers pipeline that draws images: DDIM, with an adapter merged into the UNet when there is one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from qsd.errors import UserError
from qsd.models.adapter import FILE
from qsd.models.denoiser import check_schedule, load_unet
from qsd.models.encoders import TextEncoder, TextTower, latent_scale, load_image_encoder, load_text_encoder
from qsd.models.family import FAMILIES, family_of
from qsd.models.merge import load_merged
from qsd.models.source import load_part

if TYPE_CHECKING:
    from pathlib import Path

    import torch
    from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion import StableDiffusionPipeline
    from diffusers.pipelines.stable_diffusion_xl.pipeline_stable_diffusion_xl import StableDiffusionXLPipeline
    from torch import Tensor

    Pipeline = StableDiffusionPipeline | StableDiffusionXLPipeline


def load_pipeline(
    path: str,
    device: torch.device,
    adapter: Path | None = None,
    precision: str = "fp32",
    vae_precision: str = "fp32",
) -> Pipeline:
    """The pipeline of a folder or hub name; no safety checker and no watermark, since both would poison scores.

    Args:
        path: folder, or hub name with @revision.
        device: where it computes.
        adapter: folder with ``pytorch_lora_weights.safetensors``; None is the untouched base model.
        precision: of the UNet's weights; the adapter is merged in fp32 before they are cast.
        vae_precision: of the VAE. Text models are always fp32.

    Raises:
        UserError: nothing to load there, an unknown kind of pipeline, or the adapter's file is missing.
    """
    import diffusers

    family = family_of(path)
    if adapter is not None and not (adapter / FILE).is_file():
        raise UserError(f"{adapter / FILE}: the adapter is missing; run the train stage again")
    unet = load_unet(path, precision) if adapter is None else load_merged(path, adapter, precision)
    parts: dict[str, Any] = {
        "unet": unet.requires_grad_(False).eval(),
        "vae": load_image_encoder(path, device, vae_precision).vae,
        "scheduler": _ddim(path),
        "feature_extractor": None,
    }
    for text, tower in zip(family.texts, load_text_encoder(path, device).towers, strict=True):
        parts |= {text.tokenizer: tower.tokenizer, text.encoder: tower.model}
    if len(family.texts) == 1:
        parts |= {"safety_checker": None, "requires_safety_checker": False}
    else:
        parts |= {"force_zeros_for_empty_prompt": family.force_zeros, "add_watermarker": False}
    kind: Any = getattr(diffusers, family.pipeline)
    pipeline = kind(**parts)
    pipeline.set_progress_bar_config(disable=True)
    return cast("Pipeline", pipeline.to(device))


def text_encoder_of(pipeline: Pipeline, device: torch.device) -> TextEncoder:
    """The text models of a loaded pipeline."""
    family = FAMILIES[type(pipeline).__name__]
    towers = [TextTower(getattr(pipeline, text.tokenizer), getattr(pipeline, text.encoder)) for text in family.texts]
    return TextEncoder(towers, device)


def zero_negative_prompt(pipeline: Pipeline) -> bool:
    """True where the stock pipeline guides away from zeros, not from the encoded empty text (SDXL as published)."""
    return bool(pipeline.config.get("force_zeros_for_empty_prompt", False))


def decode(pipeline: Pipeline, latents: Tensor) -> list[Any]:
    """PIL images of latents [B, C, h, w] as the UNet sees them, through the VAE in its own precision."""
    import torch

    scale, shift = latent_scale(pipeline.vae)
    with torch.no_grad():
        pixels = pipeline.vae.decode((latents / scale + shift).to(pipeline.vae.dtype), return_dict=False)[0]
    return list(pipeline.image_processor.postprocess(pixels.float(), output_type="pil"))


def latent_shape(pipeline: Pipeline, resolution: int) -> tuple[int, int, int]:
    """(C, H, W) of the latents of a square image.

    Raises:
        UserError: the resolution is no multiple of the VAE's scale factor.
    """
    factor = int(pipeline.vae_scale_factor)
    if resolution % factor:
        raise UserError(f"model.resolution {resolution} is not a multiple of {factor}, the VAE's scale factor")
    return int(pipeline.unet.config["in_channels"]), resolution // factor, resolution // factor


def _ddim(path: str) -> Any:
    """DDIM on the model's own noise schedule. Latents are never clipped to [-1, 1]: that is meant for pixels.

    Schedules saved from samplers that know no clipping say nothing about it, and DDIM's own default is to clip.
    """
    from diffusers import DDIMScheduler

    check_schedule(path)
    return load_part(DDIMScheduler.from_pretrained, path, subfolder="scheduler", clip_sample=False)
