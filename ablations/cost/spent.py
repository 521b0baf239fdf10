"""What the stages of a plan took, and what they would have taken had no cell shared any with another."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ablations.amounts import lasting
from ablations.cost.timings import accounts, seconds_of

if TYPE_CHECKING:
    from ablations.planning.plan import Plan
    from ablations.store.artefacts import Store


@dataclass(frozen=True)
class Spent:
    """Seconds of computing, in one process.

    Attributes:
        once: of every stage as it was done.
        alone: if every cell had done all its stages itself (``Plan.alone``), and computed all its reference errors.
    """

    once: float
    alone: float

    def line(self) -> str:
        """For a person."""
        share = 100 * (1 - self.once / self.alone)
        return (
            f"computing took {lasting(self.once)}; all cells on their own would have taken {lasting(self.alone)}: "
            f"{share:.0f} % saved by sharing"
        )


def spent(plan: Plan, store: Store) -> Spent | None:
    """By the clock of the attempts; None if one of the stages has no record of its time."""
    seconds = seconds_of(store, plan.nodes)
    if len(seconds) < len(plan.nodes):
        return None
    alone = sum(seconds[key] * cells for key, cells in plan.alone.items())
    return Spent(sum(seconds.values()), alone + _spared(plan, store))


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
