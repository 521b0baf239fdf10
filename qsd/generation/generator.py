"""From prompts to images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from qsd.draws import initial_latents
from qsd.models.encoders import TextEncoder
from qsd.models.pipeline import latent_shape

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch
    from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion import StableDiffusionPipeline
    from PIL import Image
    from torch import Tensor

    from qsd.config.schema import ExperimentConfig
    from qsd.evaluation.prompts import Prompt


@dataclass(frozen=True)
class Wanted:
    """One image to make."""

    prompt: Prompt
    image_index: int


class Generator:
    """A pipeline with the settings of an evaluation. Captions are encoded once each.

    The initial latents of an image depend on (prompt id, image index, ``generation.seed``) alone.
    """

    def __init__(self, pipeline: StableDiffusionPipeline, config: ExperimentConfig, device: torch.device) -> None:
        self._pipeline = pipeline
        self._settings = config.generation
        self._resolution = config.model.resolution
        self._shape = latent_shape(pipeline, self._resolution)
        self._device = device
        self._text = TextEncoder(pipeline.tokenizer, pipeline.text_encoder, device)
        self._known: dict[str, Tensor] = {}

    def images(self, wanted: Sequence[Wanted]) -> list[Image.Image]:
        """RGB images of the model's resolution, in the order asked for, made in one batch."""
        import torch

        latents = initial_latents(
            [item.prompt.prompt_id for item in wanted],
            [item.image_index for item in wanted],
            self._settings.seed,
            self._shape,
        )
        with torch.no_grad():
            made = self._pipeline(
                prompt_embeds=self._embeddings([item.prompt.caption for item in wanted]),
                negative_prompt_embeds=self._embeddings([""] * len(wanted)),
                latents=torch.from_numpy(latents).to(self._device),
                num_inference_steps=self._settings.steps,
                guidance_scale=self._settings.guidance_scale,
                eta=0.0,
                height=self._resolution,
                width=self._resolution,
                output_type="pil",
            )
        return list(made.images)

    def _embeddings(self, captions: Sequence[str]) -> Tensor:
        """Of B captions, [B, tokens, width]."""
        import torch

        new = [caption for caption in dict.fromkeys(captions) if caption not in self._known]
        if new:
            self._known.update(zip(new, self._text.conditioning(new)["hidden_states"], strict=True))
        return torch.stack([self._known[caption] for caption in captions])
