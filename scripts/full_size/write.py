"""A pipeline of a published architecture with random weights, two pairs and a prompt.

    python -m scripts.full_size.write NAME FOLDER TYPE

Parts are made and written one by one, so that only one is in memory.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from diffusers import AutoencoderKL, EulerDiscreteScheduler, PNDMScheduler, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from qsd.models.precision import torch_type
from scripts.full_size.architectures import ARCHITECTURES, NOISE
from scripts.synthetic.pairs import good_rows, write_rows
from scripts.synthetic.tokenizer import byte_tokenizer

if TYPE_CHECKING:
    from scripts.full_size.architectures import Architecture

TOKENS = 77
VOCABULARY = 49_408


def write(folder: Path, architecture: Architecture, dtype: torch.dtype) -> None:
    """Write ``folder`` in diffusers' layout, weights in ``dtype``.

    The tokenizer has one token per byte instead of the published 49,408; the embedding has the published size.

    Raises:
        AssertionError: a part has another number of parameters than the published one.
    """
    torch.manual_seed(0)
    xl = len(architecture.texts) == 2
    _save(folder, "unet", architecture, lambda: UNet2DConditionModel(**architecture.unet), dtype)
    _save(folder, "vae", architecture, lambda: AutoencoderKL(**architecture.vae), dtype)
    names = ("text_encoder", "text_encoder_2")
    kinds: tuple[Any, ...] = (CLIPTextModel, CLIPTextModelWithProjection)
    for number, settings in enumerate(architecture.texts):
        words = byte_tokenizer(TOKENS, VOCABULARY)
        words.save_pretrained(folder / ("tokenizer" if number == 0 else "tokenizer_2"))
        config = CLIPTextConfig(
            vocab_size=VOCABULARY,
            max_position_embeddings=TOKENS,
            bos_token_id=words.bos_token_id,
            eos_token_id=words.eos_token_id,
            pad_token_id=words.pad_token_id,
            **settings,
        )
        _save(folder, names[number], architecture, lambda kind=kinds[number], config=config: kind(config), dtype)
    sampler = EulerDiscreteScheduler(**NOISE) if xl else PNDMScheduler(**NOISE, set_alpha_to_one=False)
    sampler.save_pretrained(folder / "scheduler")
    (folder / "model_index.json").write_text(json.dumps(index(architecture), indent=2))


def index(architecture: Architecture) -> dict[str, Any]:
    """``model_index.json``: every part with its library and class; those that are not used are null."""
    xl = len(architecture.texts) == 2
    content: dict[str, Any] = {"_class_name": architecture.pipeline}
    content |= {"force_zeros_for_empty_prompt": True} if xl else {"requires_safety_checker": False}
    content |= {"unet": ("diffusers", "UNet2DConditionModel"), "vae": ("diffusers", "AutoencoderKL")}
    content["scheduler"] = ("diffusers", "EulerDiscreteScheduler" if xl else "PNDMScheduler")
    content |= {"tokenizer": ("transformers", "CLIPTokenizer"), "text_encoder": ("transformers", "CLIPTextModel")}
    if xl:
        content["tokenizer_2"] = ("transformers", "CLIPTokenizer")
        content["text_encoder_2"] = ("transformers", "CLIPTextModelWithProjection")
    unused = ("image_encoder", "feature_extractor", *(() if xl else ("safety_checker",)))
    return content | dict.fromkeys(unused, (None, None))


def _save(folder: Path, name: str, architecture: Architecture, make: Any, dtype: torch.dtype) -> None:
    """Make a part in ``dtype`` and write it, unless it is there already."""
    if (folder / name / "config.json").exists():
        return
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        part = make()
    finally:
        torch.set_default_dtype(before)
    count = sum(parameter.numel() for parameter in part.parameters())
    published = architecture.parameters[name]
    assert count == published, f"{name} has {count:,} parameters, not {published:,}"
    part.save_pretrained(folder / name, safe_serialization=True)
    print(f"{name}: {count:,} parameters", flush=True)


def main(name: str, folder: Path, precision: str) -> None:
    """Write the pipeline, two pairs and one prompt."""
    write(folder / "model", ARCHITECTURES[name], torch_type(precision))
    write_rows(folder / "pairs.parquet", good_rows(2))
    (folder / "prompts.csv").write_text("prompt_id,caption,split\np0,a red heart,evaluation\n")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), sys.argv[3])
