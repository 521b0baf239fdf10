"""A third model family in one file: a small transformer over latents that predicts the velocity of a straight path.

``test_third_family.py`` copies this file, and nothing else, into the families. The weights are random; what matters is
that nothing here is like Stable Diffusion but the VAE and the text model: the network takes packed tokens, its times
are real numbers in (0, 1), its target is a velocity, its pipeline is no class of diffusers, and its layers' names are
its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.image_processor import VaeImageProcessor
from diffusers.loaders import PeftAdapterMixin, SD3LoraLoaderMixin
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor, nn

from qsd.models.families import Conditioning, CostFigures, Family, TextPart, TextTower
from qsd.models.families.stable_diffusion import clip_output
from qsd.models.process import DiffusionProcess


class ToyTransformer(ModelMixin, ConfigMixin, PeftAdapterMixin):
    """One block of attention over image tokens and text tokens."""

    @register_to_config
    def __init__(self, channels: int = 4, width: int = 16, text_width: int = 16) -> None:
        super().__init__()
        self.image_in = nn.Linear(4 * channels, width)
        self.text_in = nn.Linear(text_width, width)
        self.time_in = nn.Linear(1, width)
        self.query, self.key, self.value = (nn.Linear(width, width) for _ in range(3))
        self.image_out = nn.Linear(width, 4 * channels)

    def forward(self, tokens: Tensor, text: Tensor, time: Tensor) -> Tensor:
        """Tokens [B, T, 4 C], text [B, S, text width], time [B] -> [B, T, 4 C]."""
        image = self.image_in(tokens) + self.time_in(time[:, None, None].to(tokens.dtype))
        joint = torch.cat([image, self.text_in(text)], dim=1)
        mixed = nn.functional.scaled_dot_product_attention(self.query(image), self.key(joint), self.value(joint))
        return self.image_out(image + mixed)


@dataclass(frozen=True)
class StraightProcess(DiffusionProcess):
    """z_σ = (1 - σ) z_0 + σ ε, v = ε - z_0; times are σ, fp32; 0 ends the sampling."""

    least: float = 0.02

    def times(self, uniform: npt.NDArray[np.float64]) -> npt.NDArray[np.float32]:
        """σ [B], uniform in [least, 1)."""
        return (self.least + (1 - self.least) * uniform).astype(np.float32)

    def sampling_times(self, steps: int) -> list[tuple[float, float]]:
        """Evenly spaced, from 1 to 0."""
        return list(pairwise(np.linspace(1, 0, steps + 1).tolist()))

    def add_noise(self, latents: Tensor, noise: Tensor, times: Tensor) -> Tensor:
        """z_σ."""
        sigma = times[:, None, None, None]
        return (1 - sigma) * latents + sigma * noise

    def target(self, latents: Tensor, noise: Tensor, times: Tensor) -> Tensor:
        """v."""
        return noise - latents

    def x0(self, noisy: Tensor, prediction: Tensor, times: Tensor) -> Tensor:
        """z_σ - σ v."""
        return noisy - times[:, None, None, None] * prediction

    def step(
        self, prediction: Tensor, noisy: Tensor, time: Tensor, next_time: Tensor, eta: float | Tensor
    ) -> tuple[Tensor, Tensor]:
        """A share η of the next noise is new."""
        sigma, std = next_time[:, None, None, None], eta * next_time[:, None, None, None]
        clean = self.x0(noisy, prediction, time)
        return (1 - sigma) * clean + (sigma**2 - std**2) ** 0.5 * (clean + prediction), std


class ToyPipeline:
    """What the generator needs of a pipeline."""

    def __init__(self, **parts: Any) -> None:
        self.parts = parts
        self.image_processor = VaeImageProcessor()

    def __getattr__(self, name: str) -> Any:
        """The parts by their folders."""
        try:
            return self.__dict__["parts"][name]
        except KeyError:
            raise AttributeError(name) from None

    def set_progress_bar_config(self, **_options: Any) -> None:
        """There is no bar."""

    def to(self, device: torch.device) -> ToyPipeline:
        """Move the parts with weights."""
        for part in self.parts.values():
            if isinstance(part, nn.Module):
                part.to(device)
        return self


class Toy(Family):
    """The family."""

    pipeline: ClassVar[str] = "ToyPipeline"
    network: ClassVar[str] = "transformer"
    texts: ClassVar[tuple[TextPart, ...]] = (TextPart("tokenizer", "text_encoder", "CLIPTokenizer", "CLIPTextModel"),)
    lora_targets: ClassVar[tuple[str, ...]] = ("query", "key", "value")
    cost: ClassVar[CostFigures] = CostFigures(
        parameters=1_000,
        caption_numbers=7,
        latent_channels=4,
        pixels_per_latent=4,
        flop_per_parameter=2.0,
        pixels_per_position=8,
        encoder_passes=3.0,
    )

    def network_class(self) -> type[ModelMixin]:
        """The transformer."""
        return ToyTransformer

    def load_process(self, path: str, resolution: int | None = None) -> DiffusionProcess:
        """Nothing to load."""
        return StraightProcess()

    def predict(
        self, network: Any, noisy: Tensor, times: Tensor, conditioning: Conditioning, pixels_per_latent: int
    ) -> Tensor:
        """Pack 2 x 2 latents into a token, and unpack the output."""
        tokens = nn.functional.pixel_unshuffle(noisy, 2).flatten(2).mT
        output = network(tokens, conditioning["text"], times)
        side = noisy.shape[-1] // 2
        return nn.functional.pixel_shuffle(output.mT.unflatten(2, (side, side)), 2)

    def encode_captions(self, towers: Sequence[TextTower], captions: Sequence[str]) -> Conditioning:
        """``text`` [B, tokens, width]."""
        return {"text": clip_output(towers[0], captions)[0]}

    def make_pipeline(self, path: str, index: Mapping[str, Any], parts: Mapping[str, Any]) -> ToyPipeline:
        """The parts together."""
        return ToyPipeline(**parts)

    def sample(
        self,
        pipeline: Any,
        latents: Tensor,
        conditioning: Conditioning,
        negative: Conditioning,
        steps: int,
        guidance_scale: float,
        resolution: int,
    ) -> Tensor:
        """Equal steps from σ = 1 to 0."""
        process = self.load_process("")
        sigmas = torch.linspace(1, 0, steps + 1, device=latents.device)
        for start, stop in pairwise(sigmas):
            time = start.expand(len(latents))
            towards, away = (
                self.predict(pipeline.transformer, latents, time, text, 4) for text in (conditioning, negative)
            )
            guided = away + guidance_scale * (towards - away)
            latents, _ = process.step(guided, latents, time, stop.expand(len(latents)), eta=0.0)
        return latents

    def save_adapter(
        self, folder: Path, layers: Mapping[str, Tensor], metadata: Mapping[str, Any], weight_name: str
    ) -> None:
        """In the format of diffusers' transformers."""
        SD3LoraLoaderMixin.save_lora_weights(
            folder,
            transformer_lora_layers=dict(layers),
            transformer_lora_adapter_metadata=dict(metadata),
            weight_name=weight_name,
        )


FAMILY = Toy()
