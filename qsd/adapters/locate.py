"""Which file of a folder is the LoRA adapter: this project's, or one that a user has brought. Loads no torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from qsd.errors import UserError

FILE = "pytorch_lora_weights.safetensors"
"""Name of an adapter's weights in diffusers' layout."""
KOHYA_FILE = "kohya.safetensors"
"""Name under which this project writes the same adapter once more, in kohya's layout."""
PEFT_FILE = "adapter_model.safetensors"
PEFT_CONFIG = "adapter_config.json"
_PICKLES = (".bin", ".pt", ".pth", ".ckpt")


@dataclass(frozen=True)
class AdapterFiles:
    """The files of an adapter.

    Attributes:
        weights: safetensors.
        config: PEFT's settings, where the weights are PEFT's.
    """

    weights: Path
    config: Path | None = None


def find_adapter(folder: Path) -> AdapterFiles:
    """The adapter in a folder: diffusers' file, PEFT's with its settings, or the only safetensors file there.

    Args:
        folder: of an adapter, or an artefact of stage train with the folder ``adapter`` in it.

    Raises:
        UserError: no adapter, several, or only files that are no safetensors.
    """
    inner = folder / "adapter"
    place = inner if inner.is_dir() else folder
    names = _names(place)
    weights = [name for name in names if name.endswith(".safetensors") and name != KOHYA_FILE]
    if place == inner:
        weights += [f"../{name}" for name in _names(folder) if name.endswith(".safetensors")]
    if len(weights) > 1:
        raise UserError(f"{place}: several adapters ({', '.join(weights)}); leave the one that is meant")
    if weights or KOHYA_FILE in names:
        # PEFT's settings also count beside a renamed file: its scale is nowhere else.
        config = place / PEFT_CONFIG if PEFT_CONFIG in names else None
        return AdapterFiles(place / (weights[0] if weights else KOHYA_FILE), config)
    others = [name for name in names if name.endswith(_PICKLES)]
    if others:
        raise UserError(
            f"{place}: no adapter in safetensors; {', '.join(others)} can run code when it is read: save its tensors "
            f"as {FILE}"
        )
    raise UserError(
        f"{place / FILE}: the adapter is missing; run the train stage again, or give a folder with {FILE}, "
        f"{PEFT_FILE} and {PEFT_CONFIG}, or one kohya file (*.safetensors)"
    )


def _names(folder: Path) -> list[str]:
    """The names of the files in a folder; those that are hidden, such as a Mac's ``._name``, are passed over."""
    if not folder.is_dir():
        return []
    return sorted(path.name for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))
