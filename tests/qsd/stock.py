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
    latents = initial_latents([name for name, _ in prompts], [0] * len(prompts), seed, shape)
    made = pipeline(
        prompt=[caption for _, caption in prompts],
        latents=torch.from_numpy(latents),
        num_inference_steps=steps,
        guidance_scale=guidance,
        height=resolution,
        width=resolution,
        **options,
    )
    return [np.asarray(image, np.int16) for image in made.images]
