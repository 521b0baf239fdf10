"""A stock diffusers pipeline, used as its documentation says, from our initial noise."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from qsd.draws import initial_latents

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray


def drawn(
    pipeline: Any,
    prompts: Sequence[tuple[str, str]],
    resolution: int,
    steps: int,
    guidance: float,
    seed: int,
    **options: Any,
) -> list[NDArray[np.int16]]:
    """Its images of (prompt id, caption), from captions as a user gives them; `options` go to the pipeline."""
    side = resolution // pipeline.vae_scale_factor
    shape = (pipeline.vae.config.latent_channels, side, side)
    latents = torch.from_numpy(initial_latents([name for name, _ in prompts], [0] * len(prompts), seed, shape))
    scales: dict[str, Any] = {"guidance_scale": guidance}
    if hasattr(pipeline, "_pack_latents"):  # FLUX, whose ``guidance_scale`` is an input of the network
        latents = pipeline._pack_latents(latents, len(prompts), *shape)
        scales = {"true_cfg_scale": guidance, "negative_prompt": [""] * len(prompts)}
    made = pipeline(
        prompt=[caption for _, caption in prompts],
        latents=latents,
        num_inference_steps=steps,
        **scales,
        height=resolution,
        width=resolution,
        **options,
    )
    return [np.asarray(image, np.int16) for image in made.images]
