"""What may leave this machine: texts without secrets, and paths without the folders that they are in."""

from __future__ import annotations

import re
from typing import Any

from ablations.secret_scan import secret_in

_FOLDERS = re.compile(r"(?<![\w.:/@])~?/(?:[^/\s'\"]+/)+")
"""The folders of an absolute path, or of one below a home; not the part of an address behind its ``https:``."""


def shareable(value: Any) -> Any:
    """A plain value as W&B may have it: the same, but for its texts.

    A text in which ``ablations.secret_scan`` sees a key becomes ``(withheld: a W&B key)``. Absolute paths keep only
    their last name, since their folders are names of people and machines: ``/data/someone/sd15`` is ``sd15``.
    """
    if isinstance(value, str):
        secret = secret_in(value.encode())
        return f"(withheld: {secret.rpartition(' on line ')[0]})" if secret else _FOLDERS.sub("", value)
    if isinstance(value, dict):
        return {shareable(name): shareable(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [shareable(item) for item in value]
    return value
