"""What a stage costs when nothing of its kind was ever run: arithmetic on sizes, good to a small factor.

The assumptions are the constants of this file and, for what depends on the base model, the figures of its family
(``CostFigures`` in ``qsd.models.families``); ``docs/planning.md`` gives them in words.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ablations.cost.pair_counts import BYTES_PER_PIXEL
from qsd.config.digest import is_hub_name
from qsd.errors import UserError
from qsd.models.families import Family, families, family_in, read_index
from qsd.models.folder_checks import downloaded
from qsd.models.local_checks import count_numbers
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
SCORER_POSITIONS = {"small": 32, "large": 256}
"""For which a scorer uses each of its parameters; small is below 50 million of them."""
IMAGES_PER_S = 200.0
"""Images decoded per second and thread."""
UNKNOWN_SCORER = 1_000_000_000
"""Parameters of a scorer that is not on this machine: CLIP ViT-H/14."""


@dataclass(frozen=True)
class Machine:
    """What a stage runs on: ``processes`` that share the work equally, each on a GPU or on ``threads`` cores."""

    gpu: bool
    threads: int = 1
    processes: int = 1

    def seconds(self, flop: float, precision: str, passes: float) -> float:
        """Time of ``flop`` operations of all processes together, in ``passes`` calls of a network per process."""
        flop /= self.processes
        if self.gpu:
            return max(flop / GPU_FLOPS[precision], passes * PASS_S)
        return flop / (CPU_FLOPS * self.threads)


class _Sizes:
    """``qsd.stages.stage_spec.ModelSizes``, by the figures of the model's family."""

    def denoiser_flop(self, values: Mapping[str, Any]) -> float:
        family, _ = _model(values["model.path"], _side(values))
        return family.cost.forward_flop(self.denoiser_parameters(values), _side(values))

    def denoiser_parameters(self, values: Mapping[str, Any]) -> int:
        return _denoiser_parameters(values["model.path"], _side(values))

    def encoder_flop(self, values: Mapping[str, Any]) -> float:
        family, _ = _model(values["model.path"], _side(values))
        return family.cost.encoder_passes * self.denoiser_flop(values)

    def scorer_flop(self, values: Mapping[str, Any], name: str) -> float:
        return _scorer_flop(values["reward.weights"], name)

    def latent_numbers(self, values: Mapping[str, Any]) -> float:
        family, _ = _model(values["model.path"], _side(values))
        return family.cost.latent_numbers(_side(values))

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
    """Whether a stage with this ``device`` setting would use a GPU of this machine; loads no library."""
    if device == "cpu":
        return False
    return Path("/proc/driver/nvidia/version").exists() or shutil.which("nvidia-smi") is not None


def _scorer_flop(weights: str, name: str) -> float:
    """Of one image; 0 where no network scores: what is then done with the pixels costs less than their decoding."""
    from qsd.rewards.scorers import REGISTRY

    if not REGISTRY.get(name).scores_new_images:
        return 0.0
    folders = [str(Path(weights) / folder) for folder in REGISTRY.get(name).folders]
    parameters = sum(_parameters(Path(folder)) or UNKNOWN_SCORER for folder in folders)
    return 2.0 * parameters * SCORER_POSITIONS["small" if parameters < 50_000_000 else "large"]


def _denoiser_parameters(path: str, side: float) -> int:
    family, folder = _model(path, side)
    return (folder and _parameters(folder / family.network)) or family.cost.parameters


def _model(path: str, side: float) -> tuple[Family, Path | None]:
    """The family and the folder of a model; of one that is not on this machine a guess by name or size, and None."""
    folder = _folder(path)
    family = _family_in(folder) if folder else None
    return (family, folder) if family else (_assumed_family(path, side), None)


def _assumed_family(path: str, side: float) -> Family:
    """The family whose published models have such a name, or else are usual at this resolution."""
    for family in families():
        if family.cost.published and path.startswith(family.cost.published):
            return family
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
    return downloaded(path) if is_hub_name(path) else Path(path)


@cache
def _parameters(folder: Path) -> int:
    """Numbers in the safetensors files of a folder; 0 without any."""
    return sum(count_numbers(file) for file in folder.glob("*.safetensors"))


@cache
def _text_numbers(path: str, side: float) -> int:
    """Numbers that are stored of one caption."""
    family, folder = _model(path, side)
    return family.caption_numbers(folder) if folder else family.cost.caption_numbers
