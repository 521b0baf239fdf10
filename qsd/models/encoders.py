"""The parts that turn images and captions into what the network sees. Text in fp32; the VAE in fp32 or bf16."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import transformers
from torch import Tensor

from qsd.errors import UserError
from qsd.models.families import Conditioning, Family, TextPart, TextTower
from qsd.models.precision import torch_type
from qsd.models.source import family_of, load_part, load_weights
from qsd.vocabulary import check_tokenizer_rows


@dataclass
class ImageEncoder:
    """The encoder of a VAE.

    Attributes:
        vae: the autoencoder, frozen.
        device: where it is.
        family: how its latents are scaled.
    """

    vae: Any
    device: torch.device
    family: Family

    def posterior(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of the latents of pixels [B, 3, R, R] in [-1, 1]; scaled, [B, C, h, w], fp32."""
        with torch.no_grad():
            distribution = self.vae.encode(pixels.to(self.device, self.vae.dtype)).latent_dist
        mean, std = distribution.mean.float(), torch.exp(0.5 * distribution.logvar.float())
        scale, shift = self.family.latent_scale(self.vae)
        return (mean - shift) * scale, std * scale


@dataclass
class TextEncoder:
    """All text models of a pipeline, used as its ``encode_prompt`` uses them."""

    towers: Sequence[TextTower]
    device: torch.device
    family: Family

    def conditioning(self, captions: Sequence[str]) -> Conditioning:
        """The conditioning of B captions, [B, ...] by field, computed in fp32 and without gradients."""
        # Captions are also encoded inside the loop that draws, whose network may be in autocast.
        with torch.no_grad(), torch.autocast(self.device.type, enabled=False):
            return self.family.encode_captions(self.towers, captions)


def load_image_encoder(path: str, device: torch.device, precision: str = "fp32") -> ImageEncoder:
    """The VAE of a pipeline folder or hub name, computing in ``precision`` (fp32 or bf16; fp16 overflows in SDXL's).

    Raises:
        UserError: nothing to load there, a pipeline of no known family, or latents whose scale its family cannot tell.
    """
    family = family_of(path)
    vae = load_weights(family.vae_class().from_pretrained, path, "vae", dtype=torch_type(precision))
    try:
        family.latent_scale(vae)
    except UserError as error:
        raise UserError(f"model.path {path}: {error}") from None
    return ImageEncoder(vae.requires_grad_(False).eval().to(device), device, family)


def load_text_encoder(path: str, device: torch.device) -> TextEncoder:
    """Tokenizers and text models of a pipeline folder or hub name, fp32.

    Raises:
        UserError: nothing to load there, or a pipeline of no known family.
    """
    family, towers = family_of(path), []
    for part in family.texts:
        tokenizer_class, encoder_class = (
            getattr(transformers, name) for name in (part.tokenizer_class, part.encoder_class)
        )
        tokenizer = load_part(tokenizer_class.from_pretrained, path, subfolder=part.tokenizer)
        # Without the last option transformers refuses tensors of another shape without their names.
        options = {"dtype": torch.float32, "ignore_mismatched_sizes": True}
        model: Any = load_weights(encoder_class.from_pretrained, path, part.encoder, **options)
        _check_tower(path, part, tokenizer, model)
        towers.append(TextTower(tokenizer, model.requires_grad_(False).eval().to(device)))
    return TextEncoder(towers, device, family)


def _check_tower(path: str, part: TextPart, tokenizer: Any, model: Any) -> None:
    """Refuse a tokenizer that does not belong to its text model, also in a model from the hub.

    Raises:
        UserError: as ``check_vocabulary``, or captions that would be longer than the model's positions.
    """
    place = f"model.path {path}: {part.tokenizer}"
    check_tokenizer_rows(tokenizer, model.get_input_embeddings().num_embeddings, place)
    positions = getattr(model.config, "max_position_embeddings", None)
    if positions is not None and not 1 <= tokenizer.model_max_length <= positions:
        raise UserError(
            f"{place}: model_max_length is {tokenizer.model_max_length}, but {part.encoder} has {positions} positions; "
            "set it in tokenizer_config.json"
        )
