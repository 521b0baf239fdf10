"""Where a model comes from: a diffusers folder, or a hub name with an optional @revision."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from diffusers import DiffusionPipeline
from diffusers.utils import logging as diffusers_logging
from safetensors import SafetensorError
from transformers.utils import logging as transformers_logging

from qsd.errors import UserError, reason
from qsd.models.families import INDEX, Family, family_in

T = TypeVar("T")

_HALF = "fp16"
"""The variant that is read where a repository holds no other weights of a part."""


def origin(path: str) -> tuple[str, dict[str, Any]]:
    """The first argument and the keyword arguments of diffusers' and transformers' ``from_pretrained``.

    Raises:
        UserError: a folder that has no ``model_index.json``.
    """
    folder = Path(path)
    if folder.is_dir():
        if not (folder / INDEX).is_file():
            raise UserError(f"{path}: not a diffusers model: {INDEX} is missing; check model.path")
        return path, {"local_files_only": True}
    name, _, revision = path.partition("@")
    return name, {"revision": revision} if revision else {}


def load_index(path: str) -> dict[str, Any]:
    """The content of the ``model_index.json`` of a folder or hub name.

    Raises:
        UserError: nothing to load there.
    """
    return dict(load_part(DiffusionPipeline.load_config, path))


def family_of(path: str) -> Family:
    """The family of a pipeline folder or hub name.

    Raises:
        UserError: nothing to load there, or a pipeline of another class.
    """
    # Only stages ask for a model on the hub; what plans reads folders on this machine (``families.read_index``).
    return family_in(load_index(path), path)


def load_part(part: Callable[..., T], path: str, **options: Any) -> T:
    """Call a ``from_pretrained`` or ``load_config`` on a model's origin.

    Raises:
        UserError: the folder lacks the part, its files are damaged, or the hub does not have the name.
    """
    # Progress bars of the libraries would fill the logs of a stage.
    settings: Any
    for settings in (diffusers_logging, transformers_logging):
        settings.disable_progress_bar()
    name, arguments = origin(path)
    try:
        return part(name, **arguments, **options)
    except (OSError, ValueError, SafetensorError) as error:
        part_name = options.get("subfolder", "pipeline")
        raise UserError(f"model.path {path}: cannot load its {part_name}: {reason(error)}") from error


def load_weights(part: Callable[..., T], path: str, subfolder: str, **options: Any) -> T:
    """Like :func:`load_part` for a part with weights in safetensors; fp16 files are read where there are no others.

    They are known by name (``*.fp16.safetensors``); the type of the weights in memory is set by ``options``.
    """
    arguments = {"subfolder": subfolder, "use_safetensors": True, **options}
    try:
        return load_part(part, path, **arguments)
    except UserError as first:
        try:
            return load_part(part, path, variant=_HALF, **arguments)
        except UserError:
            # The first message names the file that a complete model would have.
            raise first from None
