"""What the stages of a plan took, and what they would have taken had no cell shared any with another."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from statistics import mean
from typing import TYPE_CHECKING

from ablations.cost.timings import accounts, seconds_of, warm_starts
from ablations.formatting import format_duration

if TYPE_CHECKING:
    from ablations.planning.plan import Plan
    from ablations.store.artefacts import Store


@dataclass(frozen=True)
class Spent:
    """Seconds of computing, in one process.

    Attributes:
        once: of every stage as it was done, and of starting the warm processes that ran some.
        alone: if every cell had done all its stages itself (``Plan.alone``), after a start of its own, and computed all
            its reference errors.
    """

    once: float
    alone: float

    def line(self) -> str:
        """For a person."""
        share = 100 * max(0.0, 1 - self.once / self.alone)  # several launches may have cost more than sharing saved
        return (
            f"computing took {format_duration(self.once)}; all cells on their own would have taken "
            f"{format_duration(self.alone)}: {share:.0f} % saved by sharing"
        )


def spent(plan: Plan, store: Store) -> Spent | None:
    """By the clock of the attempts; None if one of the stages has no record of its time."""
    seconds = seconds_of(store, plan.nodes)
    if len(seconds) < len(plan.nodes):
        return None
    alone = sum(seconds[key] * cells for key, cells in plan.alone.items())
    started, starts = _starts(plan, store)
    return Spent(sum(seconds.values()) + started, alone + _spared(plan, store) + starts)


def _starts(plan: Plan, store: Store) -> tuple[float, float]:
    """Seconds of starting warm processes: as it was done, and with one for every cell that ran under one."""
    of_stages = warm_starts(store, plan.nodes)
    processes = {process: seconds for each in of_stages.values() for process, seconds in each.items()}
    if not processes:
        return 0.0, 0.0
    cells = sum(any(node.key in of_stages for node in cell.stages.values()) for cell in plan.trained)
    return sum(processes.values()), cells * mean(processes.values())


def _spared(plan: Plan, store: Store) -> float:
    """Seconds of computing reference errors that trainings found, as others of the plan computed them.

    Those of circumstances in which none of the plan computed any count as nothing.
    """
    found: Counter[str] = Counter()
    computed: Counter[str] = Counter()
    seconds: Counter[str] = Counter()
    for key, cells in plan.alone.items():
        for account in accounts(store, plan.nodes[key]):
            folder = account["folder"]
            found[folder] += account["found"] * cells
            computed[folder] += account["computed"]
            seconds[folder] += account["seconds"]
    return sum(pairs * seconds[folder] / computed[folder] for folder, pairs in found.items() if computed[folder])
