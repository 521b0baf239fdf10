"""What a stage costs when nothing of its kind was ever run: arithmetic on sizes, good to a small factor.

The assumptions are the constants of this file; ``docs/sweeps.md`` says them in words.
"""

from __future__ import annotations

import json
import math
import shutil
import struct
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ablations.cost.pair_counts import BYTES_PER_PIXEL
from qsd.config.digest import is_hub_name
from qsd.stages.spec import STAGES

if TYPE_CHECKING:
    from collections.abc import Mapping

STARTUP_S = 10.0
"""Start of Python, loading of libraries and weights."""
GPU_FLOPS = {"fp32": 4e13, "tf32": 6e13, "bf16": 1.2e14}
"""Achieved per second on a data-centre GPU, 40 % of what an A100 can do."""
CPU_FLOPS = 2e10
"""Achieved per second and thread."""
PASS_S = 0.03
"""Least time of one pass of a batch through a network on a GPU."""
FLOP_PER_PARAMETER = 0.2
"""Of a denoiser's forward pass, per parameter and latent position: 0.23 for SD1.5 at 512 px, 0.14 for SDXL at 1024."""
ENCODER_SHARE = 1.5
"""Cost of the VAE's encoder for an image, in forward passes of the denoiser."""
SCORER_POSITIONS = {"small": 32, "large": 256}
"""For which a scorer uses each of its parameters; small is below 50 million of them."""
IMAGES_PER_S = 200.0
"""Images decoded per second and thread."""
UNKNOWN_SCORER = 1_000_000_000
"""Parameters of a scorer that is not on this machine: CLIP ViT-H/14."""
UNKNOWN_MODEL = ((1024.0, 2_567_000_000, 77 * 2048 + 1280), (0.0, 860_000_000, 77 * 768))
"""Of a model that is not here: from this resolution on, the denoiser's parameters and the numbers stored per caption;
SDXL's from 1024 on, SD1.5's below."""


@dataclass(frozen=True)
class Machine:
    """What a stage runs on: ``processes`` that share the work equally, each on a GPU or on ``threads`` cores."""

    gpu: bool
    threads: int = 1
    processes: int = 1

    def seconds(self, flop: float, precision: str, passes: float) -> float:
        """Time of ``flop`` operations in all, in ``passes`` calls of a network per process."""
        flop /= self.processes
        if self.gpu:
            return max(flop / GPU_FLOPS[precision], passes * PASS_S)
        return flop / (CPU_FLOPS * self.threads)


class _Sizes:
    """``qsd.stages.stage_spec.ModelSizes``."""

    def denoiser_flop(self, values: Mapping[str, Any]) -> float:
        return FLOP_PER_PARAMETER * self.denoiser_parameters(values) * (_side(values) / 8) ** 2

    def denoiser_parameters(self, values: Mapping[str, Any]) -> int:
        return _denoiser_parameters(values["model.path"], _side(values))

    def encoder_flop(self, values: Mapping[str, Any]) -> float:
        return ENCODER_SHARE * self.denoiser_flop(values)

    def scorer_flop(self, values: Mapping[str, Any], name: str) -> float:
        return _scorer_flop(values["reward.weights"], name)

    def latent_numbers(self, values: Mapping[str, Any]) -> float:
        return 4 * (_side(values) / 8) ** 2

    def text_numbers(self, values: Mapping[str, Any]) -> int:
        return _text_numbers(values["model.path"], _side(values))

    def image_bytes(self, values: Mapping[str, Any]) -> float:
        return 3 * BYTES_PER_PIXEL * _side(values) ** 2


_SIZES = _Sizes()


def _side(values: Mapping[str, Any]) -> float:
    return float(values["model.resolution"])


def modelled_seconds(stage: str, values: Mapping[str, Any], amount: float, machine: Machine) -> float:
    """Estimated time of a stage that does ``amount`` of its work (``qsd.stages.stage_spec.StageCost``)."""
    asked = STAGES[stage].cost.compute(values, amount, machine.processes, _SIZES)
    decoding = asked.decoded_images / (IMAGES_PER_S * float(values["threads"]))
    return STARTUP_S + decoding + machine.seconds(asked.flop, asked.precision, asked.calls)


def modelled_bytes(stage: str, values: Mapping[str, Any], output_size: float) -> float:
    """Estimated size of an artefact that holds ``output_size`` (``qsd.stages.stage_spec.Work``)."""
    return STAGES[stage].cost.size(values, output_size, _SIZES)


def has_gpu(device: str) -> bool:
    """Whether a stage with this ``device`` setting would find a GPU on this machine; reads no library."""
    if device == "cpu":
        return False
    return Path("/proc/driver/nvidia/version").exists() or shutil.which("nvidia-smi") is not None


def _scorer_flop(weights: str, name: str) -> float:
    from qsd.rewards.scorers import REGISTRY

    folders = [str(Path(weights) / folder) for folder in REGISTRY.get(name).folders]
    parameters = sum(_parameters(Path(folder)) or UNKNOWN_SCORER for folder in folders)
    return 2.0 * parameters * SCORER_POSITIONS["small" if parameters < 50_000_000 else "large"]


def _denoiser_parameters(path: str, side: float) -> int:
    folder = _folder(path)
    return (folder and _parameters(folder / "unet")) or _unknown(side)[1]


def _unknown(side: float) -> tuple[float, int, int]:
    return next(known for known in UNKNOWN_MODEL if side >= known[0])


@cache
def _folder(path: str) -> Path | None:
    """Where a model is on this machine, that of a hub name if it was downloaded."""
    if not is_hub_name(path):
        return Path(path)
    from huggingface_hub import try_to_load_from_cache

    name, _, revision = path.partition("@")
    index = try_to_load_from_cache(name, "model_index.json", revision=revision or None)
    return Path(index).parent if isinstance(index, str) else None


@cache
def _parameters(folder: Path) -> int:
    """Numbers in the safetensors files of a folder; 0 without any."""
    return sum(_numbers(file) for file in folder.glob("*.safetensors"))


def _numbers(file: Path) -> int:
    try:
        with file.open("rb") as stream:
            (length,) = struct.unpack("<Q", stream.read(8))
            header = json.loads(stream.read(min(length, 50_000_000)))
        return sum(math.prod(entry["shape"]) for name, entry in header.items() if name != "__metadata__")
    except (OSError, ValueError, KeyError, TypeError, struct.error):
        return 0


@cache
def _text_numbers(path: str, side: float) -> int:
    """Numbers that are stored of one caption: of a second text encoder also its pooled output."""
    folder, numbers = _folder(path), 0
    try:
        for number, name in enumerate(("text_encoder", "text_encoder_2")):
            if folder is not None and (folder / name).is_dir():
                config = json.loads((folder / name / "config.json").read_bytes())
                numbers += int(config["max_position_embeddings"] * config["hidden_size"])
                numbers += int(config["projection_dim"]) if number else 0
    except (OSError, ValueError, KeyError, TypeError):
        numbers = 0
    return numbers or _unknown(side)[2]
