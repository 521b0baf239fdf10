"""What a file is that should be a checkpoint of torch, by its first bytes: since 1.6 ``torch.save`` writes zips."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qsd.errors import UserError
from qsd.regular_files import check_regular

if TYPE_CHECKING:
    from pathlib import Path

_ENDINGS = (".bin", ".pt", ".pth")
_ZIP = b"PK\x03\x04"
_PICKLE = b"\x80"
_POINTER = b"version https://git-lfs"


def check_torch_file(path: Path) -> None:
    """Check that a checkpoint is a zip archive, if its name is that of a torch checkpoint; reads a few bytes.

    Raises:
        UserError: it is something else, with what it is and the remedy.
    """
    if path.suffix not in _ENDINGS:
        return
    check_regular(path)
    with path.open("rb") as stream:
        begin = stream.read(len(_POINTER))
    if begin.startswith(_ZIP):
        return
    if begin == _POINTER:
        raise UserError(f"{path}: a git-lfs pointer, not the weights; run 'git lfs pull' there, or fetch the file")
    if begin.startswith(_PICKLE):
        raise UserError(
            f"{path}: no zip archive but a bare pickle, as torch wrote before version 1.6; save it again: python -c "
            f"\"import torch; torch.save(torch.load('{path}', 'cpu', weights_only=True), '{path}')\""
        )
    raise UserError(
        f"{path}: no zip archive, which torch.save writes, and no torch file of another kind; fetch it again"
    )
