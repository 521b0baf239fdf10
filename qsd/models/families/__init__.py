"""Model families: everything that is particular to one pipeline class. One file per family; nothing else is edited.

A family is found by the ``_class_name`` in a model's ``model_index.json``. It says which folders hold weights, how the
network, the text models and the VAE are loaded and used, which diffusion process the network was trained for, how the
pipeline is called, how an adapter is stored, and what planning assumes of its cost. The training, the encoding, the
generation and the cost model ask the family and name no class of a network, a schedule or a pipeline themselves.

Planning and the checks of a machine ask families too, and must start quickly. So a family's file imports no heavy
library at its top; its methods import what they need when a stage calls them.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from qsd.errors import UserError
from qsd.registry import Registry, suggest
from qsd.regular_files import read_regular

if TYPE_CHECKING:
    from diffusers.models.modeling_utils import ModelMixin
    from torch import Tensor

    from qsd.models.process import DiffusionProcess

INDEX = "model_index.json"
"""The file of a model's folder that names its pipeline class and its parts."""

MODEL_SAMPLER = "model"
"""``generation.sampler`` of the sampler that a family draws with unless another one is asked for."""

Conditioning = dict[str, "Tensor"]
"""The conditioning of a network on B captions: tensors [B, ...] by a name that the family chooses, such as
``hidden_states`` [B, tokens, width]. The stages store, draw and pass on whatever fields there are."""


@dataclass(frozen=True)
class TextPart:
    """One text model of a pipeline.

    Attributes:
        tokenizer: folder of its tokenizer.
        encoder: folder of its weights.
        tokenizer_class: class of the tokenizer in transformers.
        encoder_class: class of the model in transformers.
    """

    tokenizer: str
    encoder: str
    tokenizer_class: str
    encoder_class: str


@dataclass
class TextTower:
    """A loaded text model, fp32 and frozen, with its tokenizer."""

    tokenizer: Any
    model: Any


@dataclass(frozen=True)
class CostFigures:
    """What planning assumes of a family's models before anything was run; good to a small factor.

    Attributes:
        parameters: of the published network; a model on this machine is counted instead.
        caption_numbers: stored per caption by the encode stage, for the published text models.
        latent_channels: channels of a latent.
        pixels_per_latent: pixels along a side of one latent.
        flop_per_parameter: of a forward pass of the network, per parameter and position: 2 for a transformer that uses
            every parameter at every token, less where layers work at lower resolutions.
        pixels_per_position: pixels along a side of one position of the network: ``pixels_per_latent``, times the side
            of a patch where the network packs latents into tokens.
        encoder_passes: cost of encoding an image by the VAE, in forward passes of the network.
        published: how hub names of the published models begin: a model that is not on this machine is taken for one of
            this family by its name.
        assumed_from: resolution from which any other model that is not on this machine is taken for one of this family;
            None: never. Of several families the one with the largest such resolution is taken.
    """

    parameters: int
    caption_numbers: int
    latent_channels: int
    pixels_per_latent: int
    flop_per_parameter: float
    pixels_per_position: int
    encoder_passes: float
    published: tuple[str, ...] = ()
    assumed_from: float | None = None

    def forward_flop(self, parameters: int, resolution: float) -> float:
        """Operations of a forward pass of the network for one image of ``resolution`` pixels a side."""
        return self.flop_per_parameter * parameters * (resolution / self.pixels_per_position) ** 2

    def latent_numbers(self, resolution: float) -> float:
        """Numbers of one image's latents."""
        return self.latent_channels * (resolution / self.pixels_per_latent) ** 2


class Family(ABC):
    """One pipeline class. The abstract methods are what every family must bring; the others fit most families.

    Attributes:
        pipeline: the class that ``model_index.json`` names; of diffusers, unless ``make_pipeline`` and
            ``save_adapter`` are the family's own.
        network: the folder of the network that is trained, and the pipeline's name for it: ``unet``, ``transformer``.
            The names of an adapter's tensors begin with it.
        texts: the text models, in the order in which ``encode_captions`` gets them.
        lora_targets: the name endings that the field usually adapts; shown where a target matches no layer.
        cost: what planning assumes.
        own_sampler: ``generation.sampler`` by whose name the family's own sampler is known; None: it has no other name.
        samplers: the others that fit, each made by ``make_sampler``.
        kohya_readers: what reads the adapter's second file (``kohya.safetensors``); for the model card.
    """

    pipeline: ClassVar[str]
    network: ClassVar[str]
    texts: ClassVar[tuple[TextPart, ...]]
    lora_targets: ClassVar[tuple[str, ...]]
    cost: ClassVar[CostFigures]
    own_sampler: ClassVar[str | None] = None
    samplers: ClassVar[tuple[str, ...]] = ()
    kohya_readers: ClassVar[str] = "programs of kohya's layout, such as ComfyUI and AUTOMATIC1111"

    # ── Files ────────────────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def folders(self) -> tuple[str, ...]:
        """The folders of a model that are read, weights or not."""
        texts = [folder for text in self.texts for folder in (text.tokenizer, text.encoder)]
        return (self.network, "vae", "scheduler", *texts)

    @property
    def weight_folders(self) -> tuple[str, ...]:
        """The folders with weights."""
        return (self.network, "vae", *(text.encoder for text in self.texts))

    def required_settings(self, folder: str) -> tuple[str, ...]:
        """Settings that the configuration of a part must state; where they are missing a library takes its default.

        Args:
            folder: of the part.
        """
        return ()

    def without(self, absent: frozenset[str]) -> Family:
        """The family of a model in which some text models are left out; by default itself, which then misses them.

        Args:
            absent: folders of the text models that the model says it does not have.
        """
        return self

    # ── The network and its process ──────────────────────────────────────────────────────────────────────────────────

    @abstractmethod
    def network_class(self) -> type[ModelMixin]:
        """The network's class in diffusers; one that takes adapters (``PeftAdapterMixin``)."""

    @abstractmethod
    def load_process(self, path: str, resolution: int | None = None) -> DiffusionProcess:
        """The diffusion process that a model was trained for, from the settings in its folder ``scheduler``.

        Args:
            path: folder, or hub name with @revision.
            resolution: pixels a side, for models whose sampler depends on it; None if nothing will be sampled.

        Raises:
            UserError: the settings are of another process; raised before any weights are loaded.
        """

    @abstractmethod
    def predict(
        self, network: Any, noisy: Tensor, times: Tensor, conditioning: Conditioning, pixels_per_latent: int
    ) -> Tensor:
        """The network's output for noisy latents [B, C, h, w] at times [B]; [B, C, h, w], in its compute type.

        A family whose network takes packed tokens, a scaled time or a flipped sign converts here, both ways.
        """

    def takes_guidance(self, network_config: Mapping[str, Any]) -> bool:
        """True where guidance is an input of the network, which stands for classifier-free guidance.

        Args:
            network_config: the content of the network's ``config.json``.
        """
        return False

    def last_step_brings_noise(self, scheduler_config: Mapping[str, Any], steps: int) -> bool:
        """Whether the last step of an on-policy method's sampler has more than one outcome.

        Args:
            scheduler_config: the content of the model's ``scheduler/scheduler_config.json``.
            steps: of the sampler.
        """
        return True

    # ── Text ─────────────────────────────────────────────────────────────────────────────────────────────────────────

    @abstractmethod
    def encode_captions(self, towers: Sequence[TextTower], captions: Sequence[str]) -> Conditioning:
        """The conditioning of B captions, as the stock pipeline computes it; called without gradients.

        Args:
            towers: the models of ``texts``, in that order.
            captions: of any length; longer ones are cut as the pipeline cuts them.
        """

    def caption_numbers(self, folder: Path) -> int:
        """Numbers stored per caption, for planning; of the published text models unless the family reads its own."""
        return self.cost.caption_numbers

    # ── The VAE ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def vae_class(self) -> Any:
        """The VAE's class in diffusers."""
        from diffusers import AutoencoderKL

        return AutoencoderKL

    def latent_scale(self, vae: Any) -> tuple[float | Tensor, float | Tensor]:
        """(scale, shift): the network sees (latent - shift) · scale. Both are numbers, or tensors [1, C, 1, 1].

        Raises:
            UserError: the VAE scales its latents channel by channel, and the family does not say how.
        """
        if vae.config.get("latents_mean") is not None:
            raise UserError("its VAE scales latents channel by channel (latents_mean), which is not supported")
        return float(vae.config["scaling_factor"]), float(vae.config.get("shift_factor") or 0.0)

    def pixels_per_latent(self, vae_config: Mapping[str, Any]) -> int:
        """Pixels along a side of one latent: every level of the VAE but the last halves the image."""
        return int(2 ** (len(vae_config["block_out_channels"]) - 1))

    def latent_shape(self, vae_config: Mapping[str, Any], resolution: int) -> tuple[int, int, int]:
        """(C, h, w) of the latents of a square image.

        Raises:
            UserError: the resolution is no multiple of the VAE's scale factor.
        """
        factor = self.pixels_per_latent(vae_config)
        if resolution % factor:
            raise UserError(f"model.resolution {resolution} is not a multiple of {factor}, the VAE's scale factor")
        return int(vae_config["latent_channels"]), resolution // factor, resolution // factor

    # ── The pipeline ─────────────────────────────────────────────────────────────────────────────────────────────────

    @abstractmethod
    def make_pipeline(self, path: str, index: Mapping[str, Any], parts: Mapping[str, Any]) -> Any:
        """The pipeline that draws images; its class is called like ``pipeline``.

        No safety checker and no watermark: both would change images, and so poison scores.

        Args:
            path: the model, for the settings of its sampler.
            index: the content of its ``model_index.json``.
            parts: the loaded parts by their folders: the network, the VAE, tokenizers and text models.
        """

    def sampler_named(self, name: str, path: str) -> str:
        """``generation.sampler`` by one name for each way of drawing: the family's own is always ``MODEL_SAMPLER``.

        Args:
            name: as the configuration has it.
            path: the model, for the message.

        Raises:
            UserError: a sampler that does not fit the family.
        """
        if name in (MODEL_SAMPLER, self.own_sampler):
            return MODEL_SAMPLER
        if name in self.samplers:
            return name
        own = f"{MODEL_SAMPLER} (which is {self.own_sampler})" if self.own_sampler else MODEL_SAMPLER
        raise UserError(
            f"generation.sampler {name!r} does not fit model.path {path}, a {self.pipeline}; "
            f"use {', '.join([own, *self.samplers])}"
        )

    def make_sampler(self, name: str, config: Mapping[str, Any]) -> Any:
        """One of ``samplers``, by a class of diffusers, for the pipeline to take steps by.

        Args:
            name: which.
            config: the settings of the pipeline's own sampler, which are the model's.
        """
        raise NotImplementedError(f"{type(self).__name__} has no sampler {name}")

    @abstractmethod
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
        """Run the pipeline from initial noise to clean latents, before the VAE.

        Args:
            pipeline: made by ``make_pipeline``.
            latents: standard normal numbers, [B, C, h, w].
            conditioning: of the B captions.
            negative: of what guidance leads away from, in the same fields.
            steps: denoising steps.
            guidance_scale: of classifier-free guidance; 1 switches it off.
            resolution: pixels a side.

        Returns:
            [B, C, h, w], scaled as the network sees them.
        """

    def zero_negative_prompt(self, index: Mapping[str, Any]) -> bool:
        """True where the stock pipeline guides away from zeros, not from the encoded empty caption.

        Args:
            index: the content of ``model_index.json``.
        """
        return False

    # ── The adapter ──────────────────────────────────────────────────────────────────────────────────────────────────

    def original_names(self, layers: Sequence[str], network_config: Mapping[str, Any]) -> dict[str, str]:
        """Names of the network's layers in its authors' code, where other programs' adapters use them.

        Args:
            layers: dotted names in diffusers.
            network_config: the content of the network's ``config.json``.

        Returns:
            Dotted name there -> dotted name in diffusers; empty where no other names are in use.
        """
        return {}

    def save_adapter(
        self, folder: Path, layers: Mapping[str, Tensor], metadata: Mapping[str, Any], weight_name: str
    ) -> None:
        """Write a LoRA adapter as the stock pipeline's ``load_lora_weights`` reads it.

        Args:
            folder: where the file goes.
            layers: tensors by their names in the network, as peft calls them.
            metadata: peft's settings of the adapter.
            weight_name: name of the file.
        """
        import diffusers

        layers_of_part = {f"{self.network}_lora_layers": layers, f"{self.network}_lora_adapter_metadata": metadata}
        getattr(diffusers, self.pipeline).save_lora_weights(str(folder), **layers_of_part, weight_name=weight_name)


REGISTRY: Registry[Family] = Registry("model family", "qsd.models.families", "FAMILY")


def families() -> list[Family]:
    """All families, in the order of their files' names."""
    return [REGISTRY.get(name) for name in REGISTRY.names()]


def family_named(pipeline: str, place: str) -> Family:
    """The family of a pipeline class.

    Args:
        pipeline: name of the class.
        place: what names it, for the message.

    Raises:
        UserError: no family is of that class, or two are.
    """
    known: dict[str, Family] = {}
    for family in families():
        if family.pipeline in known:
            both = " and ".join(type(one).__module__ for one in (known[family.pipeline], family))
            raise UserError(f"{both} are both for {family.pipeline}; a pipeline's class has one family")
        known[family.pipeline] = family
    if pipeline not in known:
        raise UserError(
            f"{place} names the pipeline {pipeline}, which is not supported{suggest(pipeline, known)}; "
            f"known: {', '.join(known)}"
        )
    return known[pipeline]


def family_in(index: Mapping[str, Any], path: str) -> Family:
    """The family that the content of a ``model_index.json`` names; ``path`` is for the message.

    A part whose entry there is ``[null, null]`` is left out (``Family.without``).

    Raises:
        UserError: a pipeline of another class.
    """
    family = family_named(str(index.get("_class_name")), f"model.path {path}: {INDEX}")
    return family.without(frozenset(text.encoder for text in family.texts if index.get(text.encoder) == [None, None]))


def read_index(folder: Path) -> dict[str, Any]:
    """The content of a folder's ``model_index.json``; no library is loaded for it.

    Raises:
        OSError: there is none.
        ValueError: it is no JSON object.
    """
    index: Any = json.loads(read_regular(folder / INDEX))
    if not isinstance(index, dict):
        raise ValueError(f"{folder / INDEX}: not a JSON object")
    return index
