"""From prompts to images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from qsd.draws import initial_latents
from qsd.models.pipeline import decode, latent_shape, text_encoder_of, zero_negative_prompt
from qsd.models.precision import autocast_for

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch
    from PIL import Image
    from torch import Tensor

    from qsd.config.schema import ExperimentConfig
    from qsd.evaluation.prompts import Prompt
    from qsd.models.denoiser import Conditioning
    from qsd.models.pipeline import Pipeline

_ARGUMENTS = {"hidden_states": "prompt_embeds", "pooled": "pooled_prompt_embeds"}
"""What the pipelines call the fields of the conditioning."""


@dataclass(frozen=True)
class Wanted:
    """One image to make."""

    prompt: Prompt
    image_index: int


class Generator:
    """A pipeline with the settings of an evaluation. Captions are encoded once each.

    The initial latents of an image depend on (prompt id, image index, ``generation.seed``) alone.
    """

    def __init__(self, pipeline: Pipeline, config: ExperimentConfig, device: torch.device) -> None:
        self._pipeline = pipeline
        self._settings = config.generation
        self._resolution = config.model.resolution
        self._shape = latent_shape(pipeline, self._resolution)
        self._device = device
        self._text = text_encoder_of(pipeline, device)
        self._known: dict[str, Conditioning] = {}

    def images(self, wanted: Sequence[Wanted]) -> list[Image.Image]:
        """RGB images of the model's resolution, in the order asked for, made in one batch."""
        import torch

        latents = initial_latents(
            [item.prompt.prompt_id for item in wanted],
            [item.image_index for item in wanted],
            self._settings.seed,
            self._shape,
        )
        with torch.no_grad(), autocast_for(self._device.type, self._settings.precision):
            made = self._pipeline(
                **self._captions([item.prompt.caption for item in wanted]),
                latents=torch.from_numpy(latents).to(self._device),
                num_inference_steps=self._settings.steps,
                guidance_scale=self._settings.guidance_scale,
                eta=0.0,
                height=self._resolution,
                width=self._resolution,
                output_type="latent",
            )
        return decode(self._pipeline, made.images.float())

    def _captions(self, captions: Sequence[str]) -> dict[str, Tensor]:
        """The pipeline's arguments for B captions, and for what guidance leads away from."""
        import torch

        wanted, nothing = self._encoded(captions), self._encoded([""])[0]
        arguments: dict[str, Tensor] = {}
        for field, name in _ARGUMENTS.items():
            if field in nothing:
                empty = torch.zeros_like(nothing[field]) if zero_negative_prompt(self._pipeline) else nothing[field]
                arguments[name] = torch.stack([caption[field] for caption in wanted])
                arguments[f"negative_{name}"] = torch.stack([empty] * len(captions))
        return arguments

    def _encoded(self, captions: Sequence[str]) -> list[Conditioning]:
        """The conditioning of each caption, without the axis of the batch."""
        new = [caption for caption in dict.fromkeys(captions) if caption not in self._known]
        if new:
            encoded = self._text.conditioning(new)
            for place, caption in enumerate(new):
                self._known[caption] = {field: values[place] for field, values in encoded.items()}
        return [self._known[caption] for caption in captions]
