"""What every scorer's folder has in common: a config.json and safetensors weights."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from qsd.errors import UserError, reason
from qsd.regular_files import read_regular
from qsd.weights import check_finite, check_names, check_types, read_header

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from torch import Tensor, nn
    from transformers import CLIPTokenizer

COUNTS = ("position_ids", "num_batches_tracked")
"""Endings of tensors of reward models that are whole numbers."""


def read_config(folder: Path, required: tuple[str, ...]) -> dict[str, Any]:
    """``folder/config.json`` as a dictionary.

    Raises:
        UserError: the file is missing, not JSON, or lacks one of the ``required`` keys.
    """
    path = folder / "config.json"
    try:
        config = json.loads(read_regular(path))
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; a scorer's folder has config.json and its weights") from None
    except (OSError, RecursionError) as error:
        raise UserError(f"{path}: cannot be read ({reason(error)})") from None
    except ValueError as error:
        raise UserError(f"{path}: not valid JSON: {error}") from None
    if not isinstance(config, dict):
        raise UserError(f"{path}: {', '.join(required) or 'its fields'} missing: not a JSON object")
    missing = [key for key in required if key not in config]
    if missing:
        raise UserError(f"{path}: {', '.join(missing)} missing")
    return dict(config)


def named_folder(folder: Path, config: Mapping[str, Any], field: str) -> Path:
    """The folder that a field of ``folder/config.json`` names, relative to ``folder``.

    Raises:
        UserError: the field is no text.
    """
    if not isinstance(config[field], str):
        raise UserError(f"{folder / 'config.json'}: {field} is {config[field]!r}; it must be the name of a folder")
    return folder / str(config[field])


def save_weights(path: Path, state: Mapping[str, Tensor], half: bool) -> None:
    """Write tensors as safetensors, floating point ones as fp16 when ``half``, through a temporary file."""
    import torch
    from safetensors.torch import save_file

    stored = {}
    for name, tensor in state.items():
        dtype = torch.float16 if half and tensor.is_floating_point() else tensor.dtype
        stored[name] = tensor.detach().to("cpu", dtype).contiguous().clone()
    temporary = path.with_name(path.name + ".tmp")
    save_file(stored, temporary)
    temporary.replace(path)


def read_weights(path: Path) -> dict[str, Tensor]:
    """Tensors of a safetensors file, floating point ones as fp32.

    Raises:
        UserError: the file is missing or damaged, or has numbers that are not finite.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if not path.exists():
        raise UserError(f"{path}: the scorer's weights are missing")
    check_types(path, read_header(path), COUNTS)
    try:
        state = load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise UserError(f"{path}: damaged weights ({error})") from None
    check_finite(str(path), state.items())
    return {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in state.items()}


def load_weights(path: Path, model: nn.Module) -> None:
    """Fill ``model`` from a safetensors file; every tensor of the model must be there, and no other.

    Raises:
        UserError: missing file, missing or surplus tensors, or wrong shapes.
    """
    state, wanted = read_weights(path), model.state_dict()
    misshapen = [
        f"{name} {tuple(tensor.shape)} for {tuple(wanted[name].shape)}"
        for name, tensor in state.items()
        if name in wanted and tensor.shape != wanted[name].shape
    ]
    place = f"{path}: the weights do not fit config.json"
    check_names(place, wanted.keys() - state, state.keys() - wanted, misshapen)
    model.load_state_dict(state, strict=True)


def open_tokenizer(folder: Path) -> CLIPTokenizer:
    """The CLIP tokenizer in a folder on this machine.

    Raises:
        UserError: no folder, or no tokenizer in it.
    """
    from transformers import CLIPTokenizer

    if not folder.is_dir():
        raise UserError(f"{folder}: the tokenizer is missing")
    try:
        tokenizer: CLIPTokenizer = CLIPTokenizer.from_pretrained(folder, local_files_only=True)
    except Exception as error:  # the library trusts the files, and fails in as many ways as they can be damaged
        raise UserError(f"{folder}: damaged tokenizer ({type(error).__name__}: {reason(error)})") from None
    return tokenizer
