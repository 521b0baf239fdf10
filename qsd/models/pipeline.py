"""The stock pipeline that draws images, with an adapter merged into its network when there is one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from qsd.models.decoder import decoded
from qsd.models.denoiser import load_network
from qsd.models.encoders import TextEncoder, load_image_encoder, load_text_encoder
from qsd.models.families import MODEL_SAMPLER, Family, TextTower, family_in, family_named
from qsd.models.merge import load_merged
from qsd.models.source import load_index, quiet

Pipeline = Any
"""The object that ``Family.make_pipeline`` makes: a diffusers pipeline, or a family's own."""


def load_pipeline(
    path: str,
    device: torch.device,
    adapter: Path | None = None,
    precision: str = "fp32",
    vae_precision: str = "fp32",
    sampler: str = MODEL_SAMPLER,
) -> Pipeline:
    """The pipeline of a folder or hub name; no safety checker and no watermark, since both would poison scores.

    Args:
        path: folder, or hub name with @revision.
        device: where it computes.
        adapter: folder with an adapter of any known layout; None is the untouched base model.
        precision: of the network's weights; the adapter is merged in fp32 before they are cast.
        vae_precision: of the VAE. Text models are always fp32.
        sampler: ``generation.sampler``.

    Raises:
        UserError: nothing to load there, a pipeline of no known family, a sampler that does not fit it, or an adapter
            that cannot be used.
    """
    index = load_index(path)
    family = family_in(index, path)
    # Before the weights are read: a model of the hub was not known when the plan was made.
    sampler = family.sampler_named(sampler, path)
    network: Any = (
        load_network(family, path, precision) if adapter is None else load_merged(family, path, adapter, precision)
    )
    parts: dict[str, Any] = {
        family.network: network.requires_grad_(False).eval(),
        "vae": load_image_encoder(path, device, vae_precision).vae,
    }
    for text, tower in zip(family.texts, load_text_encoder(path, device).towers, strict=True):
        parts |= {text.tokenizer: tower.tokenizer, text.encoder: tower.model}
    pipeline = family.make_pipeline(path, index, parts)
    if sampler != MODEL_SAMPLER:
        with quiet():  # a class writes which settings of the other one it does not know
            pipeline.scheduler = family.make_sampler(sampler, pipeline.scheduler.config)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline.to(device)


def use_channels_last(pipeline: Pipeline) -> None:
    """Lay out the weights of convolutions channel by channel last; last bits of the images may change.

    Prints a note where that reaches the VAE alone, as it does of a transformer.
    """
    network = getattr(pipeline, pipeline_family(pipeline).network)
    for part in (network, pipeline.vae):
        part.to(memory_format=torch.channels_last)
    if sum(isinstance(layer, torch.nn.Conv2d) for layer in network.modules()) < 2:  # one cuts the image into patches
        print(f"generation.channels_last: only of the VAE; {type(network).__name__} is a transformer", flush=True)


def compile_network(pipeline: Pipeline) -> None:
    """Compile the network when it first runs, again for a batch of another size; last bits of the images may change."""
    getattr(pipeline, pipeline_family(pipeline).network).compile()


def pipeline_family(pipeline: Pipeline) -> Family:
    """The family of a loaded pipeline, by its class and the text models that it has.

    Raises:
        UserError: it is of no known family.
    """
    family = family_named(type(pipeline).__name__, "the loaded pipeline")
    absent = (text.encoder for text in family.texts if getattr(pipeline, text.encoder, None) is None)
    return family.without(frozenset(absent))


def text_encoder_of(pipeline: Pipeline, device: torch.device) -> TextEncoder:
    """The text models of a loaded pipeline."""
    family = pipeline_family(pipeline)
    towers = [TextTower(getattr(pipeline, text.tokenizer), getattr(pipeline, text.encoder)) for text in family.texts]
    return TextEncoder(towers, device, family)


def decode(pipeline: Pipeline, latents: Tensor) -> list[Any]:
    """PIL images of latents [B, C, h, w] as the network sees them, through the VAE in its own precision."""
    with torch.no_grad():
        pixels = decoded(pipeline.vae, pipeline_family(pipeline), latents)
    return list(pipeline.image_processor.postprocess(pixels, output_type="pil"))


def latent_shape(pipeline: Pipeline, resolution: int) -> tuple[int, int, int]:
    """(C, h, w) of the latents of a square image.

    Raises:
        UserError: the resolution is no multiple of the VAE's scale factor.
    """
    return pipeline_family(pipeline).latent_shape(pipeline.vae.config, resolution)
