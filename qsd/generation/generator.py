"""From prompts to images."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image

from qsd.config.schema import ExperimentConfig
from qsd.data.prompts import Prompt
from qsd.draws import initial_latents
from qsd.models.families import Conditioning
from qsd.models.pipeline import Pipeline, decode, latent_shape, pipeline_family, text_encoder_of
from qsd.models.precision import autocast_for
from qsd.models.source import load_index


@dataclass(frozen=True)
class Wanted:
    """One image to make."""

    prompt: Prompt
    image_index: int


class StepReport:
    """In the place of the progress bar of a pipeline of diffusers: what happens after each step.

    Args:
        steps: denoising steps of a call.
        report: called with the share that is done.
    """

    def __init__(self, steps: int, report: Callable[[float], None]) -> None:
        self._steps, self._report, self._done = steps, report, 0

    def __call__(self, *_iterable: Any, **_options: Any) -> StepReport:
        """As the pipeline makes its bar."""
        return self

    def __enter__(self) -> StepReport:
        return self

    def __exit__(self, *_error: object) -> None:
        pass

    def update(self, count: int = 1) -> None:
        """``count`` more steps are done."""
        self._done += count
        self._report(min(1.0, self._done / self._steps))


@contextmanager
def watched(pipeline: Any, steps: StepReport | None) -> Iterator[None]:
    """``steps`` in the place of the pipeline's own progress bar, if it has one."""
    if steps is None or not hasattr(pipeline, "progress_bar"):
        yield
        return
    own = pipeline.progress_bar
    pipeline.progress_bar = steps
    try:
        yield
    finally:
        pipeline.progress_bar = own


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

    def images(self, wanted: Sequence[Wanted], report: Callable[[float], None] | None = None) -> list[Image.Image]:
        """RGB images of the model's resolution, in the order asked for, made in one batch.

        Args:
            wanted: at least one.
            report: called after each denoising step with the share of the steps that are done.
        """
        noise = initial_latents(
            [item.prompt.prompt_id for item in wanted],
            [item.image_index for item in wanted],
            self._settings.seed,
            self._shape,
        )
        steps = StepReport(self._settings.steps, report) if report else None
        with torch.no_grad(), autocast_for(self._device.type, self._settings.precision), watched(self._pipeline, steps):
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
