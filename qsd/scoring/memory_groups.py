"""Which reward models fit into memory at the same time."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from qsd.scoring import host_memory

if TYPE_CHECKING:
    from collections.abc import Sequence

    from qsd.scoring.scorer_runs import ScorerRun

SHARE = 0.7
"""Of the free memory, for weights; the rest is for activations and images."""
_GROWTH = 2
"""Bytes in memory per byte on disk: files may be fp16, and fp32 ones leave some room."""


def group_by_memory(columns: Sequence[ScorerRun], device: str) -> list[list[ScorerRun]]:
    """Columns in groups whose models may be loaded at once: the fewest that filling one after the other gives.

    A model that does not fit on its own still gets its group: whether it truly fails is for its loading to say.
    """
    room = SHARE * free_bytes(device)
    groups: list[list[ScorerRun]] = []
    used = 0.0
    counted: set[tuple[str, str]] = set()
    for column in sorted(columns, key=lambda column: (column.name, column.weights)):
        model = column.name, column.weights
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
        import torch

        return int(torch.cuda.mem_get_info(device)[0])
    return host_memory.free_bytes()


def _bytes_on_disk(column: ScorerRun) -> int:
    from qsd.rewards.scorers import REGISTRY

    folders = [Path(column.weights) / folder for folder in REGISTRY.get(column.name).folders]
    return sum(file.stat().st_size for folder in folders for file in folder.rglob("*") if file.is_file())
