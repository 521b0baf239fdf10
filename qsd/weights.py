"""What every file of weights must hold: complete, of the right names and shapes, and only finite numbers.

The one place where base models, adapters and reward models are checked. A model that lacks a tensor would otherwise get
a random one, and one with a NaN would draw black images, both without an error. The functions on headers load no torch.
"""

from __future__ import annotations

import json
import math
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

from qsd.errors import UserError, reason
from qsd.printable import printable
from qsd.regular_files import check_regular

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable
    from pathlib import Path

    from torch import Tensor

_LONGEST_HEADER = 100_000_000
"""Bytes of a header; the format's own limit."""
_BITS = {"BOOL": 8, "C64": 64, "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6}
"""Of the types whose names do not end with their number of bits."""
_FLOATS = frozenset({"F64", "F32", "F16", "BF16", "F8_E4M3", "F8_E4M3FNUZ", "F8_E5M2", "F8_E5M2FNUZ"})
"""Types whose numbers are the weights themselves. What quantised models store besides (F4 in pairs, F8_E8M0 without
signs) means something only with their scales."""
_SHOWN = 3
"""Names of tensors that a message shows."""


@dataclass(frozen=True)
class Header:
    """The header of a safetensors file.

    Attributes:
        shapes: name -> shape of every tensor.
        dtypes: name -> its type by the format's name, such as ``F16``.
        metadata: texts beside them.
    """

    shapes: dict[str, tuple[int, ...]]
    dtypes: dict[str, str]
    metadata: dict[str, str]


def read_header(path: Path) -> Header:
    """The header of a safetensors file, after a check that the file is one, and as long as its header says.

    Raises:
        UserError: missing, unreadable, truncated or damaged; or another kind of file, by name.
    """
    check_regular(path)
    try:
        size = path.stat().st_size
        with path.open("rb") as stream:
            start = stream.read(512)
            if refusal := _other_kind(start):
                raise UserError(f"{path}: {refusal}")
            (length,) = struct.unpack("<Q", start[:8])
            if length > min(size - 8, _LONGEST_HEADER):
                raise UserError(f"{path}: truncated or no safetensors file ({size} bytes); copy or fetch it again")
            stream.seek(8)
            entries = json.loads(stream.read(length))
        metadata = entries.pop("__metadata__", {})
        shapes = {name: tuple(int(side) for side in entry["shape"]) for name, entry in entries.items()}
        dtypes = {name: str(entry["dtype"]) for name, entry in entries.items()}
        end = max((int(entry["data_offsets"][1]) for entry in entries.values()), default=0)
        numbers = {name: math.prod(shape) for name, shape in shapes.items()}
        for name, entry in entries.items():
            begin, stop = entry["data_offsets"]
            if (stop - begin) * 8 < numbers[name] * _bits(dtypes[name]):
                raise ValueError(f"{name} has less data than its shape")
        metadata = {str(name): str(value) for name, value in metadata.items()}
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({reason(error)})") from None
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError, struct.error) as error:
        raise UserError(f"{path}: damaged header ({reason(error)}); copy or fetch the file again") from None
    if size != 8 + length + end:
        what = "truncated" if size < 8 + length + end else "damaged"
        raise UserError(f"{path}: {what}: {size} bytes, its header says {8 + length + end}; copy or fetch it again")
    return Header(shapes, dtypes, metadata)


def check_types(file: Path, header: Header, but_for: tuple[str, ...] = ()) -> None:
    """Refuse weights that are not plain floating-point numbers: of a quantised model, or of a damaged one.

    Args:
        file: for the message.
        header: of the file.
        but_for: endings of names of tensors that may be anything.

    Raises:
        UserError: with the names of the tensors.
    """
    wrong = [
        name for name, dtype in header.dtypes.items() if dtype not in _FLOATS and not name.endswith(but_for or ("\0",))
    ]
    if wrong:
        kinds = ", ".join(sorted({header.dtypes[name] for name in wrong}))
        raise UserError(
            f"{file}: {len(wrong)} tensors are {kinds} instead of plain floating point ({listed(wrong)}); save the "
            "weights as F32, F16 or BF16"
        )


def check_names(
    place: str, missing: Collection[str], unexpected: Collection[str], misshapen: Collection[str] = ()
) -> None:
    """Refuse weights that a model does not take as they are.

    Args:
        place: the file or part, for the message.
        missing: names of tensors that the model has and the file lacks.
        unexpected: names of tensors in the file that the model does not have.
        misshapen: names, each with its two shapes.

    Raises:
        UserError: any of them is not empty.
    """
    kinds = {"missing": missing, "unexpected": unexpected, "of another shape": misshapen}
    parts = [f"{len(names)} tensors {kind} ({listed(names)})" for kind, names in kinds.items() if names]
    if parts:
        raise UserError(f"{place}: {', '.join(parts)}; incomplete, or of another model: fetch the weights again")


def check_finite(place: str, tensors: Iterable[tuple[str, Tensor]]) -> None:
    """Refuse weights with NaN or infinite numbers.

    Args:
        place: the file or part, for the message.
        tensors: names and tensors; those of whole numbers are passed over.

    Raises:
        UserError: with the names of the tensors.
    """
    damaged = [name for name, tensor in tensors if tensor.is_floating_point() and not _finite(tensor)]
    if damaged:
        raise UserError(
            f"{place}: {len(damaged)} tensors have NaN or infinite numbers ({listed(damaged)}); fetch it again, "
            "or, if it was saved so, train or convert it again"
        )


def listed(names: Collection[str]) -> str:
    """The first names in order, and how many more there are."""
    shown = [printable(name) for name in sorted(names)[:_SHOWN]]
    more = len(names) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more else "")


def _finite(tensor: Tensor) -> bool:
    import torch

    if tensor.numel() == 0 or tensor.is_meta:
        return True
    # The smallest and the largest number are found in one pass without a copy, and a NaN is returned as either.
    wide = tensor.detach() if tensor.dtype.itemsize > 1 else tensor.detach().float()
    low, high = torch.aminmax(wide)
    return math.isfinite(float(low)) and math.isfinite(float(high))


def _bits(dtype: str) -> int:
    """Bits of one number of a type such as F32, BF16 or F8_E4M3."""
    if dtype in _BITS:
        return _BITS[dtype]
    digits = dtype.partition("_")[0].lstrip("ABCDEFGHIJKLMNOPQRSTUVWXYZ")
    return int(digits)


def _other_kind(start: bytes) -> str | None:
    """What a file is that begins with these bytes, if it is a known kind of mistake."""
    if not start:
        return "empty; copy or fetch it again"
    if start.startswith(b"version https://git-lfs"):
        return "a git-lfs pointer, not the file itself; run `git lfs pull` in its repository, or fetch it again"
    if start.startswith((b"PK\x03\x04", b"\x80\x02", b"\x80\x03", b"\x80\x04")):
        return "a torch checkpoint under the name of a safetensors file; save its tensors as safetensors"
    if start.lstrip()[:9].lower().startswith((b"<!doctype", b"<html")):
        return "a web page, not weights; the download was redirected: fetch it again"
    if len(start) < 8:
        return f"{len(start)} bytes: truncated; copy or fetch it again"
    return None
