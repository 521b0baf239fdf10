"""Digests: of content behind paths, and of meanings."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any

from qsd.config.file_digest import file_digest
from qsd.config.near_paths import suggest_path
from qsd.config.once_per_process import OncePerProcess
from qsd.errors import UserError

HUB = "hub:"
"""How a hub name is marked in a key."""
_HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+(@[\w.-]+)?")

_ENCODER = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def canonical_json(value: Any) -> str:
    """JSON with sorted keys and no spaces: equal values give equal text."""
    return _ENCODER.encode(value)


def hash_of(value: Any) -> str:
    """The first 32 hex digits (128 bits) of the SHA-256 of ``value`` as canonical JSON."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()[:32]


@OncePerProcess
def digest(path: Path) -> str:
    """Digest of a file's bytes, or of a folder's relative names and bytes; read once per process.

    Every byte counts. Of files above 256 MB the digest is remembered until they change (``qsd.config.file_digest``).

    Raises:
        UserError: there is nothing at ``path``.
    """
    if path.is_file():
        return file_digest(path)
    if not path.is_dir():
        raise UserError(f"{path}: no such file or folder{suggest_path(path)}")
    total = hashlib.sha256()
    for file in sorted(path.rglob("*")):
        relative = file.relative_to(path)
        if file.is_file() and not any(part.startswith(".") for part in relative.parts):
            total.update(f"{relative.as_posix()}\0{file_digest(file)}\n".encode())
    return total.hexdigest()[:32]


def location_digest(path: str) -> str:
    """What a location contributes to a key: a digest of local content, or ``hub:name@revision`` for a hub name."""
    return f"{HUB}{path}" if is_hub_name(path) else digest(Path(path))


def is_hub_name(path: str) -> bool:
    """True for ``owner/name`` or ``owner/name@revision``, unless something, or its folder, is there on this machine."""
    local = Path(path)
    return not local.exists() and _HUB_NAME.fullmatch(path) is not None and not local.parent.exists()


def may_change(path: str) -> bool:
    """True for a hub name that stands for other content tomorrow: without ``@revision``, or with that of a branch."""
    return is_hub_name(path) and path.partition("@")[2] in ("", "main")


def hub_note(field: str, path: str) -> str:
    """What to tell about a hub name that may change."""
    return (
        f"{field}: {path} names no fixed revision, so results keep their keys when the hub's files change; "
        f"write {path.partition('@')[0]}@COMMIT, with the commit that its page on the hub shows"
    )
