"""A model's folder, checked whole before anything is loaded: what is missing or damaged is named, in one line.

The libraries fill what they miss with defaults, with random weights or with a tokenizer of two tokens, or fail with an
error about something else. Only JSON and the headers of weights are read; no torch is loaded.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qsd.config.digest import is_hub_name
from qsd.config.once_per_process import OncePerProcess
from qsd.data.lfs import pointer_hint
from qsd.errors import UserError, reason
from qsd.models.families import INDEX, Family, families, family_in
from qsd.regular_files import read_regular
from qsd.vocabulary import check_tokenizer_files
from qsd.weights import check_types, read_header

if TYPE_CHECKING:
    from collections.abc import Iterable

_SCHEDULER = "scheduler"
_WEIGHTS = ".safetensors"
CONSTANTS = ("position_ids",)
"""Endings of tensors that old versions of the libraries stored though they are no weights."""
_CHECKPOINTS = (_WEIGHTS, ".ckpt", ".pt", ".bin", ".gguf")


_FLAGS = frozenset({
    "center_input_sample", "clip_sample", "flip_sin_to_cos", "force_upcast", "mid_block_add_attention",
    "rescale_betas_zero_snr", "resnet_skip_time_act", "set_alpha_to_one", "thresholding", "upcast_attention",
    "use_linear_projection", "use_post_quant_conv", "use_quant_conv",
})  # fmt: skip
"""Settings of which the libraries take any value for true or false."""
_NUMBERS = frozenset({
    "beta_end", "beta_start", "downsample_padding", "freq_shift", "layer_norm_eps", "mid_block_scale_factor",
    "norm_eps", "resnet_out_scale_factor", "sample_max_value", "scaling_factor", "shift_factor", "steps_offset",
})  # fmt: skip
"""Settings that the libraries take unseen, and compute with only when a network runs."""


def check_place(path: str) -> None:
    """Refuse a file as a model.

    Raises:
        UserError: ``path`` is a file; of a checkpoint in one file, the message says how to convert it.
    """
    if not Path(path).is_file():
        return
    if path.endswith(_CHECKPOINTS):
        classes = " or ".join(family.pipeline for family in families())
        raise UserError(
            f"model.path {path}: a single-file checkpoint; convert it to a folder with diffusers: "
            f"CLASS.from_single_file(FILE).save_pretrained(FOLDER), CLASS being {classes}, and set model.path to FOLDER"
        )
    raise UserError(f"model.path {path}: a file; it must be a folder in diffusers' layout, or a hub name")


@OncePerProcess
def check_texts(path: str) -> None:
    """Check the class of a model and its tokenizers against its text models, for planning.

    Args:
        path: a folder; or a hub name, of which what was downloaded is checked. Nothing is said of what is not there.

    Raises:
        UserError: a checkpoint in one file, a pipeline of no known family, or a tokenizer that is missing or does not
            fit.
    """
    if path.endswith(_CHECKPOINTS):
        check_place(path)
    folder, local = Path(path), True
    if not folder.is_dir() and is_hub_name(path):
        folder, local = downloaded(path) or folder, False
    if not (folder / INDEX).is_file():
        return
    for text in family_in(read_object(folder / INDEX), path).texts:
        tokenizer, encoder = folder / text.tokenizer, folder / text.encoder
        if (encoder / "config.json").is_file() and (local or tokenizer.is_dir()):
            check_tokenizer_files(tokenizer, encoder)


@OncePerProcess
def check_model(path: str) -> None:
    """Check all that is read of a model's folder; nothing for a hub name.

    Raises:
        UserError: a folder, a setting or weights that are missing or damaged, or a tokenizer of another model.
    """
    check_place(path)
    folder = Path(path)
    if not folder.is_dir():
        return
    if not (folder / INDEX).is_file():
        raise UserError(f"{path}: not a diffusers model: {INDEX} is missing; check model.path")
    check_pointers([folder / INDEX])
    family = family_in(read_object(folder / INDEX), path)
    check_pointers(file for part in family.folders for file in sorted((folder / part).rglob("*")))
    # A family that requires no settings of a schedule has a process of its own.
    parts = [part for part in family.folders if part != _SCHEDULER or family.required_settings(part)]
    for part in parts:
        if not (folder / part).is_dir():
            raise UserError(f"model.path {path}: its folder {part} is missing; copy or fetch the whole model again")
    for part in (*family.weight_folders, _SCHEDULER):
        if part in parts:
            _check_settings(folder / part, family)
    for part in family.weight_folders:
        _check_weights(folder / part)
        if (folder / part / "adapter_config.json").exists():
            raise UserError(f"{folder / part}: has an adapter_config.json, an adapter of its own; merge it first")
    for text in family.texts:
        check_tokenizer_files(folder / text.tokenizer, folder / text.encoder)


def check_pointers(files: Iterable[Path]) -> None:
    """Refuse the lines of text that a clone without git-lfs has in place of a file, whatever the file is for.

    Raises:
        UserError: with the first such file.
    """
    for file in files:
        if hint := pointer_hint(file):
            raise UserError(f"{file}: {hint}")


def downloaded(name: str) -> Path | None:
    """The folder on this machine of a model that was downloaded under a hub name; no network is asked."""
    from huggingface_hub import try_to_load_from_cache

    repository, _, revision = name.partition("@")
    cached = try_to_load_from_cache(repository, INDEX, revision=revision or None)
    return Path(cached).parent if isinstance(cached, str) else None


def read_object(path: Path) -> dict[str, Any]:
    """A JSON object in a file.

    Raises:
        UserError: no readable file, or no JSON object.
    """
    try:
        content = json.loads(read_regular(path))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path}: not a readable JSON file ({reason(error)}); copy or fetch it again") from None
    if not isinstance(content, dict):
        raise UserError(f"{path}: not a JSON object; copy or fetch it again")
    return content


def _check_settings(folder: Path, family: Family) -> None:
    """Refuse settings for which the library would take a default of another model."""
    file = folder / ("scheduler_config.json" if folder.name == _SCHEDULER else "config.json")
    settings = read_object(file)
    missing = [name for name in family.required_settings(folder.name) if settings.get(name) is None]
    if missing:
        raise UserError(f"{file}: {', '.join(missing)} missing; copy or fetch it again")
    for name, value in settings.items():
        flag = isinstance(value, bool)
        if value is not None and name in _FLAGS and not flag:
            raise UserError(f"{file}: {name} is {value!r}; it must be true or false")
        if value is not None and name in _NUMBERS and (flag or not isinstance(value, int | float)):
            raise UserError(f"{file}: {name} is {value!r}; it must be a number")


def _check_weights(folder: Path) -> None:
    """Refuse weights that are not there whole."""
    files = sorted(file for file in folder.glob(f"*{_WEIGHTS}") if _is_read(file.name))
    for index in folder.glob(f"*{_WEIGHTS}.index.json"):
        shards = read_object(index).get("weight_map")
        if not isinstance(shards, dict) or not shards or not all(isinstance(name, str) for name in shards.values()):
            raise UserError(f"{index}: no weight_map of tensors and files; copy or fetch it again")
        missing = sorted({name for name in shards.values() if not (folder / name).is_file()})
        if missing:
            raise UserError(f"{index}: {', '.join(missing)} missing; copy or fetch it again")
    if not files:
        raise UserError(f"{folder}: no weights (*{_WEIGHTS}); fetch them, or set model.path")
    for file in files:
        header = read_header(file)
        if not header.shapes:
            raise UserError(f"{file}: has no tensors; copy or fetch it again")
        check_types(file, header, CONSTANTS)


def _is_read(name: str) -> bool:
    """False for variants such as ``non_ema``, which lie beside the weights that are read."""
    variant = name.removesuffix(_WEIGHTS).partition(".")[2].partition("-")[0]
    return variant in ("", "fp16")
