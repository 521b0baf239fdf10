"""How long a plan takes on a number of slots: the runner's own schedule, played through with estimated times."""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING

from ablations.running.schedule import Schedule

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from ablations.grid.keys import StageNode


def makespan(nodes: Mapping[str, StageNode], done: Iterable[str], seconds: Mapping[str, float], slots: int) -> float:
    """Seconds until the last stage ends.

    Args:
        nodes: unique stages by key, inputs before their users.
        done: keys of stages that need not run.
        seconds: estimated time of every other stage.
        slots: stages at a time, at least 1.
    """
    schedule = Schedule(nodes, done)
    running: list[tuple[float, str]] = []
    now = 0.0
    while True:
        while len(running) < slots and (node := schedule.next()) is not None:
            heapq.heappush(running, (now + seconds[node.key], node.key))
        if not running:
            return now
        now, key = heapq.heappop(running)
        schedule.finished(key)
