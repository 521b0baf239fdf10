"""Comparison of the project's image with that of an unmodified pipeline with the adapter, in levels of 255.

    python -m scripts.full_size.compare FOLDER

The unmodified pipeline is loaded from the folder and gets the adapter by ``load_lora_weights``. It computes as the
stage did: in bf16 its weights are bf16 and it is in autocast. There it adds the adapter's product to a layer's output
in bf16, where the project merged it into the weights in fp32, so the images agree up to the rounding of bf16. The
captions' embeddings come from the code of the encode stage, so that the text models and the UNet need not be in memory
together.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import diffusers
import numpy as np
import torch

from qsd.draws import initial_latents
from qsd.generation.images import read_images
from qsd.models.encoders import load_text_encoder
from qsd.models.pipeline import decode
from qsd.models.precision import autocast_for, torch_type
from qsd.models.source import family_of

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

CPU = torch.device("cpu")
ARGUMENTS = {"hidden_states": "prompt_embeds", "pooled": "pooled_prompt_embeds"}


@dataclass(frozen=True)
class Difference:
    """Difference of two images in levels of 255: the maximum and the mean over all pixels and colours."""

    largest: int
    mean: float

    def __str__(self) -> str:
        return f"{self.largest} (mean {self.mean:.2f})"


@dataclass(frozen=True)
class Comparison:
    """Differences between the unmodified pipeline's images and the project's.

    Attributes:
        after: with the adapter.
        before: without it.
        spread: largest minus smallest level of the project's image.
    """

    after: Difference
    before: Difference
    spread: int


def compare(folder: Path) -> Comparison:
    """Generate the first image of ``folder/generate`` again in an unmodified pipeline, with the adapter and without."""
    experiment = json.loads((folder / "experiment.yaml").read_text())
    drawing, resolution = experiment["generation"], experiment["model"]["resolution"]
    ours = next(read_images(folder / "generate"))
    stock = _stock(folder / "model", drawing["precision"])
    zeros = family_of(str(folder / "model")).zero_negative_prompt(stock.config)
    conditioning = _conditioning(str(folder / "model"), ours.caption, zeros)
    side = resolution // stock.vae_scale_factor
    shape = (stock.unet.config.in_channels, side, side)

    def drawn() -> NDArray[np.int16]:
        latents = initial_latents([ours.prompt_id], [ours.image_index], drawing.get("seed", 0), shape)
        with torch.no_grad(), autocast_for("cpu", drawing["precision"]):
            made = stock(
                **conditioning,
                latents=torch.from_numpy(latents),
                num_inference_steps=drawing["steps"],
                guidance_scale=drawing["guidance_scale"],
                height=resolution,
                width=resolution,
                output_type="latent",
            )
        return np.asarray(decode(stock, made.images.float())[0], np.int16)

    mine = np.asarray(ours.image, np.int16)
    stock.load_lora_weights(folder / "train" / "adapter")
    after = _difference(mine, drawn())
    print(f"with the adapter: {after} of 255", flush=True)
    stock.disable_lora()
    return Comparison(after, _difference(mine, drawn()), int(np.ptp(mine)))


def _conditioning(model: str, caption: str, zeros: bool) -> dict[str, Tensor]:
    """The pipeline's arguments for a caption and for the negative prompt of guidance."""
    encoded = load_text_encoder(model, CPU).conditioning([caption, ""])
    arguments: dict[str, Tensor] = {}
    for field, values in encoded.items():
        arguments[ARGUMENTS[field]] = values[:1]
        arguments[f"negative_{ARGUMENTS[field]}"] = torch.zeros_like(values[:1]) if zeros else values[1:]
    return arguments


def _stock(model: Path, precision: str) -> Any:
    """The pipeline that diffusers makes of the folder, without text models; its VAE in fp32 and its sampler DDIM."""
    family = family_of(str(model))
    parts = [part for text in family.texts for part in (text.tokenizer, text.encoder)]
    absent = dict.fromkeys(parts if len(family.texts) > 1 else [*parts, "safety_checker"])
    kind = getattr(diffusers, family.pipeline)
    stock = kind.from_pretrained(model, local_files_only=True, dtype=torch_type(precision), **absent)
    stock.vae.float()
    stock.scheduler = diffusers.DDIMScheduler.from_config(stock.scheduler.config, clip_sample=False)
    stock.set_progress_bar_config(disable=True)
    return stock


def _difference(one: NDArray[np.int16], other: NDArray[np.int16]) -> Difference:
    apart = np.abs(one - other)
    return Difference(int(apart.max()), float(apart.mean()))


def main(folder: Path) -> None:
    """Print the result of :func:`compare`."""
    torch.set_num_threads(2)
    differences = compare(folder)
    print(
        f"largest difference to the unmodified pipeline's image: {differences.after} of 255 with the adapter, "
        f"{differences.before} without; spread of the image {differences.spread}"
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
