"""The part of a model that is trained: a network with the diffusion process that it was made for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor

from qsd.errors import UserError
from qsd.models.families import Conditioning, Family
from qsd.models.precision import BF16_NORMS, torch_type, use_half_norms
from qsd.models.process import DiffusionProcess
from qsd.models.source import family_of, load_part, load_weights

_COMPILED_FORMS = 64
"""Of one class of blocks: beyond PyTorch's own 8, further forms would silently stay as they are."""


@dataclass
class Denoiser:
    """A frozen network of some family, with the process that it was trained for.

    Latents are [B, C, h, w], scaled as the network sees them (``Family.latent_scale``). Noise, latents and targets are
    fp32; the network's own weights may be bf16.

    Attributes:
        network: the network, which may have an adapter.
        process: times, noising, target and sampler step.
        family: how the network is called.
        pixels_per_latent: pixels along a side of one latent, for networks that get the size of the image as an input.
    """

    network: ModelMixin
    process: DiffusionProcess
    family: Family
    pixels_per_latent: int

    def predict(self, noisy: Tensor, times: Tensor, conditioning: Conditioning) -> Tensor:
        """The network's prediction for noisy latents at times [B]; [B, C, h, w], in its compute type."""
        return self.family.predict(self.network, noisy, times, conditioning, self.pixels_per_latent)

    def use_channels_last(self) -> None:
        """Lay out the weights of convolutions channel by channel last; values stay, last bits of results may not."""
        cast("Any", self.network).to(memory_format=torch.channels_last)

    def compile(self) -> None:
        """Compile the blocks that the network repeats, once for all that are equal; the whole network if it has none.

        Each kind of block is compiled for every width and both with and without the adapter.
        """
        network: Any = self.network
        kinds = getattr(network, "_repeated_blocks", None) or ()
        if not any(type(module).__name__ in kinds for module in network.modules()):
            network.compile()
            return
        dynamo: Any = torch._dynamo.config
        dynamo.recompile_limit = max(dynamo.recompile_limit, _COMPILED_FORMS)
        network.compile_repeated_blocks()

    def use_checkpointing(self) -> None:
        """Keep few intermediate results of a pass with gradients, and compute the others again in the backward pass.

        Raises:
            UserError: the network has no blocks that can be computed again.
        """
        network: Any = self.network
        if not network._supports_gradient_checkpointing:
            raise UserError(
                f"training.gradient_checkpointing: {type(network).__name__} does not support it; leave it out"
            )
        network.enable_gradient_checkpointing()


def load_denoiser(path: str, device: torch.device, precision: str = "fp32", resolution: int | None = None) -> Denoiser:
    """The network of a pipeline folder or hub name, frozen, its weights in ``precision`` on ``device``.

    Args:
        path: folder, or hub name with @revision.
        device: where it computes.
        precision: ``fp32``, ``bf16`` or ``bf16_norms``.
        resolution: pixels a side of images that will be sampled; None if none will.

    Raises:
        UserError: nothing to load there, a pipeline of no known family, or a process that the family does not know.
    """
    family = family_of(path)
    process = family.load_process(path, resolution)
    network: Any = load_network(family, path, precision)
    vae_config: dict[str, Any] = dict(load_part(family.vae_class().load_config, path, subfolder="vae"))
    frozen = network.requires_grad_(False).eval().to(device)
    if precision == BF16_NORMS:
        use_half_norms(frozen)
    return Denoiser(frozen, process, family, family.pixels_per_latent(vae_config))


def load_network(family: Family, path: str, precision: str, exact: Sequence[str] = ()) -> ModelMixin:
    """The network, its weights in ``precision``; those with a word of ``exact`` in their dotted name in fp32."""
    plain = family.network_class()
    # How diffusers' own models name the layers that a loader must not cast; there is no argument for it.
    kind: Any = type(plain.__name__, (plain,), {"_keep_in_fp32_modules": list(exact)}) if exact else plain
    network: Any = load_weights(kind.from_pretrained, path, family.network, dtype=torch_type(precision))
    network.__class__ = plain
    return cast("ModelMixin", network)
