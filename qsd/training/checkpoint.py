"""One file that holds all a run needs to continue: adapter, optimiser state, averages, step, lengths of the logs."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from qsd.files import atomic

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from torch import Tensor

FILE = "checkpoint.safetensors"


@dataclass(frozen=True)
class Checkpoint:
    """State after ``step`` optimiser steps, and how long the files of metrics were then."""

    step: int
    metrics_bytes: int
    tensors: Mapping[str, Tensor]
    validation_bytes: int = 0


def save(folder: Path, checkpoint: Checkpoint) -> None:
    """Replace the checkpoint in one step: after a kill there is the old or the new one, never half of one."""
    from safetensors.torch import save_file

    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in checkpoint.tensors.items()}
    numbers = {name: str(getattr(checkpoint, name)) for name in ("step", "metrics_bytes", "validation_bytes")}
    with atomic(folder / FILE) as temporary:
        save_file(tensors, temporary, numbers)


def load(folder: Path) -> Checkpoint | None:
    """The last checkpoint, or None when there is none; a damaged one counts as none, so that the run starts again."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(folder / FILE, framework="pt") as stored:
            metadata = stored.metadata()
            tensors = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118  (no mapping)
    except (FileNotFoundError, SafetensorError):
        return None
    numbers = {name: int(metadata.get(name, 0)) for name in ("step", "metrics_bytes", "validation_bytes")}
    return Checkpoint(tensors=tensors, **numbers)


class Clock:
    """Says when the next checkpoint is due: after so many steps, or so many seconds."""

    def __init__(self, steps: int, seconds: float) -> None:
        self._steps = steps
        self._seconds = seconds
        self._last = time.monotonic()

    def due(self, done: int) -> bool:
        """True when one is due after ``done`` steps; asks no twice."""
        now = time.monotonic()
        if done % self._steps and now - self._last < self._seconds:
            return False
        self._last = now
        return True
