"""Which kinds of pipeline are understood, told apart by the class that ``model_index.json`` names."""

from __future__ import annotations

from dataclasses import dataclass

from qsd.errors import UserError
from qsd.models.source import load_part

INDEX = "model_index.json"


@dataclass(frozen=True)
class TextPart:
    """One text model: the folders of its tokenizer and weights, and its class in transformers."""

    tokenizer: str
    encoder: str
    model: str


@dataclass(frozen=True)
class Family:
    """One kind of pipeline.

    Attributes:
        pipeline: its class in diffusers.
        texts: its text models, in the order in which their outputs are put together.
        force_zeros: zeros stand for the empty negative prompt; the encoded empty text does otherwise.
    """

    pipeline: str
    texts: tuple[TextPart, ...]
    force_zeros: bool = False

    @property
    def folders(self) -> tuple[str, ...]:
        """The folders that are read, weights or not."""
        texts = [folder for text in self.texts for folder in (text.tokenizer, text.encoder)]
        return ("unet", "vae", "scheduler", *texts)

    @property
    def weight_folders(self) -> tuple[str, ...]:
        """The folders with weights."""
        return ("unet", "vae", *(text.encoder for text in self.texts))


_FIRST = TextPart("tokenizer", "text_encoder", "CLIPTextModel")
_SECOND = TextPart("tokenizer_2", "text_encoder_2", "CLIPTextModelWithProjection")
FAMILIES = {
    "StableDiffusionPipeline": Family("StableDiffusionPipeline", (_FIRST,)),
    "StableDiffusionXLPipeline": Family("StableDiffusionXLPipeline", (_FIRST, _SECOND), force_zeros=True),
}
"""By ``_class_name``. SD 1.x and 2.x are of the first, SDXL's base model of the second."""


def family_of(path: str) -> Family:
    """The family of a pipeline folder or hub name.

    Raises:
        UserError: nothing to load there, or a pipeline of another class.
    """
    from diffusers import DiffusionPipeline

    return family_in(load_part(DiffusionPipeline.load_config, path), path)


def family_in(index: dict[str, object], path: str) -> Family:
    """The family that the content of a ``model_index.json`` says; `path` is for the message."""
    name = str(index.get("_class_name"))
    family = FAMILIES.get(name)
    if family is None:
        known = ", ".join(FAMILIES)
        raise UserError(f"model.path {path}: {INDEX} names the pipeline {name}, which is not supported; known: {known}")
    if not family.force_zeros:
        return family
    return Family(family.pipeline, family.texts, bool(index.get("force_zeros_for_empty_prompt", True)))
