"""JSON files of a run store; how they are written and read is in ``qsd.files``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qsd.files import create_bytes, json_bytes, numbered, read_json, write_bytes

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["create_json", "numbered", "read_json", "write_json"]

_INDENT = 1
"""A store holds tens of thousands of these files. Records of equal stages are equal bytes, so it must not change."""


def write_json(path: Path, value: Any) -> None:
    """Replace the file at ``path`` by ``value`` as JSON in one step; its folder is made if missing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(path, json_bytes(value, _INDENT))


def create_json(path: Path, value: Any) -> bool:
    """Create the file at ``path``, and its folder if missing; False if another process was quicker."""
    path.parent.mkdir(parents=True, exist_ok=True)
    return create_bytes(path, json_bytes(value, _INDENT))
