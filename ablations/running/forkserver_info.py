"""The warm process that an attempt was forked from, and what its start took: paid once a launch, not once a stage."""

from __future__ import annotations

from typing import Any

from ablations.store.owner import Owner

_parent: dict[str, Any] | None = None


def set_forkserver(seconds: float) -> None:
    """Said by the warm process of itself, before it forks: it has imported the libraries in so many seconds."""
    global _parent
    _parent = {"owner": Owner.here().fields(), "seconds": round(seconds, 3)}


def get_forkserver() -> dict[str, Any] | None:
    """{"owner": fields of ``Owner``, "seconds"} of the warm process; None for a process that started by itself."""
    return _parent
