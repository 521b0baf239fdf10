"""What every scorer's folder has in common: a config.json and safetensors weights."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from qsd.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from torch import Tensor, nn


def read_config(folder: Path, required: tuple[str, ...]) -> dict[str, Any]:
    """``folder/config.json`` as a dictionary.

    Raises:
        UserError: the file is missing, not JSON, or lacks one of the ``required`` keys.
    """
    path = folder / "config.json"
    if not path.is_file():
        raise UserError(f"{path}: no such file; a scorer's folder has config.json and its weights")
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{path}: not valid JSON: {error}") from None
    missing = [key for key in required if not isinstance(config, dict) or key not in config]
    if missing:
        raise UserError(f"{path}: {', '.join(missing)} missing")
    return dict(config)


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
        UserError: the file is missing or damaged.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if not path.is_file():
        raise UserError(f"{path}: the scorer's weights are missing")
    try:
        state = load_file(path)
    except SafetensorError as error:
        raise UserError(f"{path}: damaged weights ({error})") from None
    return {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in state.items()}


def load_weights(path: Path, model: nn.Module) -> None:
    """Fill ``model`` from a safetensors file; every tensor of the model must be there, and no other.

    Raises:
        UserError: missing file, missing or surplus tensors, or wrong shapes.
    """
    try:
        model.load_state_dict(read_weights(path), strict=True)
    except RuntimeError as error:
        first = str(error).split("\n")[1].strip() if "\n" in str(error) else str(error)
        raise UserError(f"{path}: the weights do not fit config.json: {first}") from None
