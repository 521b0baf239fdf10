"""From prompts to images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from PIL import Image

from qsd.config.schema import ExperimentConfig
from qsd.draws import initial_latents
from qsd.evaluation.prompts import Prompt
from qsd.models.families import Conditioning
from qsd.models.pipeline import Pipeline, decode, latent_shape, pipeline_family, text_encoder_of
from qsd.models.precision import autocast_for
from qsd.models.source import load_index


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
        self._family = pipeline_family(pipeline)
        self._settings = config.generation
        self._resolution = config.model.resolution
        self._shape = latent_shape(pipeline, self._resolution)
        self._device = device
        self._text = text_encoder_of(pipeline, device)
        self._zero_negative = self._family.zero_negative_prompt(load_index(config.model.path))
        self._encoded: dict[str, Conditioning] = {}

    def images(self, wanted: Sequence[Wanted]) -> list[Image.Image]:
        """RGB images of the model's resolution, in the order asked for, made in one batch."""
        noise = initial_latents(
            [item.prompt.prompt_id for item in wanted],
            [item.image_index for item in wanted],
            self._settings.seed,
            self._shape,
        )
        with torch.no_grad(), autocast_for(self._device.type, self._settings.precision):
            conditioning, negative = self._captions([item.prompt.caption for item in wanted])
            latents = self._family.sample(
                self._pipeline,
                torch.from_numpy(noise).to(self._device),
                conditioning,
                negative,
                self._settings.steps,
                self._settings.guidance_scale,
                self._resolution,
            )
        return decode(self._pipeline, latents.float())

    def _captions(self, captions: Sequence[str]) -> tuple[Conditioning, Conditioning]:
        """The conditioning of B captions, and of what guidance leads away from, [B, ...] by field."""
        encoded, empty = self._encode(captions), self._encode([""])[0]
        if self._zero_negative:
            empty = {field: torch.zeros_like(values) for field, values in empty.items()}
        conditioning = {field: torch.stack([caption[field] for caption in encoded]) for field in empty}
        return conditioning, {field: torch.stack([values] * len(captions)) for field, values in empty.items()}

    def _encode(self, captions: Sequence[str]) -> list[Conditioning]:
        """The conditioning of each caption, without the axis of the batch; each caption is encoded only once."""
        new = [caption for caption in dict.fromkeys(captions) if caption not in self._encoded]
        if new:
            encoded = self._text.conditioning(new)
            for place, caption in enumerate(new):
                self._encoded[caption] = {field: values[place] for field, values in encoded.items()}
        return [self._encoded[caption] for caption in captions]
