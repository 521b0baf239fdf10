"""Where a model comes from: a diffusers folder, or a hub name with an optional @revision."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any, TypeVar

import torch
from diffusers import DiffusionPipeline
from diffusers.utils import logging as diffusers_logging
from safetensors import SafetensorError
from transformers.utils import logging as transformers_logging

from qsd.config.digest import is_hub_name
from qsd.config.near_paths import suggest_path
from qsd.errors import UserError, reason
from qsd.models.families import Family, family_in
from qsd.models.folder_checks import CONSTANTS, check_model, check_place
from qsd.weights import check_finite, check_names

T = TypeVar("T")

_HALF = "fp16"
"""The variant that is read where a repository holds no other weights of a part."""


def origin(path: str) -> tuple[str, dict[str, Any]]:
    """The first argument and the keyword arguments of diffusers' and transformers' ``from_pretrained``.

    Raises:
        UserError: a file, or a path at which nothing is: the libraries would ask the hub for it.
    """
    check_place(path)
    if Path(path).is_dir():
        return path, {"local_files_only": True}
    if not is_hub_name(path):
        raise UserError(f"model.path {path}: no such folder{suggest_path(Path(path))}; put it there, or set model.path")
    name, _, revision = path.partition("@")
    return name, {"revision": revision} if revision else {}


def load_index(path: str) -> dict[str, Any]:
    """The content of the ``model_index.json`` of a folder or hub name.

    Raises:
        UserError: nothing to load there.
    """
    # Whatever is loaded of a model, its index is read first: a damaged folder is refused here, with all its parts.
    check_model(path)
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
        with quiet():
            return part(name, **arguments, **options)
    except (UserError, MemoryError, torch.OutOfMemoryError):
        raise
    # Whatever the libraries stumble over in a user's file, it is the file that is wrong: hundreds of places in them
    # trust its settings.
    except Exception as error:
        part_name = options.get("subfolder", "pipeline")
        raise UserError(f"model.path {path}: cannot load its {part_name}: {_described(error)}") from error


def load_weights(part: Callable[..., Any], path: str, subfolder: str, **options: Any) -> Any:
    """Like :func:`load_part` for a part with weights in safetensors; fp16 files are read where there are no others.

    They are known by name (``*.fp16.safetensors``); the type of the weights in memory is set by ``options``.

    Raises:
        UserError: as :func:`load_part`; or tensors that are missing, unexpected, of another shape or not finite.
    """
    arguments = {"subfolder": subfolder, "use_safetensors": True, "output_loading_info": True, **options}
    loaded: Any
    try:
        loaded = load_part(part, path, **arguments)
    except UserError as first:
        # Damaged weights must not be replaced by other ones; only a missing file is an OSError.
        if not isinstance(first.__cause__, OSError) or _has_plain_weights(Path(path) / subfolder):
            raise
        try:
            loaded = load_part(part, path, variant=_HALF, **arguments)
        except UserError:
            # The first message names the file that a complete model would have.
            raise first from None
    model, report = loaded
    place = f"model.path {path}: {subfolder}"
    unexpected = [name for name in report["unexpected_keys"] if not name.endswith(CONSTANTS)]
    misshapen = [str(entry[0]) if isinstance(entry, tuple) else str(entry) for entry in report["mismatched_keys"]]
    check_names(place, report["missing_keys"], unexpected, misshapen)
    check_finite(place, chain(model.named_parameters(), model.named_buffers()))
    return model


@contextmanager
def quiet() -> Iterator[None]:
    """Keep the libraries' own reports out of the logs; tensors that do not fit are errors here."""
    before = [(settings, settings.get_verbosity()) for settings in (diffusers_logging, transformers_logging)]
    try:
        for settings, _ in before:
            settings.set_verbosity_error()
        yield
    finally:
        for settings, level in before:
            settings.set_verbosity(level)


def _has_plain_weights(folder: Path) -> bool:
    """True if a folder on this machine has weights that are no variant."""
    return any("." not in file.name.removesuffix(".safetensors") for file in folder.glob("*.safetensors"))


def _described(error: Exception) -> str:
    """The reason, and the kind of error where the reason alone says little."""
    plain = isinstance(error, OSError | ValueError | SafetensorError) and not isinstance(error, KeyError)
    return reason(error) if plain else f"{type(error).__name__}: {reason(error)}"
