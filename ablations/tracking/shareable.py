"""What may leave this machine: texts without secrets, and paths without the folders that they are in."""

from __future__ import annotations

import html
import re
from typing import TYPE_CHECKING, Any

from ablations.secret_scan import secret_in

if TYPE_CHECKING:
    from collections.abc import Iterable

_BEFORE = r"(?:(?<=file://)|(?<![\w./@+]))"
_FOLDERS = re.compile(_BEFORE + r"(?:~(?:[A-Za-z_][\w.-]*)?)?/(?:[^/\s'\"]+/)+")
"""The folders of an absolute path, or of one below a home; not the part of an address behind its ``https:``."""


def shareable(value: Any) -> Any:
    """A plain value as W&B may have it: the same, but for its texts.

    A text in which ``ablations.secret_scan`` sees a key becomes ``(withheld: a W&B key)``. Absolute paths keep only
    their last name, since their folders are names of people and machines: ``/srv/a/models/sd15`` is ``sd15``.
    """
    if isinstance(value, str):
        secret = secret_in(value.encode())
        return f"(withheld: {secret.rpartition(' on line ')[0]})" if secret else _FOLDERS.sub("", value)
    if isinstance(value, dict):
        return {shareable(name): shareable(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [shareable(item) for item in value]
    return value


def folders_in(value: Any) -> set[str]:
    """The folders that :func:`shareable` would take off the paths in a plain value."""
    if isinstance(value, str):
        return set(_FOLDERS.findall(value))
    if isinstance(value, dict):
        return {folder for pair in value.items() for part in pair for folder in folders_in(part)}
    if isinstance(value, list | tuple):
        return {folder for item in value for folder in folders_in(item)}
    return set()


def without_folders(content: bytes, folders: Iterable[str]) -> bytes:
    """A file in which the paths that begin with one of ``folders`` keep only their last name.

    Only known folders are looked for: in a page, pictures and closing tags look like paths.
    """
    written = {form for folder in folders for form in (folder, html.escape(folder))}
    if not written:
        return content
    longest_first = "|".join(re.escape(form) for form in sorted(written, key=len, reverse=True))
    return re.sub(f"{_BEFORE}(?:{longest_first})".encode(), b"", content)
