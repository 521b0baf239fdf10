"""How long a cell computed, from the records of its attempts: what W&B shows as the run's time."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from ablations.store.attempts import origin, outcome
from ablations.store.attempts import seconds as seconds_of

if TYPE_CHECKING:
    from collections.abc import Container, Mapping
    from pathlib import Path

    from qsd.run_store import RunStore


@dataclass(frozen=True)
class Times:
    """When a cell was computed, and how long.

    Attributes:
        start: of the first attempt at a stage that only this cell has, in seconds since 1970; None without a record.
        stages: stage -> seconds of all attempts that have ended, in full also where cells share the stage.
        own: seconds of the stages that no other cell of the sweep needs, so that sums over cells count nothing twice.
    """

    start: float | None
    stages: Mapping[str, float]
    own: float

    def summary(self) -> dict[str, float]:
        """``time/train_seconds`` and so on, ``time/own_seconds``, and ``time/all_seconds``; empty without a record."""
        if not self.stages:
            return {}
        each = {f"time/{stage}_seconds": seconds for stage, seconds in self.stages.items()}
        return each | {"time/own_seconds": self.own, "time/all_seconds": round(sum(self.stages.values()), 3)}


NO_TIMES = Times(None, {}, 0.0)


def cell_times(store: RunStore, stages: Mapping[str, str], shared: Container[str]) -> Times:
    """The times of one cell.

    Args:
        store: where the attempts are.
        stages: stage -> key of the cell's stages.
        shared: keys that other cells need, too.
    """
    seconds: dict[str, float] = {}
    starts: list[float] = []
    for stage, key in stages.items():
        attempts = store.attempt_folders(stage, key)
        # The newest may still run, and would be counted again at every upload.
        spent = sum(seconds_of(folder) for folder in attempts if folder != attempts[-1] or outcome(folder) is not None)
        if spent:
            seconds[stage] = round(spent, 3)
        if key not in shared:
            starts += [start for folder in attempts if (start := _start(folder)) is not None]
    own = round(sum(value for stage, value in seconds.items() if stages[stage] not in shared), 3)
    return Times(min(starts, default=None), seconds, own)


def _start(attempt: Path) -> float | None:
    try:
        return datetime.fromisoformat(origin(attempt)["start"]).timestamp()
    except (KeyError, TypeError, ValueError):
        return None
