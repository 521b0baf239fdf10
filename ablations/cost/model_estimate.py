"""What a stage costs when nothing of its kind was ever run: arithmetic on sizes, good to a small factor.

The assumptions are the constants of this file and, for what depends on the base model, the figures of its family
(``CostFigures`` in ``qsd.models.families``); ``docs/sweeps.md`` gives them in words.
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
from ablations.cost.workload import training_passes
from qsd.config.digest import is_hub_name
from qsd.errors import UserError
from qsd.models.families import INDEX, Family, families, family_in, read_index
from qsd.rewards.ensemble import members_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

STARTUP_S = 10.0
"""Start of Python, loading of libraries and weights."""
GPU_FLOPS = {"fp32": 4e13, "tf32": 6e13, "bf16": 1.2e14}
"""Achieved per second on a data-centre GPU, 40 % of what an A100 can do."""
CPU_FLOPS = 2e10
"""Achieved per second and thread."""
PASS_S = 0.03
"""Least time of one pass of a batch through a network on a GPU."""
SCORER_POSITIONS = {"small": 32, "large": 256}
"""For which a scorer uses each of its parameters; small is below 50 million of them."""
IMAGES_PER_S = 200.0
"""Images decoded per second and thread."""
UNKNOWN_SCORER = 1_000_000_000
"""Parameters of a scorer that is not on this machine: CLIP ViT-H/14."""


@dataclass(frozen=True)
class Machine:
    """What a stage runs on: ``processes`` with equal shares of the work, each on a GPU or on ``threads`` cores."""

    gpu: bool
    threads: int = 1
    processes: int = 1

    def seconds(self, flop: float, precision: str, passes: float) -> float:
        """Time of ``flop`` operations of all processes together, in ``passes`` calls of a network per process."""
        flop /= self.processes
        if self.gpu:
            return max(flop / GPU_FLOPS[precision], passes * PASS_S)
        return flop / (CPU_FLOPS * self.threads)


def modelled_seconds(stage: str, values: Mapping[str, Any], amount: float, machine: Machine) -> float:
    """Estimated time of a stage that does ``amount`` of its work (``ablations.cost.workload``)."""
    model = _MODELS.get(stage)
    return STARTUP_S + (model(values, amount, machine) if model else 0.0)


def _decoding(values: Mapping[str, Any], pairs: float) -> float:
    return 2 * pairs / (IMAGES_PER_S * float(values["threads"]))


def _data(values: Mapping[str, Any], pairs: float, _machine: Machine) -> float:
    return _decoding(values, pairs)


def _score(values: Mapping[str, Any], pairs: float, machine: Machine) -> float:
    names = members_of(values["reward.model"], values["reward.members"])
    flop = 2 * pairs * sum(_scorer_flop(values["reward.weights"], name) for name in names)
    return _decoding(values, pairs) + machine.seconds(
        flop, values["reward.precision"], 2 * pairs / values["reward.batch_size"]
    )


def _encode(values: Mapping[str, Any], pairs: float, machine: Machine) -> float:
    family, _ = _model(values["model.path"], values["model.resolution"])
    flop = 2 * pairs * family.cost.encoder_passes * _denoiser_flop(values)
    return _decoding(values, pairs) + machine.seconds(flop, "fp32", 2 * pairs / values["encode.batch_size"])


def _train(values: Mapping[str, Any], passes: float, machine: Machine) -> float:
    of_pair, per_step = training_passes(values), values["training.pairs_per_step"]
    steps = passes / (of_pair.forward_passes * per_step)
    batches = steps * math.ceil(per_step / (values["training.micro_batch"] * machine.processes))
    return machine.seconds(passes * _denoiser_flop(values), values["training.precision"], of_pair.calls * batches)


def _generate(values: Mapping[str, Any], passes: float, machine: Machine) -> float:
    precision = values["generation.precision"]
    return machine.seconds(passes * _denoiser_flop(values), precision, passes / values["generation.batch_size"])


def _evaluate(values: Mapping[str, Any], scored: float, machine: Machine) -> float:
    scorers = values["evaluation.scorers"]
    flop = scored * sum(_scorer_flop(values["reward.weights"], name) for name in scorers) / len(scorers)
    return machine.seconds(flop, "fp32", scored / values["evaluation.batch_size"])


_MODELS: dict[str, Callable[[Mapping[str, Any], float, Machine], float]] = {
    "data": _data,
    "score": _score,
    "encode": _encode,
    "train": _train,
    "generate": _generate,
    "evaluate": _evaluate,
}


def modelled_bytes(stage: str, values: Mapping[str, Any], volume: float) -> float:
    """Estimated size of an artefact that holds ``volume`` (``ablations.cost.workload``)."""
    side = float(values["model.resolution"])
    if stage == "encode":  # fp32 mean and deviation of both images of a pair and of their mirrors, and text
        family, _ = _model(values["model.path"], side)
        variants = 2 if values["training.flip"] else 1
        latents = 2 * variants * 2 * 4 * family.cost.latent_numbers(side)
        return volume * (latents + 4 * _text_numbers(values["model.path"], side))
    if stage == "train":  # an adapter of rank 8 has 0.4 % of the denoiser's parameters, in fp32
        return 4e-3 * _denoiser_parameters(values["model.path"], side) * 4 * volume / 8
    if stage == "generate":  # PNG
        return volume * 3 * BYTES_PER_PIXEL * side**2
    return 100.0 * volume


def has_gpu(device: str) -> bool:
    """Whether a stage with this ``device`` setting would use a GPU of this machine; loads no library."""
    if device == "cpu":
        return False
    return Path("/proc/driver/nvidia/version").exists() or shutil.which("nvidia-smi") is not None


def _denoiser_flop(values: Mapping[str, Any]) -> float:
    """Operations of one forward pass of the network for one image."""
    path, side = values["model.path"], float(values["model.resolution"])
    return _model(path, side)[0].cost.forward_flop(_denoiser_parameters(path, side), side)


def _scorer_flop(weights: str, name: str) -> float:
    from qsd.rewards.scorers import REGISTRY

    folders = [str(Path(weights) / folder) for folder in REGISTRY.get(name).folders]
    parameters = sum(_parameters(Path(folder)) or UNKNOWN_SCORER for folder in folders)
    return 2.0 * parameters * SCORER_POSITIONS["small" if parameters < 50_000_000 else "large"]


def _denoiser_parameters(path: str, side: float) -> int:
    family, folder = _model(path, side)
    return (folder and _parameters(folder / family.network)) or family.cost.parameters


def _model(path: str, side: float) -> tuple[Family, Path | None]:
    """The family and the folder of a model; of one that is not on this machine a guess by its resolution, and None."""
    folder = _folder(path)
    family = _family_in(folder) if folder else None
    return (family, folder) if family else (_assumed_family(side), None)


def _assumed_family(side: float) -> Family:
    """The family whose models are usual at this resolution."""
    starts = [(family.cost.assumed_from, family) for family in families()]
    possible = [(start, family) for start, family in starts if start is not None and side >= start]
    return max(possible, key=lambda item: item[0])[1]


@cache
def _family_in(folder: Path) -> Family | None:
    """The family of a model's folder; None where there is no model of a known family, which other checks report."""
    try:
        return family_in(read_index(folder), str(folder))
    except (OSError, ValueError, UserError):
        return None


@cache
def _folder(path: str) -> Path | None:
    """The folder of a model on this machine: a hub name's where it was downloaded, else None."""
    if not is_hub_name(path):
        return Path(path)
    from huggingface_hub import try_to_load_from_cache

    name, _, revision = path.partition("@")
    index = try_to_load_from_cache(name, INDEX, revision=revision or None)
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
    """Numbers that are stored of one caption."""
    family, folder = _model(path, side)
    return family.caption_numbers(folder) if folder else family.cost.caption_numbers
