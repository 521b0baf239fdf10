"""Parameters and operations of a published flow-matching model, without its weights or memory for them.

    .venv/bin/python -m scripts.full_size.count sd35m --resolution 512

Everything is on PyTorch's ``meta`` device: only shapes are computed, in seconds.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from diffusers import AutoencoderKL
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, T5Config, T5EncoderModel

from qsd.config.schema import LoraConfig
from qsd.models.adapter import add_adapter
from qsd.models.families import family_named
from qsd.training.throughput import count_flops
from scripts.full_size.flow_architectures import FLOW_ARCHITECTURES

if TYPE_CHECKING:
    from scripts.full_size.flow_architectures import FlowArchitecture

_KINDS: dict[str, tuple[Any, Any]] = {
    "CLIPTextModel": (CLIPTextModel, CLIPTextConfig),
    "CLIPTextModelWithProjection": (CLIPTextModelWithProjection, CLIPTextConfig),
    "T5EncoderModel": (T5EncoderModel, T5Config),
}


@dataclass(frozen=True)
class Operations:
    """Floating-point operations of one pair (two images) of a training.

    Attributes:
        forward: of a pass without gradients, such as the reference's.
        trained: of a forward and a backward pass with an adapter.
        adapter: parameters of that adapter.
    """

    forward: int
    trained: int
    adapter: int


def parameters(architecture: FlowArchitecture) -> dict[str, int]:
    """Parameters of every part, by its folder."""
    family = family_named(architecture.pipeline, "an architecture")
    with torch.device("meta"):
        kind: Any = family.network_class()
        parts = {family.network: kind(**architecture.network), "vae": AutoencoderKL(**architecture.vae)}
        for text, settings in zip(family.texts, architecture.texts, strict=True):
            model, config = _KINDS[text.encoder_class]
            parts[text.encoder] = model(config(**settings))
    return {name: sum(parameter.numel() for parameter in part.parameters()) for name, part in parts.items()}


def operations(architecture: FlowArchitecture, resolution: int, rank: int = 32) -> Operations:
    """What one pair costs at ``resolution`` pixels a side, with an adapter of ``rank`` on the usual targets."""
    family = family_named(architecture.pipeline, "an architecture")
    with torch.device("meta"):
        kind: Any = family.network_class()
        network = kind(**architecture.network).requires_grad_(False)
        noisy = torch.empty(2, *family.latent_shape(architecture.vae, resolution))
        text = {field: torch.empty(2, *shape) for field, shape in architecture.text.items()}
        times = torch.empty(2)
        # Counted before the adapter is there: a reference pass has it off.
        with torch.no_grad():
            forward = count_flops(lambda: family.predict(network, noisy, times, text, 8))
        adapter = add_adapter(network, LoraConfig(rank=rank, targets=list(family.lora_targets)), 0, family)

        def train() -> None:
            torch.autograd.backward(family.predict(network, noisy, times, text, 8).sum())

        return Operations(forward, count_flops(train), sum(values.numel() for values in adapter.values()))


def main() -> None:
    """Print a few lines."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=FLOW_ARCHITECTURES)
    parser.add_argument("--resolution", type=int, default=512)
    given = parser.parse_args()
    architecture = FLOW_ARCHITECTURES[given.name]
    for part, count in parameters(architecture).items():
        print(f"{part}: {count:,} parameters, {2 * count / 1e9:.2f} GB in bf16")
    cost = operations(architecture, given.resolution)
    positions = (given.resolution / 16) ** 2
    network = parameters(architecture)[family_named(architecture.pipeline, "an architecture").network]
    print(f"a pair at {given.resolution} pixels: {cost.forward / 1e12:.3f} TFLOP forward, ", end="")
    print(f"{cost.trained / 1e12:.3f} forward and backward with an adapter of {cost.adapter:,} parameters")
    print(f"operations per parameter and position: {cost.forward / 2 / network / positions:.2f}")


if __name__ == "__main__":
    main()
