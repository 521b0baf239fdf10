"""Where runs go: the host of W&B, and whether there is a login for it. No key is ever returned."""

from __future__ import annotations

import netrc
import os
from pathlib import Path
from urllib.parse import urlparse


def host() -> str:
    """The host of W&B: that of ``WANDB_BASE_URL``, else ``api.wandb.ai``."""
    return urlparse(os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")).hostname or ""


def has_login() -> bool:
    """True if there is a key for :func:`host`, in the environment or stored by ``wandb login``."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    path = Path(os.environ.get("NETRC") or Path.home() / ".netrc")
    try:
        return netrc.netrc(str(path)).authenticators(host()) is not None
    except (OSError, netrc.NetrcParseError):
        return False


def place_of(project: str, entity: str | None) -> str:
    """``host/entity/project``, as cursors record where a run was uploaded to."""
    return f"{host()}/{entity or '(own account)'}/{project}"
