"""Errors on disk: a folder of small files that are only ever added.

A file holds up to some thousand entries, sorted: a fingerprint of 128 bits, two fp32 errors. It is named after the
digest of its bytes, written under another name and renamed, so that any number of processes may add at once: two that
add the same entries write the same file. It is read through a memory map. One whose bytes do not give its name is
damaged: it is removed, and what was in it is computed again.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import numpy.typing as npt

from qsd.files import write_bytes

_ENTRY = np.dtype([("high", "<u8"), ("low", "<u8"), ("winner", "<f4"), ("loser", "<f4")])
_ENDING = ".errors"


class ErrorStore:
    """Reference errors by fingerprint (``identity.fingerprints``).

    Args:
        folder: of one environment (``identity.folder_name``); made when it is not there.

    Attributes:
        damaged: files that were removed since this object was made.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.damaged = 0
        folder.mkdir(parents=True, exist_ok=True)
        self._files: dict[str, npt.NDArray[np.void]] = {}
        self.refresh()

    def __len__(self) -> int:
        """Entries, counted as often as they were added."""
        return sum(len(entries) for entries in self._files.values())

    def refresh(self) -> None:
        """Read the files that others have added meanwhile."""
        for path in sorted(self.folder.glob(f"*{_ENDING}")):
            if path.name not in self._files:
                entries = _read(path)
                if entries is None:
                    path.unlink(missing_ok=True)
                    self.damaged += 1
                else:
                    self._files[path.name] = entries

    def find(self, fingerprints: npt.NDArray[np.uint64]) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.float32]]:
        """Which of N fingerprints [N, 2] are stored, [N], and their errors (winner, loser), [N, 2]; else zeros."""
        stored = np.zeros(len(fingerprints), dtype=np.bool_)
        errors = np.zeros((len(fingerprints), 2), dtype=np.float32)
        for entries in self._files.values():
            places = np.minimum(np.searchsorted(entries["high"], fingerprints[:, 0]), len(entries) - 1)
            nearest = entries[places]
            hit = (nearest["high"] == fingerprints[:, 0]) & (nearest["low"] == fingerprints[:, 1])
            errors[hit, 0], errors[hit, 1] = nearest["winner"][hit], nearest["loser"][hit]
            stored |= hit
        return stored, errors

    def add(self, fingerprints: npt.NDArray[np.uint64], errors: npt.NDArray[np.float32]) -> None:
        """Keep N ≥ 1 errors [N, 2] under their fingerprints [N, 2]."""
        entries = np.empty(len(fingerprints), dtype=_ENTRY)
        entries["high"], entries["low"] = fingerprints[:, 0], fingerprints[:, 1]
        entries["winner"], entries["loser"] = errors[:, 0], errors[:, 1]
        content = np.sort(entries, order=["high", "low"]).tobytes()
        path = self.folder / f"{_digest(content)}{_ENDING}"
        write_bytes(path, content)
        self._files[path.name] = _mapped(path)


def _read(path: Path) -> npt.NDArray[np.void] | None:
    """The entries of an intact file, else None."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    if not content or len(content) % _ENTRY.itemsize or f"{_digest(content)}{_ENDING}" != path.name:
        return None
    return _mapped(path)


def _mapped(path: Path) -> npt.NDArray[np.void]:
    return np.memmap(path, dtype=_ENTRY, mode="r")


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:32]
