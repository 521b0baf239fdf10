"""Which reward models fit into memory at the same time."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from qsd.rewards.scorers import REGISTRY
from qsd.scoring import host_memory
from qsd.scoring.scorer_runs import ScorerRun

SHARE = 0.7
"""Of the free memory, for weights; the rest is for activations and images."""
_GROWTH = 2
"""Bytes in memory per byte on disk: files may be fp16, and fp32 ones leave some room."""


def group_by_memory(columns: Sequence[ScorerRun], device: str) -> list[list[ScorerRun]]:
    """Columns in groups whose models may be loaded at once, filled one group after the other.

    A model that does not fit on its own still gets a group: the estimate is rough, and loading it may succeed.
    """
    room = SHARE * free_bytes(device)
    groups: list[list[ScorerRun]] = []
    used = 0.0
    counted: set[tuple[str, str]] = set()
    for column in sorted(columns, key=lambda column: (column.name, column.weights)):
        model = column.name, column.weights
        # Columns that differ in precision or preprocessing share one model in memory.
        need = 0 if model in counted else _GROWTH * _bytes_on_disk(column)
        if not groups or (need and used + need > room):
            groups.append([])
            used = 0.0
        counted.add(model)
        groups[-1].append(column)
        used += need
    return groups


def free_bytes(device: str) -> int:
    """Memory that this process may still take on a torch device."""
    if device.startswith("cuda"):
        return int(torch.cuda.mem_get_info(device)[0])
    return host_memory.free_bytes()


def _bytes_on_disk(column: ScorerRun) -> int:
    folders = [Path(column.weights) / folder for folder in REGISTRY.get(column.name).folders]
    return sum(file.stat().st_size for folder in folders for file in folder.rglob("*") if file.is_file())
