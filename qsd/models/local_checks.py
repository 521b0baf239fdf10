"""What planning checks of a model in a folder on this machine: from JSON and the headers of its weights, without torch.

A stage finds the same mistakes with the same messages, but only after the stages before it. Where a file is missing or
cannot be read nothing is said here: the stage that needs it, or ``ablate doctor``, does.
"""

from __future__ import annotations

import json
import math
import struct
from pathlib import Path
from typing import TYPE_CHECKING

from qsd.config.digest import is_hub_name
from qsd.config.once_per_process import OncePerProcess
from qsd.errors import UserError
from qsd.models.families import INDEX, family_in, read_index
from qsd.registry import suggest
from qsd.regular_files import check_regular, read_regular

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping
    from typing import Any

    from qsd.models.families import Family

_LONGEST_HEADER = 50_000_000


@OncePerProcess
def check_resolution(path: str, resolution: int) -> None:
    """Check that a model can make images of ``resolution`` pixels a side.

    Raises:
        UserError: as ``Family.latent_shape``.
    """
    family = _family(path)
    if family is None:
        return
    try:
        config = json.loads(read_regular(Path(path) / "vae" / "config.json"))
        family.latent_shape(config, resolution)
    except (OSError, ValueError, KeyError, TypeError):
        return


@OncePerProcess
def sampler_named(path: str, name: str) -> str:
    """``Family.sampler_named`` of the model; ``name`` itself of one that is not on this machine.

    Of a model on the hub too, once it is checked: keys must not depend on whether it was downloaded before.

    Raises:
        UserError: a sampler that does not fit the model.
    """
    family = _family(path)
    if family is None:
        return name
    known = family.sampler_named(name, path)
    return name if is_hub_name(path) else known


@OncePerProcess
def check_targets(path: str, targets: tuple[str, ...]) -> None:
    """Check that the network in a folder has layers for all targets of an adapter.

    Raises:
        UserError: as ``match_targets``.
    """
    family = _family(path)
    if family is None:
        return
    files = sorted((Path(path) / family.network).glob("*.safetensors"))
    shapes = {name: shape for file in files for name, shape in tensor_shapes(file).items()}
    # The weights of a linear layer are a matrix, those of a convolution have two dimensions more; norms have one.
    layers = [name.removesuffix(".weight") for name, shape in shapes.items() if len(shape) in (2, 4)]
    if layers:
        match_targets(layers, targets, family)


def match_targets(layers: Collection[str], targets: Iterable[str], family: Family) -> None:
    """Check that every target is the ending of some layer's name.

    Args:
        layers: names of the linear and convolution layers of a network.
        targets: ``lora.targets``.
        family: its usual targets are shown.

    Raises:
        UserError: a target that no layer's name ends with.
    """
    endings = {".".join(name.split(".")[-length:]) for name in layers for length in (1, 2, 3)}
    for target in targets:
        if not any(name == target or name.endswith(f".{target}") for name in layers):
            raise UserError(
                f"lora.targets: no linear or convolution layer ends with {target!r}{suggest(target, endings)}; "
                f"usual for {family.pipeline}: {', '.join(family.lora_targets)}"
            )


@OncePerProcess
def check_guidance(path: str, scale: float) -> None:
    """Check that the network in a folder, or of a hub name that was downloaded before, is sampled with such guidance.

    Raises:
        UserError: as ``match_guidance``.
    """
    family = _family(path)
    if family is None:
        return
    try:
        folder = _downloaded(path) if is_hub_name(path) else Path(path)
        config = json.loads(read_regular(folder / family.network / "config.json"))
    except (OSError, ValueError):
        return
    if isinstance(config, dict):
        match_guidance(family, config, path, scale)


def match_guidance(family: Family, network_config: Mapping[str, Any], path: str, scale: float) -> None:
    """Check that on-policy samples of a network get guidance in one way, not in two.

    Args:
        family: of the network.
        network_config: the content of its ``config.json``.
        path: the model, for the message.
        scale: ``method.guidance_scale``.

    Raises:
        UserError: classifier-free guidance of a network that takes its guidance as an input.
    """
    if scale > 1 and family.takes_guidance(network_config):
        raise UserError(
            f"method.guidance_scale is {scale:g}, but the network of model.path {path} takes its guidance as an input, "
            "which was distilled from classifier-free guidance; set method.guidance_scale: 1"
        )


@OncePerProcess
def last_step_brings_noise(path: str, steps: int) -> bool:
    """``Family.last_step_brings_noise`` of a model; True where its settings are not on this machine.

    Args:
        path: folder, or hub name with @revision.
        steps: of the sampler.
    """
    family = _family(path)
    if family is None:
        return True
    try:
        folder = _downloaded(path) if is_hub_name(path) else Path(path)
        config = json.loads(read_regular(folder / "scheduler" / "scheduler_config.json"))
    except (OSError, ValueError):
        return True
    return not isinstance(config, dict) or family.last_step_brings_noise(config, steps)


def tensor_shapes(file: Path) -> dict[str, tuple[int, ...]]:
    """Name -> shape of every tensor of a safetensors file, from its header; empty if it cannot be read."""
    try:
        check_regular(file)
        with file.open("rb") as stream:
            (length,) = struct.unpack("<Q", stream.read(8))
            header = json.loads(stream.read(min(length, _LONGEST_HEADER)))
        return {name: tuple(entry["shape"]) for name, entry in header.items() if name != "__metadata__"}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, struct.error):
        return {}


def count_numbers(file: Path) -> int:
    """Numbers in a safetensors file; 0 if it cannot be read."""
    return sum(math.prod(shape) for shape in tensor_shapes(file).values())


@OncePerProcess
def _family(path: str) -> Family | None:
    """The family of a folder, or of a hub name that was downloaded before; None if there is no readable index.

    Raises:
        UserError: a pipeline of no known family.
    """
    try:
        return family_in(read_index(_downloaded(path) if is_hub_name(path) else Path(path)), path)
    except (OSError, ValueError):
        return None


def _downloaded(name: str) -> Path:
    """The folder of a hub name in the hub's cache on this machine.

    Raises:
        FileNotFoundError: it was not downloaded.
    """
    from huggingface_hub import try_to_load_from_cache

    repository, _, revision = name.partition("@")
    index = try_to_load_from_cache(repository, INDEX, revision=revision or None)
    if not isinstance(index, str):
        raise FileNotFoundError(name)
    return Path(index).parent
