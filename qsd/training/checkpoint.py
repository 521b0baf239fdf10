"""One file with all that a run needs to continue: weights, optimiser state, averages, step, lengths of the logs."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from qsd.files import atomic

FILE = "checkpoint.safetensors"
_NUMBERS = ("step", "metrics_bytes", "validation_bytes")


@dataclass(frozen=True)
class Checkpoint:
    """State after ``step`` optimiser steps, and how long the files of metrics were then. The default is a new run."""

    step: int = 0
    metrics_bytes: int = 0
    tensors: Mapping[str, Tensor] = field(default_factory=dict)
    validation_bytes: int = 0


def save(folder: Path, checkpoint: Checkpoint) -> None:
    """Replace the checkpoint in one step: after a kill there is the old or the new one, never half of one."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in checkpoint.tensors.items()}
    with atomic(folder / FILE) as temporary:
        save_file(tensors, temporary, {name: str(getattr(checkpoint, name)) for name in _NUMBERS})


def load(folder: Path) -> Checkpoint | None:
    """The last checkpoint, or None when there is none; a damaged one counts as none, so that the run starts again."""
    try:
        with safe_open(folder / FILE, framework="pt") as stored:
            metadata = stored.metadata()
            tensors = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118  (no mapping)
    except (FileNotFoundError, SafetensorError):
        return None
    numbers = {name: int(metadata.get(name, 0)) for name in _NUMBERS}
    return Checkpoint(tensors=tensors, **numbers)


class Clock:
    """Says when the next checkpoint is due: after so many steps, or so many seconds."""

    def __init__(self, steps: int, seconds: float) -> None:
        self._steps = steps
        self._seconds = seconds
        self._last = time.monotonic()

    def due(self, done: int) -> bool:
        """True when a checkpoint is due after ``done`` steps; the seconds are then counted from here."""
        now = time.monotonic()
        if done % self._steps and now - self._last < self._seconds:
            return False
        self._last = now
        return True
