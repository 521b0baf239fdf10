"""Published checkpoints: reading their tensors without running their code, and filling models without waiting.

A published model has up to a billion numbers. Drawing them at random first, as a module does when it is made, takes
longer than reading the file, so models are made without memory (torch's meta device) and given the file's tensors.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from qsd.errors import UserError, reason
from qsd.rewards.folder import COUNTS, read_weights
from qsd.weights import check_finite, listed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

    from torch import Tensor, nn

    Module = TypeVar("Module", bound=nn.Module)


def read_checkpoint(path: Path) -> dict[str, Tensor]:
    """Tensors of a ``.safetensors`` file or of a torch checkpoint, floating point ones as fp32.

    A torch checkpoint is a dictionary of tensors, or one that has them under ``state_dict``. It is a pickle, which can
    run any code when it is read: only torch's reader for plain tensors is used.

    Raises:
        UserError: the file is damaged, has anything but tensors and plain values, or numbers that are not finite.
    """
    if path.suffix == ".safetensors":
        return read_weights(path)
    import torch

    try:
        found = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:  # a damaged pickle fails in any way
        raise UserError(f"{path}: not a checkpoint of tensors ({reason(error)}); fetch it again") from None
    state = found.get("state_dict", found) if isinstance(found, dict) else found
    if not isinstance(state, dict) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise UserError(f"{path}: not a checkpoint of tensors; is it the file that was published?")
    whole = [name for name, tensor in state.items() if not tensor.is_floating_point() and not name.endswith(COUNTS)]
    if whole:
        raise UserError(f"{path}: {len(whole)} tensors are no floating point numbers ({listed(whole)})")
    check_finite(str(path), state.items())
    return {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in state.items()}


def first_of(folder: Path, names: Iterable[str]) -> Path:
    """The first of the files ``names`` that is in ``folder``.

    Raises:
        UserError: none is there.
    """
    wanted = list(names)
    for name in wanted:
        if (folder / name).is_file():
            return folder / name
    raise UserError(f"{folder}: has no {' or '.join(wanted)}; `qsd fetch` gets the published weights")


def filled(make: Callable[[], Module], state: Mapping[str, Tensor], path: Path) -> Module:
    """The model that ``make`` makes, with the tensors of ``state``: every one that it has, and no other.

    Raises:
        UserError: missing or surplus tensors, or wrong shapes.
    """
    import torch

    with torch.device("meta"):
        model = make()
    wanted, given = model.state_dict(), dict(state)
    missing, surplus = sorted(wanted.keys() - given), sorted(given.keys() - wanted)
    if missing or surplus:
        first = f"{missing[0]} is missing" if missing else f"{surplus[0]} is not known"
        raise UserError(
            f"{path}: not the published layout: {first} ({len(missing)} of {len(wanted)} tensors missing, "
            f"{len(surplus)} unknown)"
        )
    for name, tensor in given.items():
        if tensor.shape != wanted[name].shape:
            raise UserError(
                f"{path}: {name} has the shape {tuple(tensor.shape)}, the published one is {tuple(wanted[name].shape)}"
            )
    model.load_state_dict(given, strict=True, assign=True)
    return model
