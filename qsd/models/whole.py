"""Whether a model's folder has all tensors of its networks, by name and shape, without reading one.

A stage that loads a part finds the same with the same message, but only after the stages before it: here nothing of the
weights but their headers is read, and the networks are built without memory (PyTorch's ``meta`` device).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from qsd.models.families import INDEX
from qsd.models.folder_checks import CONSTANTS, read_object
from qsd.weights import check_names, read_header

_STEM = "diffusion_pytorch_model"
_INDICES = (f"{_STEM}.safetensors.index.json", f"{_STEM}.safetensors.index.fp16.json")
_FILES = (f"{_STEM}.safetensors", f"{_STEM}.fp16.safetensors")
"""Names of diffusers' files, those first that are read where there are several."""


def check_whole(path: str) -> None:
    """Check a model's folder (``folder_checks.check_model``) and compare all of its weights with its networks.

    Loads torch and the libraries, which takes seconds. Nothing is checked of a hub name, or where there is no folder.

    Raises:
        UserError: tensors that are missing, unexpected or of another shape, or a folder that cannot be loaded.
    """
    if not (Path(path) / INDEX).is_file():
        return
    import transformers

    from qsd.models.source import family_of, load_part, load_weights

    family = family_of(path)
    for text in family.texts:
        encoder: Any = getattr(transformers, text.encoder_class)
        load_weights(encoder.from_pretrained, path, text.encoder, device_map="meta", ignore_mismatched_sizes=True)
    for folder, kind in ((family.network, family.network_class()), ("vae", family.vae_class())):
        load_part(_compare, path, kind=kind, subfolder=folder)


def _compare(path: str, kind: Any, subfolder: str, **_options: Any) -> None:
    """Compare a part that diffusers loads with its headers; called as a ``from_pretrained`` is."""
    import torch

    with torch.device("meta"):
        network = kind.from_config(kind.load_config(path, subfolder=subfolder, local_files_only=True))
    stored = _stored_shapes(Path(path) / subfolder)
    if not stored:  # files under other names: loading says so
        return
    # diffusers renames tensors of files from before 2023; it does so with names alone.
    network._fix_state_dict_keys_on_load(stored)
    wanted = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    misshapen = [
        f"{name} {list(stored[name])} instead of {list(shape)}"
        for name, shape in wanted.items()
        if name in stored and stored[name] != shape
    ]
    unexpected = [name for name in stored.keys() - wanted.keys() if not name.endswith(CONSTANTS)]
    check_names(f"model.path {path}: {subfolder}", wanted.keys() - stored.keys(), unexpected, misshapen)


def _stored_shapes(folder: Path) -> dict[str, tuple[int, ...]]:
    """Name -> shape of every tensor in the files that diffusers reads in a folder; empty if there are none."""
    for plain, index in zip(_FILES, _INDICES, strict=True):
        names = [plain]
        if (folder / index).is_file():
            names = sorted(set(read_object(folder / index)["weight_map"].values()))
        elif not (folder / plain).is_file():
            continue
        return {name: shape for file in names for name, shape in read_header(folder / file).shapes.items()}
    return {}
