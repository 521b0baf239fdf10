"""Where a model comes from: a diffusers folder, or a hub name with an optional @revision."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from qsd.errors import UserError, reason

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

_HALF = "fp16"
"""The variant that is read where a repository holds no other weights of a part."""


def origin(path: str) -> tuple[str, dict[str, Any]]:
    """What diffusers' and transformers' `from_pretrained` need: a name and its keyword arguments.

    Raises:
        UserError: a folder that has no ``model_index.json``.
    """
    folder = Path(path)
    if folder.is_dir():
        if not (folder / "model_index.json").is_file():
            raise UserError(f"{path}: not a diffusers model: model_index.json is missing; check model.path")
        return path, {"local_files_only": True}
    name, _, revision = path.partition("@")
    return name, {"revision": revision} if revision else {}


def load_part(part: Callable[..., T], path: str, **options: Any) -> T:
    """Call a `from_pretrained` on a model's origin.

    Raises:
        UserError: the folder lacks the part, its files are damaged, or the hub does not have the name.
    """
    from diffusers.utils import logging as of_diffusers
    from safetensors import SafetensorError
    from transformers.utils import logging as of_transformers

    log_settings: tuple[Any, ...] = (of_diffusers, of_transformers)
    for settings in log_settings:
        settings.disable_progress_bar()
    name, arguments = origin(path)
    try:
        return part(name, **arguments, **options)
    except (OSError, ValueError, SafetensorError) as error:
        where = options.get("subfolder", "pipeline")
        raise UserError(f"model.path {path}: cannot load its {where}: {reason(error)}") from error


def load_weights(part: Callable[..., T], path: str, subfolder: str, **options: Any) -> T:
    """Like :func:`load_part` for a part with weights, in safetensors: where only fp16 files are there, those.

    They are told apart by name (``*.fp16.safetensors``); what they become in memory is said by `options`.
    """
    arguments = {"subfolder": subfolder, "use_safetensors": True, **options}
    try:
        return load_part(part, path, **arguments)
    except UserError as first:
        try:
            return load_part(part, path, variant=_HALF, **arguments)
        except UserError:
            raise first from None
