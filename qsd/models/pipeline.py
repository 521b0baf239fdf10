"""The pipeline that draws images: DDIM, fp32, with an adapter merged into the UNet when there is one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from qsd.errors import UserError
from qsd.models.adapter import FILE
from qsd.models.source import load_part

if TYPE_CHECKING:
    from pathlib import Path

    import torch
    from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion import StableDiffusionPipeline


def load_pipeline(path: str, device: torch.device, adapter: Path | None = None) -> StableDiffusionPipeline:
    """The pipeline of a folder or hub name; safety checker off, since its black images would poison scores.

    Args:
        path: folder, or hub name with @revision.
        device: where it computes.
        adapter: folder with ``pytorch_lora_weights.safetensors``; None is the untouched base model.

    Raises:
        UserError: nothing to load there, or the adapter's file is missing.
    """
    import diffusers

    pipeline: Any = load_part(
        diffusers.StableDiffusionPipeline.from_pretrained,
        path,
        safety_checker=None,
        requires_safety_checker=False,
    )
    for part in (pipeline.vae, pipeline.text_encoder, pipeline.unet):
        part.float().requires_grad_(False).eval()
    ddim: Any = diffusers.DDIMScheduler
    pipeline.scheduler = ddim.from_config(pipeline.scheduler.config)
    if adapter is not None:
        if not (adapter / FILE).is_file():
            raise UserError(f"{adapter / FILE}: the adapter is missing; run the train stage again")
        pipeline.unet.load_lora_adapter(adapter, weight_name=FILE, prefix="unet")
        pipeline.unet.fuse_lora()
        pipeline.unet.unload_lora()
    pipeline.set_progress_bar_config(disable=True)
    pipeline.to(device)
    return cast("StableDiffusionPipeline", pipeline)


def latent_shape(pipeline: StableDiffusionPipeline, resolution: int) -> tuple[int, int, int]:
    """(C, H, W) of the latents of a square image.

    Raises:
        UserError: the resolution is no multiple of the VAE's scale factor.
    """
    factor = int(pipeline.vae_scale_factor)
    if resolution % factor:
        raise UserError(f"model.resolution {resolution} is not a multiple of {factor}, the VAE's scale factor")
    return int(pipeline.unet.config["in_channels"]), resolution // factor, resolution // factor
